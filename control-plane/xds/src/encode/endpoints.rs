//! `Endpoints`, and the endpoint within an `Address`.

use std::net::IpAddr;

use weft_compile::resource::{Endpoint, Endpoints};
use weft_proto::mesh;

/// One bucket.
pub(crate) fn endpoints(bucket: &Endpoints) -> mesh::Endpoints {
    mesh::Endpoints {
        endpoints: bucket.endpoints.iter().map(endpoint).collect(),
    }
}

/// The addresses that new requests may go to.
pub(crate) fn live<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>) -> Box<[IpAddr]> {
    let staying = endpoints.into_iter().filter(|e| !e.terminating);
    staying.map(|endpoint| endpoint.address).collect()
}

pub(super) fn endpoint(endpoint: &Endpoint) -> mesh::Endpoint {
    let identity = endpoint.identity.as_ref();
    let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
    mesh::Endpoint {
        address: endpoint.address.to_string(),
        ports: endpoint
            .ports
            .iter()
            .map(|port| mesh::EndpointPort {
                service_port: port.service_port.into(),
                port_on_endpoint: port.port.into(),
                mtls: port.mtls,
                protocol: super::protocol(port.protocol),
            })
            .collect(),
        service_account: text(identity.map(|id| id.service_account())),
        namespace: endpoint.namespace.to_string(),
        workload: endpoint.workload.to_string(),
        region: String::new(),
        zone: endpoint.zone.to_string(),
        weight: 1,
        ready: endpoint.ready,
        terminating: endpoint.terminating,
        trust_domain: text(identity.map(|id| id.trust_domain().as_str())),
    }
}
