//! One pod: what its own proxy needs, and what others need that dial it by its address.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_identity::TrustDomain;
use weft_model::{
    AuthorizationPolicy, FieldPath, Kind, MeshConfig, Object, Pod, ROOT_NAMESPACE, Reason, Spec,
    Transport,
};

use crate::endpoints::identity;
use crate::findings::Findings;
use crate::index::{Index, name_of};
use crate::meshed;
use crate::peer_authentication::modes;
use crate::protocol::{agreed, tcp_ports};
use crate::resource::{
    Authorization, Endpoint, Inbound, InboundPort, PolicyRef, Protocol, Workload,
};
use crate::sharded::Sharded;
use crate::snapshot::{Name, ServiceViews};
use crate::targets::{Hold, hold, pods_in_scope, ports_on_pod, services_of};

/// What a pod's compilation rests on besides the world.
pub(crate) struct Context<'a> {
    pub(crate) index: &'a Index,
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) mesh: &'a MeshConfig,
    pub(crate) services: &'a Sharded<Name, Arc<ServiceViews>>,
    pub(crate) authorizations: &'a Sharded<Name, Arc<Authorization>>,
}

/// A pod, compiled.
pub(crate) struct Compiled {
    /// For those that dial it; `None` where its addresses are not its own.
    pub(crate) workload: Option<Workload>,
    /// For its proxy; `None` where it has none.
    pub(crate) inbound: Option<Inbound>,
}

/// What is known of a port.
#[derive(Default)]
struct Known {
    said: BTreeSet<Protocol>,
    routed: bool,
}

impl Context<'_> {
    /// Compiles a pod; `None` for one that cannot have the identity that it needs.
    pub(crate) fn compile(
        &self,
        object: &Object,
        pod: &Pod,
        findings: &mut Findings,
    ) -> Option<Compiled> {
        let identity = match identity(self.trust_domain, object, pod) {
            Ok(identity) => identity,
            Err(error) => {
                findings.error(
                    object,
                    "spec.serviceAccountName".into(),
                    Reason::InvalidValue,
                    format!("{:?} cannot stand in a SPIFFE ID ({error}), so nobody can call this pod; rename the account", pod.service_account),
                );
                return None;
            }
        };
        let ports = self.ports(object, pod);
        let protocols = || ports.iter().map(|(port, known)| (*port, protocol(known)));
        let endpoints = pod.ips.iter().map(|ip| Endpoint {
            address: *ip,
            ports: Vec::new(),
            identity: identity.clone(),
            namespace: object.key.namespace.clone(),
            workload: pod.workload.clone(),
            zone: pod.zone.clone().unwrap_or_default(),
            // Who dials a pod itself means this pod, ready or not.
            ready: true,
            terminating: pod.terminating,
        });
        let workload = (!pod.host_network).then(|| Workload {
            endpoints: endpoints.collect(),
            ports: protocols().collect(),
        });
        let inbound = pod.meshed.then(|| self.inbound(object, pod, &ports));
        Some(Compiled { workload, inbound })
    }

    fn inbound(&self, object: &Object, pod: &Pod, ports: &BTreeMap<u16, Known>) -> Inbound {
        let modes = modes(self.index, self.mesh, object, pod);
        let listed: BTreeSet<u16> = ports.keys().chain(modes.ports.keys()).copied().collect();
        let nothing = Known::default();
        let port = |port: u16| {
            let known = ports.get(&port).unwrap_or(&nothing);
            InboundPort {
                port,
                protocol: protocol(known),
                routed: known.routed,
                mtls: modes.of(port),
            }
        };
        Inbound {
            namespace: object.key.namespace.clone(),
            pod: object.key.name.clone(),
            service_account: pod.service_account.clone(),
            workload: pod.workload.clone(),
            addresses: pod.ips.clone(),
            mtls: modes.default,
            ports: listed.into_iter().map(port).collect(),
            policies: self.policies(object, pod),
            terminating: pod.terminating,
        }
    }

    /// The TCP ports that the pod's containers declare and that services lead to.
    fn ports(&self, object: &Object, pod: &Pod) -> BTreeMap<u16, Known> {
        let declared = pod
            .ports
            .iter()
            .filter(|port| port.transport == Transport::Tcp);
        let mut ports: BTreeMap<u16, Known> =
            declared.map(|port| (port.port, Known::default())).collect();
        let pod_name = name_of(&object.key);
        for name in services_of(self.index, &object.key, &pod.labels) {
            let (Some((_, service)), Some(views)) =
                (self.index.service(&name), self.services.get(&name))
            else {
                continue;
            };
            let numbers: Vec<_> = tcp_ports(&service.ports).map(|port| port.port).collect();
            for (nth, at_pod) in ports_on_pod(self.index, &name, service, &pod_name, pod) {
                let compiled = numbers
                    .get(nth)
                    .and_then(|number| views.shared.ports.iter().find(|p| p.port == *number));
                if let Some(compiled) = compiled {
                    let known = ports.entry(at_pod).or_default();
                    known.said.insert(compiled.protocol);
                    known.routed |= compiled.routed;
                }
            }
        }
        ports
    }

    /// The policies that hold for the pod: of its own namespace and of the root namespace.
    fn policies(&self, object: &Object, pod: &Pod) -> Vec<PolicyRef> {
        let own = &*object.key.namespace;
        let mut namespaces = vec![own];
        if own != ROOT_NAMESPACE {
            namespaces.push(ROOT_NAMESPACE);
        }
        namespaces.sort_unstable();
        namespaces
            .into_iter()
            .flat_map(|namespace| authorization_policies(self.index, namespace))
            .filter_map(|(policy, spec)| {
                let held = hold(self.index, policy, &spec.targets, object, pod)?;
                let name = name_of(&policy.key);
                let compiled = self.authorizations.get(&name)?;
                Some(PolicyRef {
                    namespace: name.0,
                    name: name.1,
                    ports: match held {
                        Hold::Whole => Vec::new(),
                        Hold::Ports(ports) => ports.into_iter().collect(),
                    },
                    policy: Arc::clone(compiled),
                })
            })
            .collect()
    }
}

