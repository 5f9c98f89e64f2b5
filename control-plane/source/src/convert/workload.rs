//! Kubernetes' own objects, projected to what a mesh needs of them.

use std::net::IpAddr;
use std::sync::Arc;

use weft_api::FieldPath;
use weft_api::kubernetes as k8s;
use weft_api::kubernetes::{IntOrString, ObjectMeta};
use weft_model::membership::{INJECT, INJECTED, MIRROR, STATUS, asked_by_pod};
use weft_model::{
    ContainerPort, Endpoint, EndpointPort, EndpointSlice, Labels, Namespace, NotFollowed, Pod,
    Service, ServicePort, ServiceType, TargetPort, Transport,
};

use super::{Faults, labels, port, spec_path, text};

pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(super) fn namespace(namespace: &k8s::Namespace) -> Namespace {
    Namespace {
        labels: labels(namespace.metadata.labels.as_ref()),
        annotations: annotations(&namespace.metadata),
    }
}

pub(super) fn service(service: &k8s::Service, faults: &mut Faults) -> Service {
    let empty = k8s::ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let kind = match spec.type_.as_deref() {
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => {
            ServiceType::ExternalName(spec.external_name.as_deref().unwrap_or("").into())
        }
        _ => ServiceType::ClusterIp,
    };
    Service {
        kind,
        cluster_ips: cluster_ips(spec, faults),
        headless: spec.cluster_ip.as_deref() == Some("None"),
        ports: spec
            .ports
            .iter()
            .flatten()
            .filter_map(service_port)
            .collect(),
        selector: labels(spec.selector.as_ref()),
        annotations: annotations(&service.metadata),
        not_followed: not_followed(spec),
    }
}

fn not_followed(spec: &k8s::ServiceSpec) -> Vec<NotFollowed> {
    let local = Some("Local");
    let wishes = [
        (
            NotFollowed::SessionAffinity,
            spec.session_affinity.as_deref() == Some("ClientIP"),
        ),
        (
            NotFollowed::InternalTrafficPolicy,
            spec.internal_traffic_policy.as_deref() == local,
        ),
        (
            NotFollowed::TrafficDistribution,
            spec.traffic_distribution.is_some(),
        ),
    ];
    let said = wishes.into_iter().filter(|(_, is_said)| *is_said);
    said.map(|(wish, _)| wish).collect()
}

fn cluster_ips(spec: &k8s::ServiceSpec, faults: &mut Faults) -> Vec<IpAddr> {
    let is_address = |text: &&String| !text.is_empty() && *text != "None";
    let several = spec.cluster_ips.as_deref().unwrap_or_default();
    if let Some(one) = spec
        .cluster_ip
        .as_ref()
        .filter(is_address)
        .filter(|_| several.is_empty())
    {
        return faults
            .address(one, spec_path().key("clusterIP"))
            .into_iter()
            .collect();
    }
    let at = spec_path().key("clusterIPs");
    let addresses = several
        .iter()
        .enumerate()
        .filter(|(_, text)| is_address(text));
    addresses
        .filter_map(|(index, text)| faults.address(text, at.index(index)))
        .collect()
}

fn service_port(service_port: &k8s::ServicePort) -> Option<ServicePort> {
    let number = port(service_port.port)?;
    let target = match &service_port.target_port {
        Some(IntOrString::Int(0)) | None => TargetPort::Number(number),
        Some(IntOrString::Int(target)) => TargetPort::Number(port(*target)?),
        Some(IntOrString::String(name)) => match name.parse() {
            Ok(target) => TargetPort::Number(target),
            Err(_) => TargetPort::Name(name.as_str().into()),
        },
    };
    Some(ServicePort {
        name: service_port.name.as_deref().unwrap_or("").into(),
        port: number,
        target,
        transport: transport(service_port.protocol.as_deref())?,
        app_protocol: text(&service_port.app_protocol),
    })
}

/// SCTP is never read.
fn transport(protocol: Option<&str>) -> Option<Transport> {
    match protocol.unwrap_or("TCP") {
        "TCP" => Some(Transport::Tcp),
        "UDP" => Some(Transport::Udp),
        _ => None,
    }
}

pub(super) fn endpoint_slice(slice: &k8s::EndpointSlice, faults: &mut Faults) -> EndpointSlice {
    let at = FieldPath::root().key("endpoints");
    let endpoints = slice.endpoints.iter().enumerate();
    let mut found = Vec::new();
    for (index, entry) in endpoints.filter(|_| slice.address_type != "FQDN") {
        found.extend(endpoint(entry, &at.index(index), faults));
    }
    let at = FieldPath::root().key("ports");
    let ports = slice.ports.iter().flatten().enumerate();
    EndpointSlice {
        service: label(&slice.metadata, SERVICE_NAME_LABEL)
            .unwrap_or("")
            .into(),
        endpoints: found,
        ports: ports
            .filter_map(|(index, port)| {
                Some(EndpointPort {
                    name: port.name.as_deref().unwrap_or("").into(),
                    port: faults.port(port.port?, at.index(index).key("port"))?,
                    transport: transport(port.protocol.as_deref())?,
                    app_protocol: text(&port.app_protocol),
                })
            })
            .collect(),
    }
}

