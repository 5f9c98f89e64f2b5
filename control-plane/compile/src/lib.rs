//! From what the user means to what proxies are told. Pure: no IO, no clock.
//!
//! A [`Compiler`] takes [`Change`](weft_model::Change)s of the world and answers with a [`Delta`]:
//! the names of the resources that are now different. The resources themselves stand in a
//! [`Snapshot`]; what is wrong with the objects stands in [`Compiler::diagnostics`]. A change
//! recompiles what depends on it and nothing else, and the result is the one that compiling the
//! whole world from scratch gives.
//!
//! Does not know protobuf, versions or subscriptions: `weft-xds` encodes and serves.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod authorization;
mod compiler;
mod dirty;
mod dump;
mod endpoints;
mod findings;
mod gateway;
mod index;
mod mesh_config;
mod meshed;
mod peer_authentication;
mod protocol;
pub mod resource;
mod route;
mod service;
mod sharded;
mod snapshot;
mod targets;
mod traffic_policy;
mod workload;

pub use compiler::{Compiler, Delta, compile};
pub use mesh_config::Settings;
pub use route::RouteStanding;
pub use snapshot::{ResourceKey, Snapshot};
