//! Wire → validated configuration, one file per resource. A resource that cannot be read safely is an
//! [`Invalid`] with the field that is at fault; only what is advisory may be read in part.

mod address;
mod authorization;
mod endpoints;
mod inbound;
mod mesh_config;
mod route;
mod service;
mod traffic_policy;
mod trust_bundle;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use prost::Message;
use weft_proto::mesh;
use weft_proxy_config::{Invalid, Protocol};

pub(crate) use address::{AddressSpec, address};
pub(crate) use authorization::authorization;
pub(crate) use endpoints::{endpoints, workload};
pub(crate) use inbound::{InboundSpec, PolicyRef, inbound};
pub(crate) use mesh_config::mesh_config;
pub(crate) use service::{ServiceSpec, service};
pub(crate) use trust_bundle::trust_bundle;

/// Reads the bytes of a resource.
pub(crate) fn message<M: Message + Default>(bytes: &[u8]) -> Result<M, Invalid> {
    M::decode(bytes).map_err(|error| Invalid::new("", error))
}

fn ip(field: &str, text: &str) -> Result<IpAddr, Invalid> {
    text.parse()
        .map_err(|_| Invalid::new(field, format!("{text:?} is no IP address")))
}

fn ips(field: &str, texts: &[String]) -> Result<Vec<IpAddr>, Invalid> {
    texts
        .iter()
        .enumerate()
        .map(|(i, text)| ip(&format!("{field}[{i}]"), text))
        .collect()
}

/// A port; 0 is none.
fn port(field: &str, number: u32) -> Result<u16, Invalid> {
    match u16::try_from(number) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(Invalid::new(field, format!("{number} is no port"))),
    }
}

fn duration(field: &str, wire: Option<prost_types::Duration>) -> Result<Option<Duration>, Invalid> {
    wire.map(|wire| {
        Duration::try_from(wire).map_err(|_| Invalid::new(field, "is no duration, or negative"))
    })
    .transpose()
}

/// A protocol that this proxy does not know is found out per connection.
fn protocol(wire: i32) -> Protocol {
    use mesh::Protocol as Wire;
    match Wire::try_from(wire).unwrap_or(Wire::Unspecified) {
        Wire::Unspecified | Wire::Detect => Protocol::Detect,
        Wire::Http => Protocol::Http,
        Wire::Http1 => Protocol::Http1,
        Wire::Http2 => Protocol::Http2,
        Wire::Grpc => Protocol::Grpc,
        Wire::Tcp => Protocol::Tcp,
        Wire::Tls => Protocol::Tls,
    }
}

/// Decodes each of `wire`, naming the one that is at fault.
fn each<W, T>(
    field: &str,
    wire: Vec<W>,
    mut decode: impl FnMut(W) -> Result<T, Invalid>,
) -> Result<Vec<T>, Invalid> {
    wire.into_iter()
        .enumerate()
        .map(|(i, one)| decode(one).map_err(|fault| fault.within(format!("{field}[{i}]"))))
        .collect()
}
