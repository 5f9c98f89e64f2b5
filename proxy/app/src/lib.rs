//! The proxy process: settings, wiring, admin, readiness, leaving; and `init`, which leads a pod's
//! traffic through it.
//!
//! Command line → [`settings`] → [`run()`] (threads, listeners, the stream client) or
//! [`intercept::Interception`] (nftables) in a pod's [`pod_network`]. Nothing here touches traffic: that is proxy/net and
//! proxy/http, told what to do by proxy/config, which proxy/xds writes.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod departure;
mod dump;
mod health;
pub mod intercept;
pub mod pod_network;
mod probes;
mod process_metrics;
mod readiness;
mod run;
pub mod settings;
mod workers;

pub use run::run;
