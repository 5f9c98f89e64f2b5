//! The names of objects: a closed set of kinds, and kind + namespace + name as the world's key.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// The kinds that the mesh has a use for. Ordered: a world lists its objects by kind first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    /// `v1/Namespace`; its key has an empty namespace.
    Namespace,
    /// `v1/ServiceAccount`.
    ServiceAccount,
    /// `v1/Service`.
    Service,
    /// `discovery.k8s.io/v1/EndpointSlice`.
    EndpointSlice,
    /// `v1/Pod`.
    Pod,
    /// `gateway.networking.k8s.io/v1/GatewayClass`; its key has an empty namespace.
    GatewayClass,
    /// `gateway.networking.k8s.io/v1/Gateway`.
    Gateway,
    /// `gateway.networking.k8s.io/v1beta1/ReferenceGrant`.
    ReferenceGrant,
    /// `gateway.networking.k8s.io/v1/HTTPRoute`.
    HttpRoute,
    /// `gateway.networking.k8s.io/v1/GRPCRoute`.
    GrpcRoute,
    /// `mesh.weft.dev/v1alpha1/AuthorizationPolicy`.
    AuthorizationPolicy,
    /// `mesh.weft.dev/v1alpha1/PeerAuthentication`.
    PeerAuthentication,
    /// `mesh.weft.dev/v1alpha1/TrafficPolicy`.
    TrafficPolicy,
    /// `mesh.weft.dev/v1alpha1/MeshConfig`.
    MeshConfig,
}

impl Kind {
    /// All kinds, in their order.
    pub const ALL: [Kind; 14] = [
        Kind::Namespace,
        Kind::ServiceAccount,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Pod,
        Kind::GatewayClass,
        Kind::Gateway,
        Kind::ReferenceGrant,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::AuthorizationPolicy,
        Kind::PeerAuthentication,
        Kind::TrafficPolicy,
        Kind::MeshConfig,
    ];

    /// The kind as YAML spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Namespace => "Namespace",
            Kind::ServiceAccount => "ServiceAccount",
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Pod => "Pod",
            Kind::GatewayClass => "GatewayClass",
            Kind::Gateway => "Gateway",
            Kind::ReferenceGrant => "ReferenceGrant",
            Kind::HttpRoute => "HTTPRoute",
            Kind::GrpcRoute => "GRPCRoute",
            Kind::AuthorizationPolicy => "AuthorizationPolicy",
            Kind::PeerAuthentication => "PeerAuthentication",
            Kind::TrafficPolicy => "TrafficPolicy",
            Kind::MeshConfig => "MeshConfig",
        }
    }

    /// Whether objects of the kind lie in no namespace.
    #[must_use]
    pub fn is_cluster_wide(self) -> bool {
        matches!(
            self,
            Kind::Namespace | Kind::GatewayClass | Kind::MeshConfig
        )
    }

    /// The kind that YAML spells so, ignoring case (people type `httproute` on a command line).
    #[must_use]
    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of one object in the world.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty for kinds that have none.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The key of `kind` `namespace/name`.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}