/// A port that a route leads to speaks HTTP, whatever else is said about it.
fn protocol(known: &Known) -> Protocol {
    match agreed(known.said.iter().copied()) {
        said if known.routed && !said.is_http() => Protocol::Http,
        said => said,
    }
}

/// The AuthorizationPolicies of a namespace.
pub(crate) fn authorization_policies<'a>(
    index: &'a Index,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a Arc<Object>, &'a AuthorizationPolicy)> {
    index
        .world()
        .in_namespace(Kind::AuthorizationPolicy, namespace)
        .filter_map(|object| match &object.spec {
            Spec::AuthorizationPolicy(policy) => Some((object, policy)),
            _ => None,
        })
}

/// What is to be said about the targets of an AuthorizationPolicy.
pub(crate) fn check_targets(
    index: &Index,
    object: &Object,
    policy: &AuthorizationPolicy,
    findings: &mut Findings,
) {
    use weft_model::PolicyTargets::{Everything, References, Selector};
    let targets = crate::targets::readable(object, &policy.targets);
    if let References(references) = targets {
        for (nth, target) in references.iter().enumerate() {
            check_reference(index, object, target, nth, findings);
        }
    }
    let chosen: Vec<_> = pods_in_scope(index, &object.key.namespace)
        .filter(|(pod_object, pod)| hold(index, object, targets, pod_object, pod).is_some())
        .collect();
    let by = match targets {
        Everything => "spec".into(),
        Selector(_) => "spec.selector".into(),
        References(_) => "spec.targetRefs".into(),
    };
    meshed::check_chosen(index, object, by, chosen, findings);
}

fn check_reference(
    index: &Index,
    object: &Object,
    target: &weft_model::TargetRef,
    nth: usize,
    findings: &mut Findings,
) {
    let at = FieldPath::from("spec.targetRefs").index(nth);
    let name = (object.key.namespace.clone(), target.name.clone());
    if !crate::targets::is_service(target) {
        findings.error(
            object,
            at.field("kind"),
            Reason::InvalidKind,
            format!(
                "{} {:?} cannot be a target; use a Service",
                target.kind, target.group
            ),
        );
        return;
    }
    let Some((_, service)) = index.service(&name) else {
        findings.error(
            object,
            at.field("name"),
            Reason::TargetNotFound,
            format!("there is no Service {}/{}", name.0, name.1),
        );
        return;
    };
    if let Some(section) = &target.section_name
        && !tcp_ports(&service.ports).any(|port| port.name == *section)
    {
        findings.error(
            object,
            at.field("sectionName"),
            Reason::PortNotFound,
            format!(
                "Service {}/{} has no TCP port named {section:?}",
                name.0, name.1
            ),
        );
    }
}
