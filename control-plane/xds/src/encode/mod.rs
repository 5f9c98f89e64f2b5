//! Resources of compile → messages of the wire, one file each. Total: whatever compile can say has
//! an encoding. Nothing here depends on anything but its argument, so that bytes, and with them
//! versions, are the same on every replica.

mod address;
mod authorization;
mod endpoints;
mod inbound;
mod mesh_config;
mod route;
mod service;
mod traffic_policy;

#[cfg(test)]
mod tests;

pub(crate) use address::address;
pub(crate) use authorization::authorization;
pub(crate) use endpoints::{endpoints, live};
pub(crate) use inbound::inbound;
pub(crate) use mesh_config::mesh_config;
pub(crate) use service::service;

use std::time::Duration;

use weft_compile::resource::Protocol;
use weft_proto::mesh;

fn protocol(protocol: Protocol) -> i32 {
    let wire = match protocol {
        Protocol::Detect => mesh::Protocol::Detect,
        Protocol::Http => mesh::Protocol::Http,
        Protocol::Http1 => mesh::Protocol::Http1,
        Protocol::Http2 => mesh::Protocol::Http2,
        Protocol::Grpc => mesh::Protocol::Grpc,
        Protocol::Tcp => mesh::Protocol::Tcp,
        Protocol::Tls => mesh::Protocol::Tls,
    };
    wire.into()
}

/// A protobuf duration; one beyond its range (10,000 years) becomes the longest.
fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration {
        seconds: 315_576_000_000,
        nanos: 0,
    })
}
