//! The endpoint controller's decision: Services and pods → what stands behind each Service port.
//! Pure. EndpointSlices, Service addresses and DNS are three views of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::cluster::{PodState, State};
use crate::network::addresses::Pair;
use crate::workload::{Key, PodTemplate};

/// A Service with its addresses and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Namespace and name.
    pub key: Key,
    /// Its addresses; none for a headless Service.
    pub addresses: Vec<std::net::IpAddr>,
    /// Its ports, in the order written.
    pub ports: Vec<PortNumbers>,
    /// Pods that it selects.
    pub endpoints: Vec<Endpoint>,
    /// Whether it selects pods at all; else the user writes its EndpointSlices.
    pub selects: bool,
}

/// A Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortNumbers {
    /// Name, possibly empty.
    pub name: String,
    /// The Service's number.
    pub number: u16,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// `appProtocol`.
    pub app_protocol: Option<String>,
}

/// A pod behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod.
    pub pod: Key,
    /// The pod's UID.
    pub uid: String,
    /// Its addresses.
    pub addresses: Pair,
    /// Per Service port, the pod's port; `None` where it has no port of the wanted name.
    pub ports: Vec<Option<u16>>,
    /// Passes its readiness probes.
    pub serving: bool,
    /// Being deleted.
    pub terminating: bool,
    /// `spec.hostname`-style name in a headless Service's DNS.
    pub hostname: String,
}

impl Endpoint {
    /// Whether it gets new connections.
    pub fn ready(&self) -> bool {
        self.serving && !self.terminating
    }
}

impl Resolved {
    /// The endpoints that new connections go to: the ready ones, else those that still serve while
    /// they terminate (as kube-proxy has it).
    pub fn targets(&self) -> Vec<&Endpoint> {
        let ready: Vec<_> = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.ready())
            .collect();
        if ready.is_empty() {
            return self
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.serving)
                .collect();
        }
        ready
    }
}

/// Resolves every Service; hands out addresses to those that have none yet.
pub fn resolve(state: &mut State) -> Vec<Resolved> {
    let services: Vec<(Key, Service)> = state
        .desired
        .services
        .iter()
        .map(|(key, service)| (key.clone(), service.clone()))
        .collect();
    services
        .into_iter()
        .map(|(key, service)| {
            let spec = service.spec.unwrap_or_default();
            let addresses = match spec.cluster_ip.as_deref() {
                Some("None") => Vec::new(),
                Some(ip) if !ip.is_empty() => {
                    let all = spec.cluster_ips.unwrap_or_else(|| vec![ip.to_owned()]);
                    all.iter().filter_map(|ip| ip.parse().ok()).collect()
                }
                _ => state.service_addresses.of(&key).both().to_vec(),
            };
            let ports = spec.ports.unwrap_or_default();
            let selector = spec.selector.unwrap_or_default();
            let not_ready_too = spec.publish_not_ready_addresses == Some(true);
            let endpoints = if selector.is_empty() {
                Vec::new()
            } else {
                let pods = state
                    .pods
                    .values()
                    .filter(|pod| selects(&selector, &key, pod));
                pods.map(|pod| endpoint(pod, &ports, not_ready_too))
                    .collect()
            };
            Resolved {
                addresses,
                ports: ports.iter().map(numbers).collect(),
                endpoints,
                selects: !selector.is_empty(),
                key,
            }
        })
        .collect()
}

fn selects(selector: &BTreeMap<String, String>, service: &Key, pod: &PodState) -> bool {
    let labels = &pod.order.template.labels;
    pod.order.key.namespace == service.namespace
        && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
        // A pod without a sandbox has an address that nobody answers at.
        && pod.sandbox.is_some()
}

fn endpoint(pod: &PodState, ports: &[ServicePort], not_ready_too: bool) -> Endpoint {
    let order = &pod.order;
    Endpoint {
        pod: order.key.clone(),
        uid: order.uid.clone(),
        addresses: order.addresses,
        ports: ports
            .iter()
            .map(|port| target(port, &order.template))
            .collect(),
        serving: pod.ready() || not_ready_too,
        terminating: pod.deleting.is_some(),
        hostname: order
            .template
            .hostname
            .clone()
            .unwrap_or_else(|| order.key.name.clone()),
    }
}

fn target(port: &ServicePort, template: &PodTemplate) -> Option<u16> {
    match &port.target_port {
        Some(IntOrString::String(name)) => template.named_port(name),
        Some(IntOrString::Int(number)) if *number != 0 => u16::try_from(*number).ok(),
        _ => u16::try_from(port.port).ok(),
    }
}

fn numbers(port: &ServicePort) -> PortNumbers {
    PortNumbers {
        name: port.name.clone().unwrap_or_default(),
        number: u16::try_from(port.port).unwrap_or(0),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        app_protocol: port.app_protocol.clone(),
    }
}
