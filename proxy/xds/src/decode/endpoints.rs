//! `Endpoints`, and the endpoint within an `Address`.

use std::net::IpAddr;
use std::sync::Arc;

use weft_identity::{SpiffeId, TrustDomain};
use weft_proto::mesh;
use weft_proxy_config::{Endpoint, EndpointPort, EndpointState, Invalid, Locality};

use super::{each, ip, port, protocol};

/// Finds the state that belongs to an address of the service in question.
pub(crate) type States<'a> = &'a mut dyn FnMut(IpAddr) -> Arc<EndpointState>;

pub(crate) fn endpoints(
    wire: mesh::Endpoints,
    states: States<'_>,
) -> Result<Vec<Arc<Endpoint>>, Invalid> {
    each("endpoints", wire.endpoints, |one| {
        endpoint(one, states).map(Arc::new)
    })
}

pub(super) fn endpoint(wire: mesh::Endpoint, states: States<'_>) -> Result<Endpoint, Invalid> {
    let address = ip("address", &wire.address)?;
    let identity = identity(&wire)?;
    Ok(Endpoint {
        address,
        ports: each("ports", wire.ports, |one| {
            Ok(EndpointPort {
                service_port: u16::try_from(one.service_port)
                    .map_err(|_| Invalid::new("service_port", "is no port"))?,
                port: port("port_on_endpoint", one.port_on_endpoint)?,
                mtls: mtls(one.mtls, identity.as_ref())?,
                protocol: protocol(one.protocol),
            })
        })?
        .into(),
        identity,
        namespace: wire.namespace.into(),
        workload: wire.workload.into(),
        locality: Locality {
            region: wire.region.into(),
            zone: wire.zone.into(),
        },
        weight: wire.weight.max(1),
        ready: wire.ready,
        terminating: wire.terminating,
        state: states(address),
    })
}

/// mTLS without an identity could only be mTLS with anybody.
fn mtls(mtls: bool, identity: Option<&SpiffeId>) -> Result<bool, Invalid> {
    if mtls && identity.is_none() {
        return Err(Invalid::new("mtls", "needs the endpoint's service account"));
    }
    Ok(mtls)
}

fn identity(wire: &mesh::Endpoint) -> Result<Option<SpiffeId>, Invalid> {
    if wire.service_account.is_empty() {
        return Ok(None);
    }
    let domain = TrustDomain::new(&wire.trust_domain)
        .map_err(|error| Invalid::new("trust_domain", error))?;
    SpiffeId::new(&domain, &wire.namespace, &wire.service_account)
        .map(Some)
        .map_err(|error| Invalid::new("service_account", error))
}

/// The endpoint of a pod's own address: its one port is `at`. A port that is not listed is spoken to by
/// mTLS if the pod has an identity: the mesh never falls back to plaintext.
pub(crate) fn workload(
    wire: mesh::Endpoint,
    at: u16,
    states: States<'_>,
) -> Result<Endpoint, Invalid> {
    let mut endpoint = endpoint(wire, states).map_err(|fault| fault.within("workload.endpoint"))?;
    let listed = endpoint.ports.iter().copied().find(|port| port.port == at);
    let port = listed.unwrap_or(EndpointPort {
        service_port: 0,
        port: at,
        mtls: endpoint.identity.is_some(),
        protocol: weft_proxy_config::Protocol::Detect,
    });
    endpoint.ports = [EndpointPort {
        service_port: 0,
        ..port
    }]
    .into_iter()
    .collect();
    Ok(endpoint)
}
