//! Services, Deployments and pods.

use std::collections::BTreeSet;

use super::{Faults, spec_path};
use crate::field_path::FieldPath;
use crate::kubernetes::{Deployment, IntOrString, LabelSelector, PodSpec, Service, ServicePort};

/// The ports of a Service are in range, named where there are several, and no two are alike.
pub(super) fn service(service: &Service, faults: &mut Faults) {
    let Some(spec) = &service.spec else {
        return;
    };
    let at = spec_path().key("ports");
    let ports = spec.ports.as_deref().unwrap_or_default();
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        service_port(port, &at, faults);
        match &port.name {
            None if ports.len() > 1 => {
                faults.invalid(at.key("name"), "is required when there are several ports");
            }
            Some(name) if !names.insert(name) => {
                faults.duplicate(
                    at.key("name"),
                    format!("a port named {name:?} stands above"),
                );
            }
            _ => {}
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        if !numbers.insert((port.port, protocol)) {
            let message = format!("port {}/{protocol} stands above", port.port);
            faults.duplicate(at.key("port"), message);
        }
    }
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    match kind {
        "ExternalName" if spec.external_name.is_none() => {
            faults.invalid(spec_path().key("externalName"), "is required");
        }
        "ClusterIP" | "NodePort" | "LoadBalancer" if ports.is_empty() => {
            let headless = spec.cluster_ip.as_deref() == Some("None");
            if !headless {
                faults.invalid(at, "a Service needs at least one port");
            }
        }
        "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName" => {}
        other => faults.invalid(
            spec_path().key("type"),
            format!("{other:?} is none of ClusterIP, NodePort, LoadBalancer, ExternalName"),
        ),
    }
}

fn service_port(port: &ServicePort, at: &FieldPath, faults: &mut Faults) {
    faults.range(at.key("port"), Some(port.port), 1, 65535);
    faults.range(at.key("nodePort"), port.node_port, 0, 65535);
    if let Some(IntOrString::Int(number)) = port.target_port {
        faults.range(at.key("targetPort"), Some(number), 1, 65535);
    }
    protocol(port.protocol.as_deref(), at, faults);
}

fn protocol(protocol: Option<&str>, at: &FieldPath, faults: &mut Faults) {
    if let Some(other) = protocol
        && !["TCP", "UDP", "SCTP"].contains(&other)
    {
        let message = format!("{other:?} is none of TCP, UDP, SCTP");
        faults.invalid(at.key("protocol"), message);
    }
}

/// A Deployment has containers and selects its own pods.
pub(super) fn deployment(deployment: &Deployment, faults: &mut Faults) {
    let Some(spec) = &deployment.spec else {
        faults.invalid(spec_path(), "is required");
        return;
    };
    faults.range(spec_path().key("replicas"), spec.replicas, 0, i32::MAX);
    let template = spec_path().key("template");
    match &spec.template.spec {
        Some(pod) => pod_spec(pod, &template.key("spec"), faults),
        None => faults.invalid(template.key("spec"), "is required"),
    }
    let metadata = spec.template.metadata.as_ref();
    let labels = metadata.and_then(|metadata| metadata.labels.as_ref());
    let at = spec_path().key("selector");
    let LabelSelector {
        match_labels,
        match_expressions,
    } = &spec.selector;
    if match_labels.is_none() && match_expressions.is_none() {
        faults.invalid(at, "is empty: it would select every pod");
        return;
    }
    for (key, value) in match_labels.iter().flatten() {
        if labels.and_then(|labels| labels.get(key)) != Some(value) {
            faults.invalid(
                at.key("matchLabels").key(key),
                "the labels of the pod template do not have this one",
            );
        }
    }
}

/// A pod has containers with distinct names and ports in range.
pub(super) fn pod_spec(spec: &PodSpec, at: &FieldPath, faults: &mut Faults) {
    let at = at.key("containers");
    if spec.containers.is_empty() {
        faults.invalid(at.clone(), "a pod needs at least one container");
    }
    let mut names = BTreeSet::new();
    for (index, container) in spec.containers.iter().enumerate() {
        let at = at.index(index);
        if !names.insert(&container.name) {
            let message = format!("a container named {:?} stands above", container.name);
            faults.duplicate(at.key("name"), message);
        }
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let at = at.key("ports").index(index);
            faults.range(at.key("containerPort"), Some(port.container_port), 1, 65535);
            protocol(port.protocol.as_deref(), &at, faults);
        }
    }
}
