//! How requests to a service are balanced, limited, retried and timed out. Absent values of the wire
//! are filled in here, so that nobody further in knows a default. The documentation of `TrafficPolicy` names
//! the same ones; a contract test compares them.

use std::time::Duration;

/// Algorithm of choice among endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balancing {
    /// Peak-EWMA latency times requests in flight, the better of two random ones.
    #[default]
    LeastLatency,
    /// In turn, by weight.
    RoundRobin,
}

/// Limits on what is open towards one service port, over all workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections.
    pub max_connections: u32,
    /// Requests that wait for a connection.
    pub max_pending: u32,
    /// Requests in flight.
    pub max_requests: u32,
    /// For the TCP handshake and, on a mesh hop, the TLS handshake.
    pub connect_timeout: Duration,
    /// How long a pooled connection may idle.
    pub idle_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            max_pending: 4096,
            max_requests: 65_536,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// When an endpoint is taken out for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Failures in a row that eject; at least 1.
    pub consecutive_failures: u32,
    /// How long the first ejection lasts; doubled with each further one.
    pub base_ejection: Duration,
    /// How much of the endpoints may be out at once; one may be whatever this says.
    pub max_ejection_percent: u8,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            base_ejection: Duration::from_secs(30),
            max_ejection_percent: 50,
        }
    }
}

/// What is worth a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// The request never reached the peer.
    ConnectFailure,
    /// The connection ended before any byte of the answer.
    Reset,
    /// 500 to 599.
    ServerError,
    /// 502, 503, 504.
    GatewayError,
    /// gRPC CANCELLED.
    GrpcCancelled,
    /// gRPC DEADLINE_EXCEEDED.
    GrpcDeadlineExceeded,
    /// gRPC INTERNAL.
    GrpcInternal,
    /// gRPC RESOURCE_EXHAUSTED.
    GrpcResourceExhausted,
    /// gRPC UNAVAILABLE.
    GrpcUnavailable,
    /// The attempt's own time ran out.
    AttemptTimeout,
}

/// Retries of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first attempt; 0: none but the resend of what was never delivered.
    pub attempts: u8,
    /// What is retried.
    pub on: Vec<RetryOn>,
    /// Of one attempt; None: no limit but the request's.
    pub per_try_timeout: Option<Duration>,
    /// Pause before the first retry; doubled with each further one, with jitter.
    pub backoff_base: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// Retries in percent of requests.
    pub budget_percent: u32,
    /// Retries per second that are always allowed.
    pub budget_min_per_second: u32,
    /// Requests with non-idempotent methods are retried as well: the user says it is safe.
    pub non_idempotent: bool,
    /// Bytes of a request's body that are kept for a replay.
    pub replay_limit: u64,
}

impl RetryPolicy {
    /// Whether `condition` is worth a retry here.
    pub fn retries(&self, condition: RetryOn) -> bool {
        self.on.contains(&condition)
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 0,
            on: Vec::new(),
            per_try_timeout: None,
            backoff_base: Duration::from_millis(25),
            backoff_max: Duration::from_secs(1),
            budget_percent: 20,
            budget_min_per_second: 10,
            non_idempotent: false,
            replay_limit: 64 * 1024,
        }
    }
}

/// All of it, for one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrafficPolicy {
    /// Choice among endpoints.
    pub balancing: Balancing,
    /// Circuit breaking.
    pub limits: ConnectionLimits,
    /// None: endpoints are never ejected.
    pub outlier: Option<OutlierDetection>,
    /// Retries.
    pub retries: RetryPolicy,
    /// Of the whole request, retries included, where its rule says nothing; None: no limit.
    pub request_timeout: Option<Duration>,
}
