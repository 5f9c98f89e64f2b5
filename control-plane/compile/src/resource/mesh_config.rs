//! `MeshConfig`: what holds for every proxy.

use ipnet::IpNet;
use serde::Serialize;
use weft_identity::TrustDomain;
use weft_model::OutboundPolicy;

/// The one `default`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MeshConfig {
    /// The mesh's trust domain.
    pub trust_domain: TrustDomain,
    /// Addresses that belong to the mesh.
    pub address_ranges: Vec<IpNet>,
    /// What happens to other destinations.
    pub outbound_policy: OutboundPolicy,
    /// Whether requests are logged.
    pub access_log: bool,
}
