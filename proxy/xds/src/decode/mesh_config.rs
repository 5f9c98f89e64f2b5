//! `MeshConfig`.

use weft_identity::TrustDomain;
use weft_proto::mesh;
use weft_proxy_config::{Invalid, MeshConfig, OutboundPolicy};

use super::each;

pub(crate) fn mesh_config(wire: mesh::MeshConfig) -> Result<MeshConfig, Invalid> {
    let outbound = match mesh::OutboundPolicy::try_from(wire.outbound_policy) {
        Ok(mesh::OutboundPolicy::AllowAny) => OutboundPolicy::AllowAny,
        Ok(mesh::OutboundPolicy::RegistryOnly) => OutboundPolicy::RegistryOnly,
        Ok(mesh::OutboundPolicy::Unspecified) | Err(_) => {
            let reason = "is one this proxy does not know";
            return Err(Invalid::new("outbound_policy", reason));
        }
    };
    Ok(MeshConfig {
        trust_domain: TrustDomain::new(&wire.trust_domain)
            .map_err(|error| Invalid::new("trust_domain", error))?,
        ranges: each("address_ranges", wire.address_ranges, |block| {
            block
                .parse()
                .map_err(|_| Invalid::new("", format!("{block:?} is no CIDR block")))
        })?,
        outbound,
        access_log: wire.access_log,
    })
}
