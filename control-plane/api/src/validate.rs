//! Rules that one typed object must obey by itself, beyond its types.
//!
//! For Weft's kinds these are the rules of the CRDs (CEL, ranges, patterns) but for the lengths of
//! texts, so that a folder and an API server refuse the same objects; for Kubernetes and Gateway
//! API kinds those of the API server that a mesh depends on. Addresses and ports are checked where
//! they are parsed, on the way into the model.

mod kubernetes;
mod names;
mod policy;
mod route;
mod traffic;

use crate::field_path::FieldPath;
use crate::parse::{Fault, FaultReason};
use crate::{ApiObject, Kind};

/// Every rule that the object breaks.
pub(crate) fn validate(object: &ApiObject) -> Vec<Fault> {
    let mut faults = Faults::default();
    names::metadata(object, &mut faults);
    match object {
        ApiObject::Service(service) => kubernetes::service(service, &mut faults),
        ApiObject::Deployment(deployment) => kubernetes::deployment(deployment, &mut faults),
        ApiObject::Pod(pod) => {
            if let Some(spec) = &pod.spec {
                kubernetes::pod_spec(spec, &spec_path(), &mut faults);
            }
        }
        ApiObject::HttpRoute(route) => route::http_route(route, &mut faults),
        ApiObject::GrpcRoute(route) => route::grpc_route(route, &mut faults),
        ApiObject::AuthorizationPolicy(policy) => policy::authorization(policy, &mut faults),
        ApiObject::PeerAuthentication(policy) => policy::peer_authentication(policy, &mut faults),
        ApiObject::TrafficPolicy(policy) => traffic::traffic_policy(policy, &mut faults),
        ApiObject::MeshConfig(config) if config.metadata.name.as_deref() != Some("default") => {
            let field = FieldPath::root().key("metadata").key("name");
            faults.invalid(field, "there is one MeshConfig, and its name is default");
        }
        ApiObject::Namespace(_)
        | ApiObject::ServiceAccount(_)
        | ApiObject::EndpointSlice(_)
        | ApiObject::ConfigMap(_)
        | ApiObject::GatewayClass(_)
        | ApiObject::Gateway(_)
        | ApiObject::ReferenceGrant(_)
        | ApiObject::MeshConfig(_)
        | ApiObject::ClusterIps(_) => {}
    }
    faults.0
}

/// The faults found so far.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn invalid(&mut self, field: FieldPath, message: impl Into<String>) {
        self.0.push(Fault::invalid(field, message));
    }

    fn duplicate(&mut self, field: FieldPath, message: impl Into<String>) {
        self.0.push(Fault {
            field,
            reason: FaultReason::DuplicateValue,
            message: message.into(),
        });
    }

    /// `value` must lie within the bounds.
    fn range<T: PartialOrd + std::fmt::Display>(
        &mut self,
        field: FieldPath,
        value: Option<T>,
        low: T,
        high: T,
    ) {
        if let Some(value) = value
            && (value < low || value > high)
        {
            self.invalid(field, format!("{value} is not between {low} and {high}"));
        }
    }

    /// A list that is there must not be empty, nor longer than `max`.
    fn list<T>(&mut self, field: FieldPath, list: Option<&Vec<T>>, max: usize) {
        match list.map(Vec::len) {
            Some(0) => self.invalid(field, "is empty; leave it out instead"),
            Some(len) if len > max => {
                self.invalid(field, format!("has {len} entries, more than {max}"));
            }
            _ => {}
        }
    }
}

fn spec_path() -> FieldPath {
    FieldPath::root().key("spec")
}

/// Whether the kind's names may hold dots (DNS subdomains rather than labels).
fn allows_dots(kind: Kind) -> bool {
    !matches!(kind, Kind::Namespace | Kind::Service)
}
