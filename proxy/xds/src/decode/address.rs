//! `Address`.

use weft_proto::mesh;
use weft_proto::mesh::address::Target;
use weft_proxy_config::{Invalid, ServiceName};

use super::port;

/// What is behind an address, as the wire has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AddressSpec {
    Service {
        name: ServiceName,
        port: u16,
    },
    /// A pod itself, at a port of its own.
    Workload {
        endpoint: Box<mesh::Endpoint>,
        port: u16,
    },
}

pub(crate) fn address(wire: mesh::Address) -> Result<AddressSpec, Invalid> {
    match wire.target {
        Some(Target::Service(to)) => Ok(AddressSpec::Service {
            port: port("service.port", to.port)?,
            name: ServiceName {
                namespace: to.namespace.into(),
                name: to.name.into(),
            },
        }),
        Some(Target::Workload(to)) => Ok(AddressSpec::Workload {
            port: port("workload.port", to.port)?,
            endpoint: Box::new(
                to.endpoint
                    .ok_or_else(|| Invalid::new("workload.endpoint", "is missing"))?,
            ),
        }),
        None => Err(Invalid::new(
            "target",
            "is of a kind this proxy does not know",
        )),
    }
}
