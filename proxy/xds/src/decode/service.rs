//! `Service`.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_proto::mesh;
use weft_proxy_config::{
    Backend, BackendKey, HttpRule, Invalid, Port, Service, ServiceName, WeightedBackendTarget,
};

use super::route::rule;
use super::traffic_policy::traffic_policy;
use super::{each, ips, port, protocol};

/// More endpoints than this times a hundred are beyond what one sidecar should hold.
const MAX_BUCKETS: u32 = 1024;

/// Finds the backend of a key: always the same one.
pub(crate) type Backends<'a> = &'a mut dyn FnMut(BackendKey) -> Arc<Backend>;

/// A service with what it needs of others.
#[derive(Debug, Clone)]
pub(crate) struct ServiceSpec {
    pub service: Arc<Service>,
    pub buckets: u32,
    /// Services that its rules lead to, itself possibly among them.
    pub refers_to: BTreeSet<ServiceName>,
}

pub(crate) fn service(
    name: &ServiceName,
    wire: mesh::Service,
    backends: Backends<'_>,
) -> Result<ServiceSpec, Invalid> {
    if *wire.namespace != *name.namespace || *wire.name != *name.name {
        return Err(Invalid::new("name", "is not the one of the resource"));
    }
    if wire.buckets > MAX_BUCKETS {
        return Err(Invalid::new("buckets", format!("more than {MAX_BUCKETS}")));
    }
    let policy = Arc::new(
        traffic_policy(wire.traffic_policy.unwrap_or_default())
            .map_err(|fault| fault.within("traffic_policy"))?,
    );
    let addresses = ips("addresses", &wire.addresses)?;
    let ports = each("ports", wire.ports, |one| one_port(name, one, backends))?;
    Ok(ServiceSpec {
        refers_to: referred(&ports),
        buckets: wire.buckets,
        service: Arc::new(Service {
            namespace: Arc::clone(&name.namespace),
            name: Arc::clone(&name.name),
            addresses,
            ports,
            policy,
        }),
    })
}

fn one_port(
    service: &ServiceName,
    wire: mesh::Port,
    backends: Backends<'_>,
) -> Result<Port, Invalid> {
    let number = port("port", wire.port)?;
    let rules = each("rules", wire.rules, |one| rule(one, backends))?;
    Ok(Port {
        port: number,
        name: wire.name.into(),
        protocol: protocol(wire.protocol),
        routed: wire.routed || !rules.is_empty(),
        rules,
        own: backends(BackendKey {
            namespace: Arc::clone(&service.namespace),
            name: Arc::clone(&service.name),
            port: number,
        }),
    })
}

fn referred(ports: &[Port]) -> BTreeSet<ServiceName> {
    ports
        .iter()
        .flat_map(|port| &port.rules)
        .flat_map(HttpRule::backends)
        .filter_map(|backend| match &backend.target {
            WeightedBackendTarget::Backend(backend) => Some(ServiceName {
                namespace: Arc::clone(backend.namespace()),
                name: Arc::clone(backend.name()),
            }),
            WeightedBackendTarget::Invalid(_) => None,
        })
        .collect()
}
