//! `TrafficPolicy`: how callers treat a Service.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::quantity::ByteSize;
use crate::status::PolicyStatus;
use crate::target::TargetRef;

/// Says how callers balance over a Service, how many connections and requests they risk, when
/// they give an endpoint up, what they send again and how long they wait.
///
/// It targets Services of its own namespace. Of several for one Service the oldest is in force,
/// the others are Conflicted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "mesh.weft.dev",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    plural = "trafficpolicies",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "tp",
    category = "weft",
    doc = "Says how callers balance, limit, retry and time out calls to a Service.",
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".spec.targetRefs[0].name"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.ancestors[*].conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct TrafficPolicySpec {
    /// The Services that this applies to.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// How an endpoint is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,
    /// Limits on connections and requests: the circuit breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    /// When a failing endpoint is left alone for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,
    /// What is sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// How long a caller waits. A route's own timeouts win.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancing {
    /// The algorithm; LeastLatency when there is no policy.
    pub algorithm: LoadBalancingAlgorithm,
}

/// The ways to choose an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancingAlgorithm {
    /// Of two endpoints taken at random the one with less latency and fewer requests in flight.
    #[default]
    LeastLatency,
    /// One after the other.
    RoundRobin,
}

/// Limits of one calling proxy towards the Service. A request over a limit is answered 503 at
/// once, with the flag `overloaded`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.connectTimeout) || duration(self.connectTimeout) > duration('0s')").message("connectTimeout must be longer than 0s"))]
#[x_kube(validation = Rule::new("!has(self.idleTimeout) || duration(self.idleTimeout) > duration('0s')").message("idleTimeout must be longer than 0s"))]
pub struct Connections {
    /// Connections at the same time. Default 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection. Default 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_pending_requests: Option<u32>,
    /// Requests in flight. Default 65536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_requests: Option<u32>,
    /// How long connecting may take, TLS included. Default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Duration>,
    /// How long an unused connection is kept. Default 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
}

/// When a failing endpoint is left alone for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.baseEjectionTime) || duration(self.baseEjectionTime) > duration('0s')").message("baseEjectionTime must be longer than 0s"))]
#[x_kube(validation = Rule::new("!has(self.maxEjectionTime) || duration(self.maxEjectionTime) > duration('0s')").message("maxEjectionTime must be longer than 0s"))]
#[x_kube(validation = Rule::new("!(has(self.baseEjectionTime) && has(self.maxEjectionTime)) || duration(self.baseEjectionTime) <= duration(self.maxEjectionTime)").message("maxEjectionTime must not be shorter than baseEjectionTime"))]
pub struct OutlierDetection {
    /// Failures in a row (5xx, gRPC UNAVAILABLE and the like, resets, connect failures) after
    /// which the endpoint is ejected. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub consecutive_failures: Option<u32>,
    /// How long the first ejection lasts; each further one is longer. Default 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_ejection_time: Option<Duration>,
    /// How long an ejection lasts at most. Not supported yet: reported, and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejection_time: Option<Duration>,
    /// The share of endpoints that may be ejected at the same time, in percent. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejection_percent: Option<u32>,
}

/// What is sent again. A request that the application never got is sent elsewhere whatever stands
/// here, also without this section; one that it may have got only if its method is idempotent or it is
/// declared safe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.perTryTimeout) || duration(self.perTryTimeout) > duration('0s')").message("perTryTimeout must be longer than 0s"))]
pub struct Retries {
    /// How often a request is sent again at most; 0 turns retries off. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub attempts: Option<u32>,
    /// What is retried. Default, when `codes` and `grpcCodes` are left out too: ConnectFailure,
    /// Reset, GatewayError.
    ///
    /// (Not called `on`, which YAML 1.1 readers take for `true`.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub retry_on: Option<Vec<RetryOn>>,
    /// HTTP status codes that are retried too. Not supported yet: reported, and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), inner(range(min = 400, max = 599)))]
    pub codes: Option<Vec<u16>>,
    /// gRPC status codes that are retried too: CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED,
    /// INTERNAL, UNAVAILABLE; others are reported, and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub grpc_codes: Option<Vec<GrpcCode>>,
    /// How long one attempt may take. Left out: as long as the request may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Duration>,
    /// The pause before an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// How much load retries may add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<RetryBudget>,
    /// Declares that every request to the Service may be sent twice, whatever its method is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_non_idempotent: Option<bool>,
    /// Up to how many bytes of a request's body are kept to be sent again. Default 64Ki.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_limit: Option<ByteSize>,
}

/// A reason to send a request again.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum RetryOn {
    /// No connection came about.
    ConnectFailure,
    /// The connection or stream broke before response headers.
    Reset,
    /// 502, 503 or 504, or gRPC UNAVAILABLE.
    GatewayError,
    /// Any 5xx.
    ServerError,
    /// The attempt took longer than `perTryTimeout`.
    Timeout,
}

/// A gRPC status code that is no success.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
#[repr(u8)]
pub enum GrpcCode {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// The pause before an attempt: random, up to `base` doubled each time, never over `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.base) || duration(self.base) > duration('0s')").message("base must be longer than 0s"))]
#[x_kube(validation = Rule::new("!has(self.max) || duration(self.max) > duration('0s')").message("max must be longer than 0s"))]
#[x_kube(validation = Rule::new("!(has(self.base) && has(self.max)) || duration(self.base) <= duration(self.max)").message("max must not be shorter than base"))]
pub struct Backoff {
    /// Before the first retry. Default 25ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Duration>,
    /// The longest. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
}

/// How much load retries may add: a share of the requests, and a few each second besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Retries per hundred requests. Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u32>,
    /// Retries that are always allowed, per second. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_per_second: Option<u32>,
}

/// How long a caller waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// For the whole answer, retries included. `0s`: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// For a byte in either direction. Not supported yet: reported, and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Duration>,
}
