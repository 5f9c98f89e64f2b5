//! The resources that proxies subscribe to, one file each, as `proto/weft/mesh/v1` has them.

mod address;
mod authorization;
mod endpoints;
mod inbound;
mod mesh_config;
mod route;
mod service;
mod traffic_policy;

pub use address::{Address, Workload};
pub use authorization::{Action, Authorization, AuthorizationRule, Condition, StringMatch};
pub use endpoints::{Endpoint, EndpointPort, Endpoints};
pub use inbound::{Inbound, InboundPort, PolicyRef};
pub use mesh_config::MeshConfig;
pub use route::{
    Backend, HttpFilter, HttpMatch, HttpRule, PathMatch, Redirect, ValueMatch, WeightedBackend,
};
pub use service::{Port, Protocol, Service};
pub use traffic_policy::{ConnectionLimits, OutlierDetection, RetryOn, RetryPolicy, TrafficPolicy};

/// Durations as people write them, for readable golden files.
mod readable {
    use std::sync::Arc;
    use std::time::Duration;

    use serde::Serializer;

    use super::route::Backend;

    pub(super) fn nothing<T>(list: &Arc<[T]>) -> bool {
        list.is_empty()
    }

    /// `namespace/name:port`, or why there is none.
    pub(super) fn backend<S: Serializer>(
        target: &Result<Backend, Arc<str>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match target {
            Ok(Backend {
                namespace,
                name,
                port,
            }) => serializer.collect_str(&format_args!("{namespace}/{name}:{port}")),
            Err(reason) => serializer.collect_str(&format_args!("none: {reason}")),
        }
    }

    pub(super) fn span<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:?}"))
    }

    pub(super) fn duration<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => serializer.collect_str(&format_args!("{duration:?}")),
            None => serializer.serialize_none(),
        }
    }
}
