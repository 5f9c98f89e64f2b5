//! Which pods a service or a policy means.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::{
    Labels, Object, ObjectKey, Pod, PolicyTargets, ROOT_NAMESPACE, Service, Spec, TargetPort,
    TargetRef, Transport,
};

use crate::index::{Handle, Index, name_of};
use crate::protocol::tcp_ports;
use crate::snapshot::Name;

/// Whether `labels` has all of `wanted`.
pub(crate) fn selects(wanted: &Labels, labels: &Labels) -> bool {
    wanted
        .iter()
        .all(|(label, value)| labels.get(label) == Some(value))
}

/// The services that lead to a pod, by their selector or by an EndpointSlice.
pub(crate) fn services_of(index: &Index, pod: &ObjectKey, labels: &Labels) -> BTreeSet<Name> {
    let name = name_of(pod);
    let by_selector = labels
        .iter()
        .flat_map(|(label, value)| {
            let handle =
                Handle::Selector(pod.namespace.clone(), label.clone(), value.clone());
            index.referring(&handle)
        })
        .filter(|object| matches!(&object.spec, Spec::Service(service) if selects(&service.selector, labels)))
        .map(|object| name_of(&object.key));
    let by_slice = index
        .referring(&Handle::SliceWith(name))
        .filter_map(|object| match &object.spec {
            Spec::EndpointSlice(slice) => {
                Some((object.key.namespace.clone(), slice.service.clone()))
            }
            _ => None,
        });
    by_selector.chain(by_slice).collect()
}

/// The pods that a service leads to.
pub(crate) fn pods_of(index: &Index, service: &Name) -> BTreeSet<Name> {
    let mut pods = BTreeSet::new();
    if let Some((_, spec)) = index.service(service)
        && !spec.selector.is_empty()
    {
        let chosen = index
            .pods_in(&service.0)
            .filter(|(_, pod)| selects(&spec.selector, &pod.labels));
        pods.extend(chosen.map(|(object, _)| name_of(&object.key)));
    }
    for object in index.referring(&Handle::SliceOf(service.clone())) {
        if let Spec::EndpointSlice(slice) = &object.spec {
            let named = slice.endpoints.iter().filter_map(|e| e.pod.clone());
            pods.extend(named.map(|pod| (service.0.clone(), pod)));
        }
    }
    pods
}

/// The pods that any of `services` leads to. Of many services it is cheaper to ask each pod.
pub(crate) fn pods_of_any(index: &Index, services: &BTreeSet<Name>) -> BTreeSet<Name> {
    const MANY: usize = 8;
    if services.len() <= MANY {
        return services
            .iter()
            .flat_map(|name| pods_of(index, name))
            .collect();
    }
    let namespaces: BTreeSet<_> = services.iter().map(|(namespace, _)| namespace).collect();
    namespaces
        .into_iter()
        .flat_map(|namespace| index.pods_in(namespace))
        .filter(|(object, pod)| !services_of(index, &object.key, &pod.labels).is_disjoint(services))
        .map(|(object, _)| name_of(&object.key))
        .collect()
}

/// Where a service's ports are found on a pod: (position among the service's ports, number on the
/// pod). By the selector, so that a policy holds before the first EndpointSlice is there, and by
/// the slices.
pub(crate) fn ports_on_pod(
    index: &Index,
    service_name: &Name,
    service: &Service,
    pod_name: &Name,
    pod: &Pod,
) -> BTreeSet<(usize, u16)> {
    let mut found = BTreeSet::new();
    if service_name.0 != pod_name.0 {
        return found;
    }
    let tcp = || tcp_ports(&service.ports).enumerate();
    if !service.selector.is_empty() && selects(&service.selector, &pod.labels) {
        found.extend(tcp().filter_map(|(nth, port)| {
            match &port.target {
                TargetPort::Number(number) => Some((nth, *number)),
                TargetPort::Name(name) => pod
                    .ports
                    .iter()
                    .find(|port| port.name == *name && port.transport == Transport::Tcp)
                    .map(|port| (nth, port.port)),
            }
        }));
    }
    for object in index.referring(&Handle::SliceWith(pod_name.clone())) {
        let Spec::EndpointSlice(slice) = &object.spec else {
            continue;
        };
        if slice.service != service_name.1 {
            continue;
        }
        for (nth, port) in tcp() {
            let at_pod = slice
                .ports
                .iter()
                .filter(|there| there.name == port.name && there.transport == Transport::Tcp);
            found.extend(at_pod.map(|there| (nth, there.port)));
        }
    }
    found
}

/// Whether a target reference means a Service.
pub(crate) fn is_service(target: &TargetRef) -> bool {
    target.group.is_empty() && *target.kind == *"Service"
}

/// The ports of `pod` that `target`, of a policy in `namespace`, means.
pub(crate) fn ports_of_target(
    index: &Index,
    namespace: &std::sync::Arc<str>,
    target: &TargetRef,
    pod_name: &Name,
    pod: &Pod,
) -> BTreeSet<u16> {
    let name = (namespace.clone(), target.name.clone());
    let service = index.service(&name).filter(|_| is_service(target));
    let Some((_, service)) = service else {
        return BTreeSet::new();
    };
    let section = |nth: usize| {
        let port = tcp_ports(&service.ports).nth(nth);
        target.section_name.is_none() || port.map(|port| &port.name) == target.section_name.as_ref()
    };
    ports_on_pod(index, &name, service, pod_name, pod)
        .into_iter()
        .filter(|(nth, _)| section(*nth))
        .map(|(_, number)| number)
        .collect()
}

/// How a policy means a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// On all its ports.
    Whole,
    /// On these ports.
    Ports(BTreeSet<u16>),
}

/// The targets that a policy has in force: where they could not be read, its whole namespace.
pub(crate) fn readable<'a>(policy: &Object, targets: &'a PolicyTargets) -> &'a PolicyTargets {
    let parts = ["spec.selector", "spec.targetRefs"].map(weft_model::FieldPath::from);
    let unreadable = policy.problems.iter().any(|problem| {
        parts
            .iter()
            .any(|part| problem.field.is_within(part) || part.is_within(&problem.field))
    });
    if unreadable {
        &PolicyTargets::Everything
    } else {
        targets
    }
}

/// The pods that policies of a namespace can mean: all of the mesh for the root namespace.
pub(crate) fn pods_in_scope<'a>(
    index: &'a Index,
    namespace: &'a str,
) -> Box<dyn Iterator<Item = (&'a Arc<Object>, &'a Pod)> + 'a> {
    if namespace == ROOT_NAMESPACE {
        Box::new(index.pods())
    } else {
        Box::new(index.pods_in(namespace))
    }
}

/// Whether a policy means a pod, and how.
pub(crate) fn hold(
    index: &Index,
    policy: &Object,
    targets: &PolicyTargets,
    pod_object: &Object,
    pod: &Pod,
) -> Option<Hold> {
    let own = policy.key.namespace == pod_object.key.namespace;
    if !own && *policy.key.namespace != *ROOT_NAMESPACE {
        return None;
    }
    match readable(policy, targets) {
        PolicyTargets::Everything => Some(Hold::Whole),
        PolicyTargets::Selector(wanted) => selects(wanted, &pod.labels).then_some(Hold::Whole),
        PolicyTargets::References(targets) => {
            let name = name_of(&pod_object.key);
            let namespace = &policy.key.namespace;
            let ports: BTreeSet<_> = targets
                .iter()
                .flat_map(|target| ports_of_target(index, namespace, target, &name, pod))
                .collect();
            (!ports.is_empty()).then_some(Hold::Ports(ports))
        }
    }
}
