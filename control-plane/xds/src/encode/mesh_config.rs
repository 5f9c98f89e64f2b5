//! `MeshConfig`.

use weft_compile::resource::MeshConfig;
use weft_model::OutboundPolicy;
use weft_proto::mesh;

/// What holds for every proxy.
pub(crate) fn mesh_config(config: &MeshConfig) -> mesh::MeshConfig {
    let outbound = match config.outbound_policy {
        OutboundPolicy::AllowAny => mesh::OutboundPolicy::AllowAny,
        OutboundPolicy::RegistryOnly => mesh::OutboundPolicy::RegistryOnly,
    };
    mesh::MeshConfig {
        trust_domain: config.trust_domain.to_string(),
        address_ranges: config
            .address_ranges
            .iter()
            .map(ToString::to_string)
            .collect(),
        outbound_policy: outbound.into(),
        access_log: config.access_log,
    }
}
