//! YAML types → model. Total: what has no meaning in the model is left out, and named in a fault
//! unless `weft-api` named it already (ranges and enums are its business, addresses are ours).

mod gateway;
mod policy;
mod route;
mod traffic;
pub(crate) mod workload;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weft_api::{ApiObject, Fault, FieldPath};
use weft_model::{Labels, Spec, TargetRef};

/// The model's form of the object, and what of it could not be read. Deployments, ConfigMaps
/// and ClusterIPs have none: the first two are for whoever runs pods, the last become part of
/// Services.
pub(crate) fn convert(object: &ApiObject) -> (Option<Spec>, Vec<Fault>) {
    let mut faults = Faults(Vec::new());
    let spec = match object {
        ApiObject::Namespace(namespace) => Some(Spec::Namespace(workload::namespace(namespace))),
        ApiObject::ServiceAccount(_) => {
            Some(Spec::ServiceAccount(weft_model::ServiceAccount::default()))
        }
        ApiObject::Service(service) => Some(Spec::Service(workload::service(service, &mut faults))),
        ApiObject::EndpointSlice(slice) => Some(Spec::EndpointSlice(workload::endpoint_slice(
            slice,
            &mut faults,
        ))),
        ApiObject::Pod(pod) => Some(Spec::Pod(workload::pod(pod, &mut faults))),
        ApiObject::GatewayClass(class) => Some(Spec::GatewayClass(gateway::class(class))),
        ApiObject::Gateway(object) => Some(Spec::Gateway(gateway::gateway(object))),
        ApiObject::ReferenceGrant(grant) => Some(Spec::ReferenceGrant(gateway::grant(grant))),
        ApiObject::HttpRoute(route) => Some(Spec::HttpRoute(route::http(route, &mut faults))),
        ApiObject::GrpcRoute(route) => Some(Spec::GrpcRoute(route::grpc(route, &mut faults))),
        ApiObject::AuthorizationPolicy(policy) => Some(Spec::AuthorizationPolicy(
            policy::authorization(policy, &mut faults),
        )),
        ApiObject::PeerAuthentication(policy) => Some(Spec::PeerAuthentication(
            policy::peer_authentication(policy),
        )),
        ApiObject::TrafficPolicy(policy) => Some(Spec::TrafficPolicy(Box::new(
            traffic::traffic_policy(policy),
        ))),
        ApiObject::MeshConfig(config) => {
            Some(Spec::MeshConfig(policy::mesh_config(config, &mut faults)))
        }
        ApiObject::Deployment(_) | ApiObject::ConfigMap(_) | ApiObject::ClusterIps(_) => None,
    };
    (spec, faults.0)
}

/// What could not be converted.
struct Faults(Vec<Fault>);

impl Faults {
    fn invalid(&mut self, field: FieldPath, message: impl Into<String>) {
        self.0.push(Fault::invalid(field, message));
    }

    fn address(&mut self, text: &str, at: FieldPath) -> Option<IpAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            self.invalid(at, format!("{text:?} is not an IP address"));
        }
        address
    }

    /// A CIDR block, or an address that stands for itself. A block with host bits is refused: it
    /// is more often a slip of the prefix than meant so.
    fn block(&mut self, text: &str, at: FieldPath) -> Option<IpNet> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(IpNet::from(address));
        }
        match text.parse::<IpNet>() {
            Ok(block) if block == block.trunc() => Some(block),
            Ok(block) => {
                let meant = block.trunc();
                self.invalid(
                    at,
                    format!("{text:?} has bits beyond its prefix; did you mean {meant}?"),
                );
                None
            }
            Err(_) => {
                self.invalid(
                    at,
                    format!("{text:?} is not an address nor a CIDR block like 10.0.0.0/8"),
                );
                None
            }
        }
    }

    fn blocks(&mut self, list: Option<&Vec<String>>, at: &FieldPath) -> Vec<IpNet> {
        let blocks = list.into_iter().flatten().enumerate();
        blocks
            .filter_map(|(index, text)| self.block(text, at.index(index)))
            .collect()
    }

    fn port(&mut self, number: i32, at: FieldPath) -> Option<u16> {
        let port = port(number);
        if port.is_none() {
            self.invalid(at, format!("{number} is not between 1 and 65535"));
        }
        port
    }
}

/// A port number that `weft-api` has checked, or nothing.
fn port(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

fn text(text: &Option<String>) -> Option<Arc<str>> {
    text.as_deref().map(Arc::from)
}

fn texts(list: Option<&Vec<String>>) -> Vec<Arc<str>> {
    list.into_iter()
        .flatten()
        .map(|text| text.as_str().into())
        .collect()
}

fn labels(labels: Option<&BTreeMap<String, String>>) -> Labels {
    let pairs = labels.into_iter().flatten();
    pairs
        .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
        .collect()
}

fn target_refs(targets: &[weft_api::target::TargetRef]) -> Vec<TargetRef> {
    let target = |target: &weft_api::target::TargetRef| TargetRef {
        group: target.group.as_deref().unwrap_or("").into(),
        kind: target.kind.as_deref().unwrap_or("Service").into(),
        name: target.name.as_str().into(),
        section_name: text(&target.section_name),
    };
    targets.iter().map(target).collect()
}

fn spec_path() -> FieldPath {
    FieldPath::root().key("spec")
}
