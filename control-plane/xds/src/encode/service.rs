//! `Service`.

use weft_compile::resource::{Port, Service};
use weft_proto::mesh;

use super::route::rule;
use super::traffic_policy::traffic_policy;

/// A service as clients of one namespace see it.
pub(crate) fn service(service: &Service) -> mesh::Service {
    mesh::Service {
        namespace: service.namespace.to_string(),
        name: service.name.to_string(),
        addresses: service.addresses.iter().map(ToString::to_string).collect(),
        ports: service.ports.iter().map(port).collect(),
        buckets: service.buckets,
        traffic_policy: service.traffic_policy.as_deref().map(traffic_policy),
    }
}

fn port(port: &Port) -> mesh::Port {
    mesh::Port {
        port: port.port.into(),
        name: port.name.to_string(),
        protocol: super::protocol(port.protocol),
        rules: port.rules.iter().map(rule).collect(),
        routed: port.routed,
    }
}
