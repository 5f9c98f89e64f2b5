//! `Inbound`.

use weft_compile::resource::{Inbound, PolicyRef};
use weft_model::MtlsMode;
use weft_proto::mesh;

use super::authorization;
use crate::body::Version;

/// What a pod's own proxy needs to take connections. Each policy is named with the very version
/// that its `Authorization` has on the stream.
pub(crate) fn inbound(inbound: &Inbound, drained: bool) -> mesh::Inbound {
    mesh::Inbound {
        namespace: inbound.namespace.to_string(),
        pod: inbound.pod.to_string(),
        service_account: inbound.service_account.to_string(),
        workload: inbound.workload.to_string(),
        addresses: inbound.addresses.iter().map(ToString::to_string).collect(),
        mtls: mtls(inbound.mtls),
        ports: inbound
            .ports
            .iter()
            .map(|port| mesh::InboundPort {
                port: port.port.into(),
                protocol: super::protocol(port.protocol),
                routed: port.routed,
                mtls: mtls(port.mtls),
            })
            .collect(),
        policies: inbound.policies.iter().map(policy).collect(),
        terminating: inbound.terminating,
        drained,
    }
}

fn policy(policy: &PolicyRef) -> mesh::PolicyRef {
    mesh::PolicyRef {
        name: format!("{}/{}", policy.namespace, policy.name),
        version: Version::of_message(&authorization(&policy.policy)).to_string(),
        ports: policy.ports.iter().map(|port| u32::from(*port)).collect(),
    }
}

fn mtls(mode: MtlsMode) -> i32 {
    let wire = match mode {
        MtlsMode::Permissive => mesh::MtlsMode::Permissive,
        MtlsMode::Strict => mesh::MtlsMode::Strict,
    };
    wire.into()
}
