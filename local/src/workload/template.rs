//! A pod's specification reduced to what this machine runs. Fields that place a pod or limit its
//! resources have no meaning here and are passed over; a field that would change what the pod does
//! is refused by name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use weft_inject::names::INJECT;
use weft_inject::{Asked, asked};

use super::env::Value;
use super::name_hash;
use crate::pod::probe::Probes;

/// The user that proxies run as; nothing else may.
pub use weft_inject::names::PROXY_UID;

/// A field that cannot be had, relative to the pod.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Path from the pod: `spec.containers[web].image`.
    pub field: String,
    /// Why.
    pub reason: String,
}

impl Refusal {
    /// One of them.
    pub fn one(field: &str, reason: &str) -> Vec<Self> {
        vec![Self {
            field: field.to_owned(),
            reason: reason.to_owned(),
        }]
    }
}

/// What a pod is made from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PodTemplate {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// `spec.serviceAccountName`, `default` when left out.
    pub service_account: String,
    /// Containers.
    pub containers: Vec<Container>,
    /// Volumes: name → files, by path; an `emptyDir` has none.
    pub volumes: BTreeMap<String, BTreeMap<PathBuf, String>>,
    /// Seconds between SIGTERM and SIGKILL.
    pub termination_grace_seconds: u64,
    /// Whether a container that ended is started again.
    pub restart: Restart,
    /// `spec.hostname`.
    pub hostname: Option<String>,
}

/// `restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Restart {
    /// However it ended.
    Always,
    /// Only after a failure.
    OnFailure,
    /// Not at all.
    Never,
}

/// One container: a process on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Container {
    /// Name.
    pub name: String,
    /// Program and arguments, references not yet expanded.
    pub argv: Vec<String>,
    /// Variables, references not yet expanded.
    pub env: Vec<(String, Value)>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// Declared ports.
    pub ports: Vec<Port>,
    /// Probes.
    pub probes: Probes,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Volume mounts.
    pub mounts: Vec<VolumeUse>,
    /// Files of the image's stand-in.
    pub files: Vec<(PathBuf, String)>,
    /// Whether it is asked to end by SIGQUIT instead of SIGTERM.
    pub stop_by_quit: bool,
    /// `lifecycle.preStop`.
    pub pre_stop: Option<PreStop>,
}

/// A declared port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Name, possibly empty.
    pub name: String,
    /// Number.
    pub number: u16,
    /// `TCP` or `UDP`.
    pub protocol: String,
}

/// Where a container sees a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VolumeUse {
    /// The volume.
    pub volume: String,
    /// Path in the volume, empty for all of it.
    pub sub_path: PathBuf,
    /// Path in the pod.
    pub target: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// What happens before SIGTERM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum PreStop {
    /// Wait so many seconds.
    Sleep(u64),
    /// Run a command in the pod.
    Exec(Vec<String>),
}

impl PodTemplate {
    /// Who asks for a proxy in its pods, `of_namespace` being what their namespace's label says.
    pub(super) fn asked(&self, of_namespace: Option<&str>) -> Result<Asked, weft_inject::Refusal> {
        let label = self.labels.get(INJECT).map(String::as_str);
        let annotation = self.annotations.get(INJECT).map(String::as_str);
        asked(label, annotation, of_namespace)
    }

    /// What `pod-template-hash` is for this template and so many restarts.
    pub fn hash(&self, restarts: u64) -> String {
        let content = serde_json::to_vec(&(self, restarts)).unwrap_or_default();
        name_hash(&content, 10)
    }

    /// The number of the port that a Service calls `name`.
    pub fn named_port(&self, name: &str) -> Option<u16> {
        self.containers
            .iter()
            .flat_map(|container| &container.ports)
            .find(|port| port.name == name)
            .map(|port| port.number)
    }
}