fn endpoint(endpoint: &k8s::Endpoint, at: &FieldPath, faults: &mut Faults) -> Option<Endpoint> {
    let at = at.key("addresses");
    let Some(address) = endpoint.addresses.first() else {
        faults.invalid(at, "is empty");
        return None;
    };
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions
        .and_then(|conditions| conditions.ready)
        .unwrap_or(true);
    let pod = endpoint.target_ref.as_ref();
    let pod = pod.filter(|target| target.kind.as_deref() == Some("Pod"));
    Some(Endpoint {
        address: faults.address(address, at.index(0))?,
        ready,
        serving: conditions
            .and_then(|conditions| conditions.serving)
            .unwrap_or(ready),
        terminating: conditions
            .and_then(|conditions| conditions.terminating)
            .unwrap_or(false),
        pod: pod.and_then(|target| text(&target.name)),
        zone: text(&endpoint.zone),
    })
}

pub(super) fn pod(pod: &k8s::Pod, faults: &mut Faults) -> Pod {
    let empty = (k8s::PodSpec::default(), k8s::PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&empty.0);
    let status = pod.status.as_ref().unwrap_or(&empty.1);
    let containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let account = spec
        .service_account_name
        .as_deref()
        .or(spec.service_account.as_deref());
    let conditions = status.conditions.iter().flatten();
    Pod {
        labels: labels(pod.metadata.labels.as_ref()),
        ips: pod_ips(status, faults),
        service_account: account
            .filter(|name| !name.is_empty())
            .unwrap_or("default")
            .into(),
        uid: pod.metadata.uid.as_deref().unwrap_or("").into(),
        ports: ports.filter_map(container_port).collect(),
        ready: conditions
            .filter(|condition| condition.type_ == "Ready")
            .any(|condition| condition.status == "True"),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        meshed: annotation(&pod.metadata, STATUS) == Some(INJECTED),
        asks_for_mesh: asks_for_mesh(&pod.metadata),
        workload: workload_name(&pod.metadata),
        host_network: spec.host_network.unwrap_or(false),
        zone: None,
    }
}

/// Another value is refused where pods are made. A pod that the kubelet reads from a file is shown to
/// no webhook.
fn asks_for_mesh(metadata: &ObjectMeta) -> Option<bool> {
    if annotation(metadata, MIRROR).is_some() {
        return Some(false);
    }
    asked_by_pod(label(metadata, INJECT), annotation(metadata, INJECT)).unwrap_or(None)
}

fn pod_ips(status: &k8s::PodStatus, faults: &mut Faults) -> Vec<IpAddr> {
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Vec::new();
    }
    let at = FieldPath::root().key("status");
    let several = status.pod_ips.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    for (index, entry) in several.iter().enumerate() {
        let at = at.key("podIPs").index(index).key("ip");
        found.extend(faults.address(&entry.ip, at));
    }
    if several.is_empty()
        && let Some(one) = status.pod_ip.as_deref().filter(|ip| !ip.is_empty())
    {
        found.extend(faults.address(one, at.key("podIP")));
    }
    found
}

fn container_port(entry: &k8s::ContainerPort) -> Option<ContainerPort> {
    Some(ContainerPort {
        name: entry.name.as_deref().unwrap_or("").into(),
        port: port(entry.container_port)?,
        transport: transport(entry.protocol.as_deref())?,
    })
}

/// What made the pod, by name: for the ReplicaSet of a Deployment the Deployment.
fn workload_name(metadata: &ObjectMeta) -> Arc<str> {
    let owners = metadata.owner_references.iter().flatten();
    let owner = owners.max_by_key(|owner| owner.controller == Some(true));
    let own = metadata.name.as_deref().unwrap_or("");
    let name = match owner {
        Some(owner) if owner.kind == "ReplicaSet" => {
            let hash = label(metadata, "pod-template-hash");
            let without = hash.and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
            without.unwrap_or(&owner.name)
        }
        Some(owner) => &owner.name,
        None => own,
    };
    name.into()
}

fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// All annotations but kubectl's copy of the whole object.
fn annotations(metadata: &ObjectMeta) -> Labels {
    let mut found = labels(metadata.annotations.as_ref());
    found.remove(LAST_APPLIED_ANNOTATION);
    found
}

fn annotation<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}
