//! The closed set of resource types on the stream.

use std::fmt;

use weft_proto::type_url;

/// A resource type. The order is that of activation: what others refer to first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Trust anchors.
    TrustBundle,
    /// Mesh-wide settings.
    MeshConfig,
    /// One policy.
    Authorization,
    /// What this pod takes.
    Inbound,
    /// One bucket of a service's endpoints.
    Endpoints,
    /// A service as this namespace sees it.
    Service,
    /// What is behind an address.
    Address,
}

impl Kind {
    /// All, in order.
    pub const ALL: [Self; 7] = [
        Self::TrustBundle,
        Self::MeshConfig,
        Self::Authorization,
        Self::Inbound,
        Self::Endpoints,
        Self::Service,
        Self::Address,
    ];

    /// As it stands in requests, responses and `Any`.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::TrustBundle => type_url::TRUST_BUNDLE,
            Self::MeshConfig => type_url::MESH_CONFIG,
            Self::Authorization => type_url::AUTHORIZATION,
            Self::Inbound => type_url::INBOUND,
            Self::Endpoints => type_url::ENDPOINTS,
            Self::Service => type_url::SERVICE,
            Self::Address => type_url::ADDRESS,
        }
    }

    /// The kind of a type URL.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
