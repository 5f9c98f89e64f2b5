//! One machine as a cluster: pods as network namespaces on a bridge, with Deployments, probes,
//! Service addresses, DNS, and a sidecar where the mesh is on. `weft up` and the end-to-end tests
//! are built on it.
//!
//! Owns: namespaces, processes, addresses, names, what a cluster's controllers would write. Does not
//! own: what the YAML means to the mesh (the control plane reads the same folder itself) nor what
//! happens to traffic (the proxies).
//!
//! ```text
//!  host      Mesh ── unshare ──► init (PID 1) ──► supervisor ──► control plane
//!            Client ─ Unix socket ─────────────────┘   │
//!                                                      ├─► unshare ─► pause ◄─ nsenter ─ proxy
//!            folder ─ weft-source ─► workload::Desired ┘                    ◄─ nsenter ─ application
//! ```
//!
//! Everything inside lives in one set of namespaces whose PID 1 ends with its owner; nothing is
//! left on the host, not even after SIGKILL, but files in the run directory.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod client;
mod http;
pub mod info;
mod init;
pub mod leak;
mod mesh;
mod network;
mod options;
mod pod;
pub mod reexec;
mod supervisor;
mod up;
mod workload;

pub use client::{Client, Output, Running};
pub use mesh::Mesh;
pub use options::{Binaries, Options, Publish, PublishSyntax};
pub use up::{UpArgs, up};
