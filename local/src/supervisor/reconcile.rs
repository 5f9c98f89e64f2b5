//! The loop that makes the pods what the Deployments say, and publishes what is: objects for the
//! control plane, Service addresses, names. Woken by every change of the state; the only writer of
//! all three.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::{error, info};

use super::cluster::{Cluster, State};
use super::endpoints::{Resolved, resolve};
use super::objects::{Folder, Objects, generate};
use crate::network::dns::{DOMAIN, Names, Zone};
use crate::network::service_nat::{self, Forward};
use crate::pod::lifecycle;
use crate::workload::rollout::{Member, plan};
use crate::workload::{Key, NAME_ALPHABET, PodTemplate};

/// A pod to start.
struct Start {
    key: Key,
    owner: Option<(Key, String)>,
    template: Arc<PodTemplate>,
}

/// Runs until the supervisor ends.
pub async fn run(cluster: Arc<Cluster>, mut folder: Folder, names: Names) -> anyhow::Result<()> {
    let mut changes = cluster.changes();
    let mut pods = JoinSet::new();
    let mut rules = String::new();
    loop {
        let change = *changes.borrow_and_update();
        let (starts, ends) = cluster.read(next_steps);
        for uid in ends {
            cluster.delete(&uid);
        }
        for start in starts {
            let key = start.key.clone();
            match cluster.order(start.key, start.owner, start.template) {
                Some(order) => {
                    info!(pod = %key, ip = %order.addresses.v4, "starting");
                    pods.spawn(lifecycle::run(cluster.clone(), order));
                }
                None => error!(pod = %key, "no address is left"),
            }
        }
        while pods.try_join_next().is_some() {}
        let (objects, zone, wanted) = cluster.quietly(views);
        folder.write(objects)?;
        names.set(zone);
        if wanted != rules {
            match service_nat::apply(&wanted).await {
                Ok(()) => rules = wanted,
                Err(error) => error!("{error:#}"),
            }
        }
        cluster.set_published(change);
        changes.changed().await?;
    }
}

/// Everything that others see of the state.
fn views(state: &mut State) -> (Objects, Zone, String) {
    let services = resolve(state);
    let objects = generate(state, &services);
    let zone = zone(&services);
    let rules = service_nat::ruleset(&forwards(state, &services));
    state.services = services;
    (objects, zone, rules)
}

fn next_steps(state: &State) -> (Vec<Start>, Vec<String>) {
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    if !state.synced {
        return (starts, ends);
    }
    for (key, spec) in &state.desired.deployments {
        let hash = spec
            .template
            .hash(state.restarts.get(key).copied().unwrap_or(0));
        let owned = state.pods.values().filter(|pod| {
            pod.order
                .owner
                .as_ref()
                .is_some_and(|(owner, _)| owner == key)
        });
        let (leaving, present): (Vec<_>, Vec<_>) = owned.partition(|pod| pod.deleting.is_some());
        let members: Vec<Member> = present
            .iter()
            .map(|pod| Member {
                name: pod.order.uid.clone(),
                current: pod.order.owner.as_ref().is_some_and(|(_, of)| *of == hash),
                ready: pod.ready(),
                age: pod.number,
            })
            .collect();
        let plan = plan(spec.replicas, spec.strategy, &members, leaving.len());
        ends.extend(plan.end);
        let template = Arc::new(spec.template.clone());
        starts.extend((0..plan.start).map(|_| Start {
            key: Key::new(&key.namespace, format!("{}-{hash}-{}", key.name, suffix())),
            owner: Some((key.clone(), hash.clone())),
            template: template.clone(),
        }));
    }
    let taken: BTreeSet<&Key> = state.pods.values().map(|pod| &pod.order.key).collect();
    for (key, template) in &state.desired.pods {
        if !taken.contains(key) {
            starts.push(Start {
                key: key.clone(),
                owner: None,
                template: Arc::new(template.clone()),
            });
        }
    }
    for pod in state.pods.values().filter(|pod| pod.deleting.is_none()) {
        let wanted = match &pod.order.owner {
            Some((owner, _)) => state.desired.deployments.contains_key(owner),
            None => state.desired.pods.get(&pod.order.key) == Some(&*pod.order.template),
        };
        if !wanted {
            ends.push(pod.order.uid.clone());
        }
    }
    (starts, ends)
}

/// Five characters, as Kubernetes ends a pod's name.
fn suffix() -> String {
    (0..5)
        .map(|_| char::from(NAME_ALPHABET[rand::random_range(0..NAME_ALPHABET.len())]))
        .collect()
}

fn zone(services: &[Resolved]) -> Zone {
    let mut zone = Zone::new();
    for service in services {
        let name = format!("{}.{}.{DOMAIN}", service.key.name, service.key.namespace);
        if !service.addresses.is_empty() {
            zone.insert(name, service.addresses.clone());
            continue;
        }
        let ready: Vec<_> = service.endpoints.iter().filter(|one| one.ready()).collect();
        for endpoint in &ready {
            let pod = format!("{}.{name}", endpoint.hostname);
            zone.entry(pod)
                .or_default()
                .extend(endpoint.addresses.both());
        }
        zone.insert(
            name,
            ready.iter().flat_map(|one| one.addresses.both()).collect(),
        );
    }
    zone
}

fn forwards(state: &State, services: &[Resolved]) -> Vec<Forward> {
    let mut forwards = Vec::new();
    for service in services {
        for address in &service.addresses {
            for (index, port) in service.ports.iter().enumerate() {
                let targets = if service.selects {
                    pod_targets(service, index, *address)
                } else {
                    written_targets(state, service, &port.name, *address)
                };
                forwards.push(Forward {
                    address: *address,
                    port: port.number,
                    protocol: port.protocol.clone(),
                    targets,
                });
            }
        }
    }
    forwards
}

fn pod_targets(service: &Resolved, port: usize, address: IpAddr) -> Vec<(IpAddr, u16)> {
    let targets = service.targets().into_iter();
    targets
        .filter_map(|endpoint| {
            let [v4, v6] = endpoint.addresses.both();
            let ip = if address.is_ipv4() { v4 } else { v6 };
            Some((ip, endpoint.ports.get(port).copied().flatten()?))
        })
        .collect()
}

/// The endpoints of a Service without selector, from the EndpointSlices that the user wrote.
fn written_targets(
    state: &State,
    service: &Resolved,
    port: &str,
    address: IpAddr,
) -> Vec<(IpAddr, u16)> {
    let label = |labels: &std::collections::BTreeMap<String, String>| {
        labels
            .get("kubernetes.io/service-name")
            .is_some_and(|name| *name == service.key.name)
    };
    let slices = state.desired.endpoint_slices.iter().filter(|(key, slice)| {
        key.namespace == service.key.namespace && slice.metadata.labels.as_ref().is_some_and(label)
    });
    let mut targets = Vec::new();
    for (_, slice) in slices {
        let ports = slice.ports.iter().flatten();
        let number = ports
            .filter(|of| of.name.as_deref().unwrap_or_default() == port)
            .find_map(|of| u16::try_from(of.port?).ok());
        let Some(number) = number else { continue };
        for endpoint in &slice.endpoints {
            let ready = endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready);
            let ips = endpoint
                .addresses
                .iter()
                .filter_map(|ip| ip.parse::<IpAddr>().ok());
            if ready != Some(false) {
                targets.extend(
                    ips.filter(|ip| ip.is_ipv4() == address.is_ipv4())
                        .map(|ip| (ip, number)),
                );
            }
        }
    }
    targets
}
