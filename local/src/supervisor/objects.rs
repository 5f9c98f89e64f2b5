//! The objects that a cluster would hold and the user does not write: Pods, EndpointSlices, and the
//! addresses of Services. They go into the generated folder, one file each, for the control plane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use weft_api::GENERATED_ANNOTATION;
use weft_inject::names::{INJECTED, STATUS};

use super::cluster::{PodState, State};
use super::endpoints::{Endpoint, Resolved};
use crate::workload::name_hash;

/// File name → object.
pub type Objects = BTreeMap<String, Value>;

/// All generated objects.
pub fn generate(state: &State, services: &[Resolved]) -> Objects {
    let mut objects = Objects::new();
    objects.insert("cluster-ips.yaml".to_owned(), cluster_ips(services));
    for pod in state.pods.values() {
        // Another pod of that name may still be leaving.
        if state
            .pod(&pod.order.key)
            .is_some_and(|other| other.order.uid == pod.order.uid)
        {
            let key = &pod.order.key;
            objects.insert(
                format!("pod.{}.{}.yaml", key.namespace, key.name),
                pod_object(pod),
            );
        }
    }
    for service in services.iter().filter(|service| service.selects) {
        for slice in endpoint_slices(service) {
            let name = slice["metadata"]["name"].as_str().unwrap_or_default();
            let file = format!("endpointslice.{}.{name}.yaml", service.key.namespace);
            objects.insert(file, slice);
        }
    }
    objects
}

fn cluster_ips(services: &[Resolved]) -> Value {
    let assigned: Map<String, Value> = services
        .iter()
        .filter(|service| !service.addresses.is_empty())
        .map(|service| (service.key.to_string(), json!(service.addresses)))
        .collect();
    json!({
        "apiVersion": "local.weft.dev/v1",
        "kind": "ClusterIPs",
        "metadata": {"name": "cluster-ips"},
        "spec": {"services": assigned},
    })
}

fn pod_object(pod: &PodState) -> Value {
    let order = &pod.order;
    let template = &order.template;
    let mut labels = template.labels.clone();
    let mut metadata = json!({
        "name": order.key.name,
        "namespace": order.key.namespace,
        "uid": order.uid,
        "creationTimestamp": timestamp(pod.created),
    });
    if let Some((deployment, hash)) = &order.owner {
        labels.insert("pod-template-hash".to_owned(), hash.clone());
        metadata["ownerReferences"] = json!([{
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": format!("{}-{hash}", deployment.name),
            "uid": order.uid,
            "controller": true,
        }]);
    }
    metadata["labels"] = json!(labels);
    let mut annotations = template.annotations.clone();
    annotations.insert(GENERATED_ANNOTATION.to_owned(), "true".to_owned());
    if order.meshed {
        annotations.insert(STATUS.to_owned(), INJECTED.to_owned());
    }
    metadata["annotations"] = json!(annotations);
    if let Some(deleting) = pod.deleting {
        metadata["deletionTimestamp"] = json!(timestamp(deleting));
        metadata["deletionGracePeriodSeconds"] = json!(template.termination_grace_seconds);
    }
    let containers: Vec<Value> = template
        .containers
        .iter()
        .map(|container| {
            let ports: Vec<Value> = container
                .ports
                .iter()
                .map(|port| {
                    let mut value =
                        json!({"containerPort": port.number, "protocol": port.protocol});
                    if !port.name.is_empty() {
                        value["name"] = json!(port.name);
                    }
                    value
                })
                .collect();
            json!({"name": container.name, "ports": ports})
        })
        .chain(
            order
                .meshed
                .then(|| json!({"name": crate::pod::proxy::CONTAINER})),
        )
        .collect();
    let ready = if pod.ready() { "True" } else { "False" };
    let phase = if pod.sandbox.is_some() {
        "Running"
    } else {
        "Pending"
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"serviceAccountName": template.service_account, "containers": containers},
        "status": {
            "phase": phase,
            "podIP": order.addresses.v4,
            "podIPs": order.addresses.both().map(|ip| json!({"ip": ip})),
            "conditions": [{"type": "Ready", "status": ready}],
        },
    })
}

/// Seconds, as Kubernetes writes times.
fn timestamp(time: std::time::SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    time.replace_nanosecond(0)
        .unwrap_or(time)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// One slice per address family and set of target ports, as Kubernetes cuts them.
fn endpoint_slices(service: &Resolved) -> Vec<Value> {
    let shapes: BTreeSet<&Vec<Option<u16>>> = service
        .endpoints
        .iter()
        .map(|endpoint| &endpoint.ports)
        .collect();
    let mut slices = Vec::new();
    for shape in shapes {
        let members: Vec<&Endpoint> = service
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.ports == *shape)
            .collect();
        for (family, index) in [("IPv4", 0), ("IPv6", 1)] {
            let discriminator = format!("{}/{family}/{shape:?}", service.key);
            slices.push(json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{}-{}", service.key.name, name_hash(discriminator.as_bytes(), 5)),
                    "namespace": service.key.namespace,
                    "labels": {
                        "kubernetes.io/service-name": service.key.name,
                        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                    },
                },
                "addressType": family,
                "ports": slice_ports(service, shape),
                "endpoints": members
                    .iter()
                    .map(|endpoint| slice_endpoint(endpoint, endpoint.addresses.both()[index]))
                    .collect::<Vec<_>>(),
            }));
        }
    }
    slices
}

fn slice_ports(service: &Resolved, shape: &[Option<u16>]) -> Vec<Value> {
    service
        .ports
        .iter()
        .zip(shape)
        .filter_map(|(port, target)| {
            let mut value =
                json!({"name": port.name, "port": (*target)?, "protocol": port.protocol});
            if let Some(app_protocol) = &port.app_protocol {
                value["appProtocol"] = json!(app_protocol);
            }
            Some(value)
        })
        .collect()
}

fn slice_endpoint(endpoint: &Endpoint, address: IpAddr) -> Value {
    json!({
        "addresses": [address],
        "conditions": {
            "ready": endpoint.ready(),
            "serving": endpoint.serving,
            "terminating": endpoint.terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": endpoint.pod.namespace,
            "name": endpoint.pod.name,
            "uid": endpoint.uid,
        },
    })
}

/// The generated folder as this process last wrote it.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    written: Objects,
}

impl Folder {
    /// An empty folder at `dir`.
    pub fn create(dir: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Ok(Self {
            dir,
            written: Objects::new(),
        })
    }

    /// Makes the folder hold `objects`; each file changes at once and only if its object did.
    pub fn write(&mut self, objects: Objects) -> anyhow::Result<()> {
        for (name, object) in &objects {
            if self.written.get(name) != Some(object) {
                let unfinished = self.dir.join(format!(".{name}.tmp"));
                std::fs::write(&unfinished, serde_json::to_string_pretty(object)? + "\n")?;
                std::fs::rename(&unfinished, self.dir.join(name))?;
            }
        }
        for name in self
            .written
            .keys()
            .filter(|name| !objects.contains_key(*name))
        {
            std::fs::remove_file(self.dir.join(name))?;
        }
        self.written = objects;
        Ok(())
    }
}
