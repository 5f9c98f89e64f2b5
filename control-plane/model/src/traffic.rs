//! `TrafficPolicy`: how clients treat a Service.
//!
//! `None` means that the user said nothing; compile puts in the defaults.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

/// An object that a policy targets, in the policy's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TargetRef {
    /// API group, empty for core.
    pub group: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// `sectionName`: the name of a Service's port.
    pub section_name: Option<Arc<str>>,
}

/// A `TrafficPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrafficPolicy {
    /// `targetRefs`.
    pub targets: Vec<TargetRef>,
    /// `loadBalancing.algorithm`.
    pub balancing: Option<Balancing>,
    /// `connections`.
    pub connections: Option<Connections>,
    /// `outlierDetection`.
    pub outlier_detection: Option<OutlierDetection>,
    /// `retries`.
    pub retries: Option<RetryPolicy>,
    /// `timeouts`.
    pub timeouts: Option<TrafficTimeouts>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Balancing {
    /// The faster of two, by peak-EWMA latency and load.
    #[default]
    LeastLatency,
    /// In turn.
    RoundRobin,
}

/// `connections`: limits per client proxy and service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Open connections.
    pub max_connections: Option<u32>,
    /// Requests waiting for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests in flight.
    pub max_requests: Option<u32>,
    /// Time for a connection to stand.
    pub connect_timeout: Option<Duration>,
    /// Time after which an idle connection is closed.
    pub idle_timeout: Option<Duration>,
}

/// `outlierDetection`: endpoints that fail are left out for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutlierDetection {
    /// Failures in a row that eject.
    pub consecutive_failures: Option<u32>,
    /// First time out; grows with each ejection.
    pub base_ejection_time: Option<Duration>,
    /// The longest ejection.
    pub max_ejection_time: Option<Duration>,
    /// At most this share of the endpoints is out at once, 0–100.
    pub max_ejection_percent: Option<u32>,
}

/// `retries`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RetryPolicy {
    /// Retries, not counting the first try.
    pub attempts: Option<u32>,
    /// What is retried; `None` with no codes either: the default set.
    pub retry_on: Option<Vec<RetryOn>>,
    /// HTTP status codes that are retried too.
    pub codes: Vec<u16>,
    /// gRPC status codes that are retried too.
    pub grpc_codes: Vec<u8>,
    /// Bound of one try.
    pub per_try_timeout: Option<Duration>,
    /// Time between tries.
    pub backoff: Option<Backoff>,
    /// How much load retries may add.
    pub budget: Option<RetryBudget>,
    /// Every method of this service may be repeated, POST too.
    pub retry_non_idempotent: bool,
    /// Bytes of a request body that are kept for a replay.
    pub buffer_limit: Option<u64>,
}

/// A condition for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum RetryOn {
    /// No connection.
    ConnectFailure,
    /// Reset before a response began.
    Reset,
    /// 502, 503, 504; gRPC UNAVAILABLE.
    GatewayError,
    /// Any 5xx.
    ServerError,
    /// The try ran into its own timeout.
    Timeout,
}

/// Exponential backoff with full jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Backoff {
    /// Before the first retry.
    pub base: Option<Duration>,
    /// At most.
    pub max: Option<Duration>,
}

/// Retries allowed per client proxy and service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RetryBudget {
    /// Percent of the requests, 0–100.
    pub percent: Option<u32>,
    /// Allowed besides, each second.
    pub min_per_second: Option<u32>,
}

/// `timeouts`: for requests that no route rule gives a timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrafficTimeouts {
    /// The whole request.
    pub request: Option<Duration>,
    /// No byte in either direction.
    pub idle: Option<Duration>,
}
