//! One service as its clients see it: ports with their routes, addresses, traffic policy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use weft_identity::TrustDomain;
use weft_model::{FieldPath, Kind, Object, Reason, ServiceType};

use crate::compiler::Routes;
use crate::endpoints;
use crate::findings::Findings;
use crate::index::{Handle, Index};
use crate::protocol::{declared, tcp_ports};
use crate::resource::{Endpoints, Port, Protocol, Service};
use crate::route::{CompiledRoute, in_precedence, kind_at};
use crate::snapshot::{Name, ServiceViews};
use crate::traffic_policy;

/// A service with its endpoints.
pub(crate) struct Compiled {
    pub(crate) views: ServiceViews,
    pub(crate) buckets: Vec<Arc<Endpoints>>,
}

/// Compiles a service; `None` for one that is not there or not of the mesh (ExternalName).
pub(crate) fn compile(
    index: &Index,
    routes: &Routes,
    trust_domain: &TrustDomain,
    name: &Name,
    findings: &mut Findings,
) -> Option<Compiled> {
    let (object, service) = index.service(name)?;
    if matches!(service.kind, ServiceType::ExternalName(_)) {
        return None;
    }
    for wish in &service.not_followed {
        findings.warning(
            object,
            FieldPath::from("spec").field(wish.field()),
            Reason::UnsupportedValue,
            "is not followed by the proxies of callers in the mesh: they balance over all endpoints",
        );
    }
    let by_namespace = attached(index, routes, name, findings);
    let producer = by_namespace.get(&name.0);
    let ports: Vec<_> = {
        let mut ports: Vec<_> = tcp_ports(&service.ports).collect();
        ports.sort_by_key(|port| port.port);
        ports.dedup_by_key(|port| port.port);
        ports
    };
    let view_of = |own: Option<&ByPort<'_>>| -> Vec<Port> {
        ports
            .iter()
            .map(|port| {
                let attached = own
                    .and_then(|own| own.get(&port.port))
                    .or_else(|| producer.and_then(|producer| producer.get(&port.port)));
                compile_port(port, attached)
            })
            .collect()
    };
    let shared = view_of(None);
    let buckets = endpoints::buckets(index, trust_domain, name, service, &shared);
    let base = Service {
        namespace: name.0.clone(),
        name: name.1.clone(),
        addresses: addresses(index, object, &service.cluster_ips, findings),
        ports: shared,
        // As many as there are endpoints at most: far below 2³².
        buckets: u32::try_from(buckets.len()).unwrap_or(u32::MAX),
        traffic_policy: traffic_policy::in_force(index, name, findings),
    };
    let own = by_namespace
        .iter()
        .filter(|(namespace, _)| **namespace != name.0)
        .map(|(namespace, own)| {
            let view = Service {
                ports: view_of(Some(own)),
                ..base.clone()
            };
            (namespace.clone(), Arc::new(view))
        })
        .collect();
    Some(Compiled {
        views: ServiceViews {
            shared: Arc::new(base),
            own,
        },
        buckets,
    })
}

/// The routes at a port that are in force, all of one kind.
type ByPort<'a> = BTreeMap<u16, Vec<&'a CompiledRoute>>;

/// The routes of a service in force, by their namespace and port. Losers are reported.
fn attached<'a>(
    index: &Index,
    routes: &'a Routes,
    service: &Name,
    findings: &mut Findings,
) -> BTreeMap<Arc<str>, ByPort<'a>> {
    let mut by_namespace: BTreeMap<Arc<str>, ByPort<'a>> = BTreeMap::new();
    for key in index.referrers(&Handle::Parent(service.clone())) {
        let Some(route) = routes.get(key) else {
            continue;
        };
        let ports = by_namespace.entry(key.namespace.clone()).or_default();
        for attachment in route.attachments.iter().filter(|a| a.service == *service) {
            ports.entry(attachment.port).or_default().push(route);
        }
    }
    by_namespace.retain(|_, ports| !ports.is_empty());
    let mut refused = BTreeSet::new();
    for (port, routes) in by_namespace.values_mut().flatten() {
        let kind = kind_at(routes.iter().map(|route| route.key.kind));
        let (kept, lost): (Vec<_>, Vec<_>) = routes
            .iter()
            .copied()
            .partition(|route| Some(route.key.kind) == kind);
        for loser in lost {
            if refused.insert((&loser.key, *port)) {
                refuse(index, service, *port, loser, kept[0], findings);
            }
        }
        *routes = kept;
    }
    by_namespace
}

fn refuse(
    index: &Index,
    service: &Name,
    port: u16,
    loser: &CompiledRoute,
    winner: &CompiledRoute,
    findings: &mut Findings,
) {
    let attachment = loser
        .attachments
        .iter()
        .find(|attachment| attachment.service == *service && attachment.port == port);
    let (Some(attachment), Some(object)) = (attachment, index.world().object(&loser.key)) else {
        return;
    };
    findings.error(
        object,
        FieldPath::from("spec.parentRefs").index(attachment.parent),
        Reason::Conflicted,
        format!(
            "port {port} of Service {}/{} has {}, and a port takes one kind of route; this one has no effect there",
            service.0, service.1, winner.key
        ),
    );
}

fn compile_port(port: &weft_model::ServicePort, routes: Option<&Vec<&CompiledRoute>>) -> Port {
    let declared = declared(port);
    let kind = routes.and_then(|routes| kind_at(routes.iter().map(|route| route.key.kind)));
    let protocol = match kind {
        Some(Kind::GrpcRoute) => Protocol::Grpc,
        Some(_) if !declared.is_http() => Protocol::Http,
        _ => declared,
    };
    Port {
        port: port.port,
        name: port.name.clone(),
        protocol,
        rules: routes.map_or_else(|| Arc::from([]), |routes| in_precedence(routes).into()),
        routed: routes.is_some(),
    }
}

/// The addresses that are this service's own. Of several services with one address the oldest has
/// it.
fn addresses(
    index: &Index,
    object: &Object,
    claimed: &[IpAddr],
    findings: &mut Findings,
) -> Vec<IpAddr> {
    let mut own = BTreeSet::new();
    for (nth, address) in claimed.iter().enumerate() {
        match owner(index, *address) {
            Some(owner) if owner.key == object.key => {
                own.insert(*address);
            }
            Some(owner) => findings.error(
                object,
                FieldPath::from("spec.clusterIPs").index(nth),
                Reason::Conflicted,
                format!(
                    "{} is older and has {address}; choose another address",
                    owner.key
                ),
            ),
            None => {}
        }
    }
    own.into_iter().collect()
}

/// The service that has an address.
pub(crate) fn owner(index: &Index, address: IpAddr) -> Option<&Arc<Object>> {
    index
        .referring(&Handle::ServiceAt(address))
        .min_by(|a, b| a.seniority().cmp(&b.seniority()))
}
