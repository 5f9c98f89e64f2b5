//! What the user means: the mesh's objects after their YAML has been read, keyed and typed.
//!
//! Owns the [`World`] (the set of objects), the object types and the [`Diagnostic`] that every
//! later step reports with. Does not know where objects come from, nor what proxies need: the
//! source fills a world by [`Change`]s, compile reads it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod diagnostic;
pub mod gateway;
pub mod key;
pub mod membership;
pub mod mesh_config;
pub mod object;
pub mod policy;
pub mod route;
pub mod traffic;
pub mod workload;
pub mod world;

pub use diagnostic::{Condition, Diagnostic, FieldPath, Problem, Reason, Severity, Subject};
pub use gateway::{
    CONTROLLER, GATEWAY_GROUP, Gateway, GatewayClass, Granted, GrantedTo, ReferenceGrant,
};
pub use key::{Kind, ObjectKey};
pub use mesh_config::{MeshConfig, OutboundPolicy};
pub use object::{Created, Meta, Object, Origin, Spec};
pub use policy::{
    Action, AuthorizationPolicy, AuthorizationRule, HeaderCondition, MtlsMode, Operation,
    PeerAuthentication, PolicyTargets, Source,
};
pub use route::{
    Backend, Filter, GrpcMatch, GrpcRoute, HeaderModifier, HttpMatch, HttpRoute, MatchKind,
    MethodMatch, ParentRef, PathMatch, PathModifier, Redirect, Rewrite, Route, Rule, Timeouts,
    ValueMatch,
};
pub use traffic::{
    Backoff, Balancing, Connections, OutlierDetection, RetryBudget, RetryOn, RetryPolicy,
    TargetRef, TrafficPolicy, TrafficTimeouts,
};
pub use workload::{
    ContainerPort, Endpoint, EndpointPort, EndpointSlice, Labels, Namespace, NotFollowed, Pod,
    Service, ServiceAccount, ServicePort, ServiceType, TargetPort, Transport,
};
pub use world::{Change, World};

/// The namespace whose policies without a target hold for the whole mesh.
pub const ROOT_NAMESPACE: &str = "weft-system";

#[cfg(test)]
mod tests;
