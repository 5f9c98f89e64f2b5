//! What holds for the whole mesh: its address ranges and what happens outside of them.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_identity::TrustDomain;

/// What happens to a destination that is neither in the mesh nor declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboundPolicy {
    /// It is passed through as it is.
    AllowAny,
    /// It is refused.
    RegistryOnly,
}

/// The mesh's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshConfig {
    /// The trust domain of this mesh.
    pub trust_domain: TrustDomain,
    /// Addresses that belong to the mesh: an unknown one of these is refused, never passed through.
    pub ranges: Vec<IpNet>,
    /// What happens outside.
    pub outbound: OutboundPolicy,
    /// Whether requests are logged.
    pub access_log: bool,
}

impl MeshConfig {
    /// Whether `address` belongs to the mesh. An IPv4-mapped address counts as the IPv4 one.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.ranges.iter().any(|range| range.contains(&address))
    }
}

impl Default for MeshConfig {
    /// Before the control plane has said anything: nothing is known, nothing passes.
    fn default() -> Self {
        Self {
            trust_domain: TrustDomain::default(),
            ranges: Vec::new(),
            outbound: OutboundPolicy::RegistryOnly,
            access_log: false,
        }
    }
}
