//! `Address`.

use weft_compile::resource::Address;
use weft_proto::mesh;

use super::endpoints::endpoint;

/// Who is behind an address and port.
pub(crate) fn address(address: &Address) -> mesh::Address {
    use mesh::address::Target;
    let target = match address {
        Address::Service {
            namespace,
            name,
            port,
        } => Target::Service(mesh::ServicePort {
            namespace: namespace.to_string(),
            name: name.to_string(),
            port: (*port).into(),
        }),
        Address::Workload(workload) => Target::Workload(mesh::WorkloadPort {
            endpoint: Some(endpoint(workload)),
            port: workload.ports.first().map_or(0, |port| port.port.into()),
        }),
    };
    mesh::Address {
        target: Some(target),
    }
}
