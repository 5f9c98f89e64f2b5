//! The YAML that people write, as Rust types.
//!
//! Owns Weft's own kinds (group `mesh.weft.dev`), the Kubernetes and Gateway API types in use, and
//! everything that can be said about one object alone: its type errors, its unknown fields, its
//! values out of range. Does not own files and lines (`weft-source`), nor what several objects
//! mean together (`weft-model`, `weft-compile`).
//!
//! A raw JSON value goes in, an [`ApiObject`] and its [`Fault`]s come out: see [`parse`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod authorization_policy;
pub mod cluster_ips;
pub mod crd;
pub mod duration;
pub mod field_path;
pub mod gateway;
pub mod kind;
pub mod mesh_config;
pub mod object;
pub mod parse;
pub mod peer_authentication;
pub mod quantity;
pub mod route_rule;
pub mod schema;
mod similar_field;
pub mod status;
pub mod target;
pub mod traffic_policy;
mod type_error;
mod unknown_fields;
mod validate;

pub use authorization_policy::{AuthorizationPolicy, AuthorizationPolicySpec};
pub use cluster_ips::ClusterIps;
pub use duration::Duration;
pub use field_path::{FieldPath, Segment};
pub use kind::{Kind, Recognised, recognise};
pub use mesh_config::{MeshConfig, MeshConfigSpec};
pub use object::{ApiObject, ObjectKey};
pub use parse::{Fault, Parsed, parse};
pub use peer_authentication::{PeerAuthentication, PeerAuthenticationSpec};
pub use quantity::ByteSize;
pub use traffic_policy::{TrafficPolicy, TrafficPolicySpec};

/// The API group of Weft's own kinds.
pub const GROUP: &str = "mesh.weft.dev";
/// The version of Weft's own kinds.
pub const VERSION: &str = "v1alpha1";
/// The group of the objects that `weft up` generates for its own control plane.
pub const LOCAL_GROUP: &str = "local.weft.dev";
/// Annotation of an object that `weft up` wrote: it stands for the user's of the same name, whose
/// status it has.
pub const GENERATED_ANNOTATION: &str = "local.weft.dev/generated";
/// The API group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The Kubernetes types that Weft reads.
pub mod kubernetes {
    pub use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
    pub use k8s_openapi::api::core::v1::ObjectReference;
    pub use k8s_openapi::api::core::v1::{
        ConfigMap, Container, ContainerPort, EnvVar, ExecAction, GRPCAction, HTTPGetAction,
        Namespace, Pod, PodCondition, PodIP, PodSpec, PodStatus, PodTemplateSpec, Probe, Service,
        ServiceAccount, ServicePort, ServiceSpec, TCPSocketAction,
    };
    pub use k8s_openapi::api::discovery::v1::{
        Endpoint, EndpointConditions, EndpointPort, EndpointSlice,
    };
    pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
        Condition, LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference, Time,
    };
    pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
}
