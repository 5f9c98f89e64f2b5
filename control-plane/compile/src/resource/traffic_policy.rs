//! How clients treat a service. A section that the user left out is `None`: the proxy's defaults;
//! a section that is there is complete where its fields have documented defaults.

use std::time::Duration;

use serde::Serialize;
use weft_model::Balancing;

use super::readable;

/// How clients treat a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub balancing: Balancing,
    /// Limits.
    pub limits: ConnectionLimits,
    /// Leaving out endpoints that fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// Retries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<RetryPolicy>,
    /// For the whole request where no rule says. Zero: no limit.
    #[serde(
        serialize_with = "readable::duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub request_timeout: Option<Duration>,
}

/// Limits of one client proxy towards a service; `None`: the proxy's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionLimits {
    /// Open connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pending: Option<u32>,
    /// Requests in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u32>,
    /// For a connection to stand.
    #[serde(
        serialize_with = "readable::duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub connect_timeout: Option<Duration>,
    /// How long an unused connection is kept.
    #[serde(
        serialize_with = "readable::duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub idle_timeout: Option<Duration>,
}

/// Leaving out endpoints that fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlierDetection {
    /// Failures in a row that eject.
    pub consecutive_failures: u32,
    /// The first ejection's length.
    #[serde(serialize_with = "readable::span")]
    pub base_ejection: Duration,
    /// At most this share of the endpoints at once, 0–100.
    pub max_ejection_percent: u32,
}

/// Retries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetryPolicy {
    /// Retries after the first attempt; 0: none but the resend of what was never delivered.
    pub attempts: u32,
    /// Reasons, ascending, each once.
    pub on: Vec<RetryOn>,
    /// Bound of one attempt.
    #[serde(
        serialize_with = "readable::duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub per_try_timeout: Option<Duration>,
    /// Pause before the first retry, at most.
    #[serde(serialize_with = "readable::span")]
    pub backoff_base: Duration,
    /// Pause before any, at most.
    #[serde(serialize_with = "readable::span")]
    pub backoff_max: Duration,
    /// Retries per hundred requests.
    pub budget_percent: u32,
    /// Retries that are always allowed.
    pub budget_min_per_second: u32,
    /// Non-idempotent methods too.
    pub non_idempotent: bool,
    /// Bytes of a body kept for a replay.
    pub replay_limit: u64,
}

/// A reason for a retry, in the wire's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum RetryOn {
    /// The request never reached the peer.
    ConnectFailure,
    /// The connection ended before any byte of the answer.
    Reset,
    /// Any 5xx.
    ServerError,
    /// 502, 503, 504.
    GatewayError,
    /// The attempt took too long.
    AttemptTimeout,
    /// gRPC status CANCELLED.
    GrpcCancelled,
    /// gRPC status DEADLINE_EXCEEDED.
    GrpcDeadlineExceeded,
    /// gRPC status INTERNAL.
    GrpcInternal,
    /// gRPC status RESOURCE_EXHAUSTED.
    GrpcResourceExhausted,
    /// gRPC status UNAVAILABLE.
    GrpcUnavailable,
}
