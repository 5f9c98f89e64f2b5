//! The control plane as a process: wires sources → world → compile → stream, issues certificates,
//! rotates the root, answers questions about itself.
//!
//! Decides nothing about the mesh: what objects mean is compile's business, who sees what is
//! `weft-xds`'s, what a certificate is `weft-certs`'s.
//!
//! - [`settings`]: command line → [`settings::Run`].
//! - [`ControlPlane`]: everything together, from settings to shutdown.
//! - `source`: folders or a cluster, as one.
//! - `mesh`: batches of changes → compiler → stream server; epochs of objects, findings.
//! - `authority`, `own_identity`, `root_rotation`: the CA and what is to be done about it in time.
//! - `certificates`: the gRPC service that issues.
//! - `tls_listener`: TCP → TLS 1.3 → connections of which it is known who they are.
//! - `admin`: HTTP and JSON for people and the CLI; `health`: for the cluster.
//! - [`kubernetes`]: what only a cluster has: leadership, the CA's Secret, trust anchors in every
//!   namespace, token reviews, the status of objects, the admission webhook.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod authority;
mod certificates;
mod coalescer;
mod control_plane;
mod findings;
mod health;
pub mod kubernetes;
mod mesh;
mod own_identity;
mod root_rotation;
pub mod settings;
mod source;
mod state_directory;
mod tls_listener;

#[cfg(test)]
mod tests;

pub use control_plane::ControlPlane;
