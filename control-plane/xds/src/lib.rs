//! The stream server: serves a [`Snapshot`](weft_compile::Snapshot) to proxies over xDS's delta
//! protocol, each proxy what it asks for and may see.
//!
//! Owns subscriptions, versions, acknowledgements and refusals, encoding (one file per resource),
//! who may see what, and the bookkeeping of what each proxy has confirmed. Does not compile, does
//! not terminate TLS and does not verify certificates.
//!
//! snapshot → [`Server::publish`] → hub (topics, one body each) → session per stream → frames.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod body;
mod catalog;
mod client;
mod discovery_service;
mod drain;
mod encode;
mod frame;
mod hub;
mod kind;
mod lookup_budget;
mod offline;
mod progress;
mod proxy_stream;
mod server;
mod session;
mod snapshot_catalog;
mod stream_id;
mod subscription;
mod topic;

#[cfg(test)]
mod model_tests;

pub use client::Peer;
pub use discovery_service::DiscoveryService;
pub use frame::Frame;
pub use kind::Kind;
pub use lookup_budget::Limits;
pub use offline::Offline;
pub use progress::{Epoch, Progress, ProxyStatus, RefusedBy};
pub use server::Server;
