//! `Address`: who is behind an address and port.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::endpoints::Endpoint;
use super::service::Protocol;

/// Who is behind an address and port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Address {
    /// A port of a service.
    Service {
        /// The service's namespace.
        namespace: Arc<str>,
        /// The service's name.
        name: Arc<str>,
        /// The service's port.
        port: u16,
    },
    /// A pod itself; its endpoint has exactly one port, the one asked for, with
    /// `service_port` 0.
    Workload(Endpoint),
}

/// A pod as it is dialled by its own address, on any port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// The pod's endpoint at each of its addresses, without ports.
    pub endpoints: Vec<Endpoint>,
    /// What is known of its TCP ports, ascending.
    pub ports: Vec<(u16, Protocol)>,
}

impl Workload {
    /// The pod's `port` at its address `ip`. A port of which nothing is known is detected.
    #[must_use]
    pub fn at(&self, ip: IpAddr, port: u16) -> Option<Address> {
        let mut endpoint = self.endpoints.iter().find(|e| e.address == ip)?.clone();
        let protocol = self
            .ports
            .iter()
            .find(|(known, _)| *known == port)
            .map_or(Protocol::Detect, |(_, protocol)| *protocol);
        endpoint.ports = vec![super::EndpointPort {
            service_port: 0,
            port,
            mtls: endpoint.identity.is_some(),
            protocol,
        }];
        Some(Address::Workload(endpoint))
    }
}
