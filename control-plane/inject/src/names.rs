//! Names that an injected pod carries, and annotations that people write.

/// What puts a pod into the mesh, and what says that it is in.
pub use weft_model::membership::{DISABLED, ENABLED, INJECT, INJECTED, STATUS, excluded};

/// Label of a pod that has its proxy: the version of the proxy.
pub const PROXY_VERSION: &str = "mesh.weft.dev/proxy-version";
/// Annotation: the containers that were given a `preStop` hook, so that it can be taken out again.
pub const PRE_STOP_SLEEP: &str = "mesh.weft.dev/pre-stop-sleep";

/// Everything under this prefix is Weft's.
pub const PREFIX: &str = "mesh.weft.dev/";
/// Annotation: the proxy's CPU request.
pub const CPU_REQUEST: &str = "mesh.weft.dev/proxy-cpu-request";
/// Annotation: the proxy's CPU limit.
pub const CPU_LIMIT: &str = "mesh.weft.dev/proxy-cpu-limit";
/// Annotation: the proxy's memory request.
pub const MEMORY_REQUEST: &str = "mesh.weft.dev/proxy-memory-request";
/// Annotation: the proxy's memory limit.
pub const MEMORY_LIMIT: &str = "mesh.weft.dev/proxy-memory-limit";
/// Annotation: what the proxy logs, a level or `target=level,...`.
pub const LOG: &str = "mesh.weft.dev/proxy-log";
/// Annotation: threads that carry traffic; 0 means one per CPU.
pub const WORKERS: &str = "mesh.weft.dev/proxy-workers";
/// Annotation: how long open connections may take to finish when the proxy ends.
pub const DRAIN_TIMEOUT: &str = "mesh.weft.dev/drain-timeout";
/// Annotation: ports of the pod that are reached without the proxy.
pub const SKIP_INBOUND_PORTS: &str = "mesh.weft.dev/skip-inbound-ports";
/// Annotation: destination ports that are reached without the proxy.
pub const SKIP_OUTBOUND_PORTS: &str = "mesh.weft.dev/skip-outbound-ports";
/// Annotation: destinations that are reached without the proxy.
pub const SKIP_OUTBOUND_CIDRS: &str = "mesh.weft.dev/skip-outbound-cidrs";
/// Annotation: `disabled` leaves probes and HTTP hooks as they are.
pub const REWRITE_PROBES: &str = "mesh.weft.dev/rewrite-probes";

/// Every annotation that means something on a pod.
pub(crate) const KNOWN: [&str; 15] = [
    INJECT,
    STATUS,
    PROXY_VERSION,
    PRE_STOP_SLEEP,
    CPU_REQUEST,
    CPU_LIMIT,
    MEMORY_REQUEST,
    MEMORY_LIMIT,
    LOG,
    WORKERS,
    DRAIN_TIMEOUT,
    SKIP_INBOUND_PORTS,
    SKIP_OUTBOUND_PORTS,
    SKIP_OUTBOUND_CIDRS,
    REWRITE_PROBES,
];

/// The init container that runs `weft-proxy init`.
pub const INIT_CONTAINER: &str = "weft-init";
/// The native sidecar that runs `weft-proxy run`.
pub const PROXY_CONTAINER: &str = "weft-proxy";
/// The memory volume with key, certificate and last good configuration.
pub const STATE_VOLUME: &str = "weft-state";
/// The volume with the projected token.
pub const TOKEN_VOLUME: &str = "weft-token";
/// The volume, and the ConfigMap in it, with the roots of the mesh.
pub const TRUST_VOLUME: &str = "weft-trust";
/// Key of the roots in the ConfigMap.
pub const TRUST_KEY: &str = "bundle.pem";
/// Audience of the projected token.
pub const TOKEN_AUDIENCE: &str = "weft";

/// The user and group that proxies run as; nothing else may.
pub const PROXY_UID: u32 = 1337;
/// Where the proxy answers for health and rewritten probes.
pub const HEALTH_PORT: u16 = 15021;
/// Where the proxy answers for metrics.
pub const METRICS_PORT: u16 = 15020;
/// Ports of the pod that are the proxy's.
pub const PROXY_PORTS: [u16; 6] = [15000, 15001, 15002, 15006, METRICS_PORT, HEALTH_PORT];
