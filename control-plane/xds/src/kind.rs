//! The closed set of resource types on the stream, in the order in which they are sent.

use std::fmt;

use weft_proto::type_url;

/// A resource type. The order is that of sending within one round: what others refer to first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Trust anchors, `default`.
    TrustBundle,
    /// Mesh-wide settings, `default`.
    MeshConfig,
    /// One policy, `namespace/name`.
    Authorization,
    /// What one pod does with what arrives, `namespace/pod`.
    Inbound,
    /// One bucket of a service's endpoints, `namespace/name/bucket`.
    Endpoints,
    /// A service as one namespace sees it, `namespace/name?from=NAMESPACE`.
    Service,
    /// What is behind an address, `ip:port`.
    Address,
}

impl Kind {
    /// How many there are.
    pub const COUNT: usize = 7;

    /// All, in order.
    pub const ALL: [Kind; Kind::COUNT] = [
        Kind::TrustBundle,
        Kind::MeshConfig,
        Kind::Authorization,
        Kind::Inbound,
        Kind::Endpoints,
        Kind::Service,
        Kind::Address,
    ];

    /// The type URL in requests, responses and `Any`.
    #[must_use]
    pub const fn type_url(self) -> &'static str {
        match self {
            Kind::TrustBundle => type_url::TRUST_BUNDLE,
            Kind::MeshConfig => type_url::MESH_CONFIG,
            Kind::Authorization => type_url::AUTHORIZATION,
            Kind::Inbound => type_url::INBOUND,
            Kind::Endpoints => type_url::ENDPOINTS,
            Kind::Service => type_url::SERVICE,
            Kind::Address => type_url::ADDRESS,
        }
    }

    /// The kind of a type URL; `None` for one that this server does not have.
    #[must_use]
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// The last part of the type URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.type_url().rsplit('.').next().unwrap_or_default()
    }

    /// Subscribed to on first use of a destination. Such a subscription that holds nothing yet has
    /// nothing stale in force, so it never keeps a change from counting as confirmed.
    #[must_use]
    pub const fn is_lookup(self) -> bool {
        matches!(self, Kind::Endpoints | Kind::Service | Kind::Address)
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_type_url_and_stands_at_its_index() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(Kind::from_type_url(kind.type_url()), Some(kind));
            assert_eq!(kind.index(), index);
        }
        assert_eq!(
            Kind::from_type_url("type.googleapis.com/weft.mesh.v1.No"),
            None
        );
        assert_eq!(Kind::TrustBundle.to_string(), "TrustBundle");
    }
}
