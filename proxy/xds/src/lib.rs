//! The stream client: how a proxy gets its identity and its configuration from the control plane.
//!
//! Owns the connection (mTLS, first contact, renewal), the delta protocol ([`session`]), decoding
//! ([`decode`], one file per resource), when things take effect ([`activation`]) and the cache on disk
//! ([`cache`]). It does not decide anything about traffic: what is whole goes to the
//! `weft_proxy_config::Store` through its one writer, identity and trust to `weft_certs::MeshTls`.
//!
//! In: [`Settings`], a `Writer`, a `MeshTls`. Out: a filled store, a valid identity, and a [`StatusHandle`].
//! [`Client::new`] restores what the state directory holds, so that a restarted proxy serves before any
//! control plane is reachable; [`Client::run`] then runs on a runtime of its own until it is told to stop.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod activation;
mod backoff;
mod cache;
mod certificate;
mod client;
mod connect;
mod decode;
mod kind;
pub mod names;
mod offline;
mod resource;
mod session;
mod settings;
mod state;
mod status;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use client::Client;
pub use kind::Kind;
pub use offline::Offline;
pub use settings::Settings;
pub use status::{CertificateStatus, RefusedResource, Status, StatusHandle, SubscribedResource};
