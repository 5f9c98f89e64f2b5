//! What the proxy tells the world about its traffic.
//!
//! Owns the one record that the request path fills per request ([`RequestRecord`]) or opaque connection
//! ([`ConnectionRecord`]), and its views: metrics ([`Telemetry::collector`]) and the JSON access log. Owns the trace
//! context that is passed on or started ([`TraceContext`]). It decides nothing about traffic and never blocks it: workers
//! write to counters of their own, and the log drops lines (and counts them) before it makes a request wait.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod access_log;
mod flag;
mod metrics;
mod record;
mod scrape;
mod series;
mod trace;

pub use access_log::AccessLog;
pub use flag::Flag;
pub use metrics::{Settings, Telemetry, WorkerTelemetry};
pub use record::{ConnectionRecord, Direction, RequestProtocol, RequestRecord, ServiceLabel};
pub use trace::TraceContext;
