//! `Inbound`.

use smallvec::SmallVec;
use weft_proto::mesh;
use weft_proxy_config::{Inbound, InboundPort, Invalid, MtlsMode};

use super::{each, ips, port, protocol};

/// What a pod takes, with its policies still by name.
#[derive(Debug, Clone)]
pub(crate) struct InboundSpec {
    pub plain: Inbound,
    pub ports: Vec<InboundPort>,
    pub policies: Vec<PolicyRef>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicyRef {
    /// `namespace/name`
    pub name: String,
    pub version: String,
    pub ports: SmallVec<[u16; 2]>,
}

pub(crate) fn inbound(wire: mesh::Inbound) -> Result<InboundSpec, Invalid> {
    let mode = mtls(wire.mtls)?.ok_or_else(|| Invalid::new("mtls", "is missing"))?;
    let ports = each("ports", wire.ports, |one| {
        Ok(InboundPort {
            port: port("port", one.port)?,
            protocol: protocol(one.protocol),
            routed: one.routed,
            mtls: mtls(one.mtls)?.unwrap_or(mode),
        })
    })?;
    let policies = each("policies", wire.policies, |one| {
        let ports = each("ports", one.ports, |number| port("", number))?;
        Ok(PolicyRef {
            name: one.name,
            version: one.version,
            ports: ports.into(),
        })
    })?;
    let mut plain = Inbound::new(&wire.namespace, &wire.pod, mode);
    plain.service_account = wire.service_account.into();
    plain.workload = wire.workload.into();
    plain.addresses = ips("addresses", &wire.addresses)?;
    plain.terminating = wire.terminating;
    plain.drained = wire.drained;
    Ok(InboundSpec {
        plain,
        ports,
        policies,
    })
}

/// None: not said.
fn mtls(wire: i32) -> Result<Option<MtlsMode>, Invalid> {
    match mesh::MtlsMode::try_from(wire) {
        Ok(mesh::MtlsMode::Unspecified) => Ok(None),
        Ok(mesh::MtlsMode::Permissive) => Ok(Some(MtlsMode::Permissive)),
        Ok(mesh::MtlsMode::Strict) => Ok(Some(MtlsMode::Strict)),
        Err(_) => Err(Invalid::new("mtls", "is one this proxy does not know")),
    }
}
