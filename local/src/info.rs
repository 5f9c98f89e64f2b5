//! What the supervisor says and is told: the JSON of its socket.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A mesh as a whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The folder has been read, everything in it runs, is ready, and nothing is on its way out.
    pub settled: bool,
    /// What is wrong with the folder, one line each.
    pub faults: Vec<String>,
    /// The control plane's process, if it runs.
    pub control_plane_pid: Option<u32>,
    /// How often the control plane was started.
    pub control_plane_starts: u32,
    /// Deployments.
    pub deployments: Vec<DeploymentInfo>,
    /// Pods.
    pub pods: Vec<PodInfo>,
    /// Services.
    pub services: Vec<ServiceInfo>,
}

/// A Deployment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeploymentInfo {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Wished for.
    pub replicas: usize,
    /// Made from the present template.
    pub updated: usize,
    /// Ready, of whatever template.
    pub ready: usize,
    /// All that exist, also those that are leaving.
    pub pods: usize,
}

/// A pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodInfo {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// The Deployment it belongs to.
    pub deployment: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Addresses, IPv4 first.
    pub ips: Vec<IpAddr>,
    /// Whether it has a proxy.
    pub meshed: bool,
    /// Whether every container is ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// The process that holds its namespaces; PIDs are those of the outer namespace.
    pub sandbox_pid: Option<u32>,
    /// Containers by name, `weft-proxy` among them.
    pub containers: BTreeMap<String, ContainerInfo>,
    /// Why it could not be set up.
    pub error: Option<String>,
}

/// One process of a pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// Its PID in the outer namespace while it runs.
    pub pid: Option<u32>,
    /// Good by its probes.
    pub ready: bool,
    /// Started again so often.
    pub restarts: u32,
}

/// A Service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Addresses, none when headless.
    pub ips: Vec<IpAddr>,
    /// Ready pods behind it.
    pub ready: usize,
}

/// A command to run in a pod, or beside the bridge.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Namespace and name of the pod; `None` runs it in the outer namespace.
    pub pod: Option<(String, String)>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment beside `PATH`.
    pub env: Vec<(String, String)>,
    /// User and group.
    pub uid: u32,
}

/// A running command's output arrives in frames: channel (1 byte), length (4 bytes, big endian),
/// that many bytes. After [`Channel::Exit`] nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    /// Standard output.
    Out = 1,
    /// Standard error.
    Err = 2,
    /// The exit code in decimal; 128 and more for a signal.
    Exit = 3,
}

impl Channel {
    /// The channel of this number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Out, Self::Err, Self::Exit]
            .into_iter()
            .find(|channel| *channel as u8 == byte)
    }
}

/// Names an object in a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Named {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// Sends a signal to one process of a pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignalRequest {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// The container, `weft-proxy` for the proxy.
    pub container: String,
    /// The signal.
    pub signal: SignalName,
}

/// The signals that can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignalName {
    /// SIGTERM
    Term,
    /// SIGKILL
    Kill,
    /// SIGSTOP
    Stop,
    /// SIGCONT
    Continue,
}

/// What is to become of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlPlaneOrder {
    /// Run it.
    Start,
    /// End it, and do not start it again.
    Stop,
    /// SIGKILL; it is started again at once unless stopped.
    Kill,
    /// SIGKILL, and do not start it again.
    KillAndStop,
}

/// Something that the control plane finds wrong.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Finding {
    /// `error`, `warning` or `info`.
    pub severity: String,
    /// `file:line: Kind namespace/name: field: reason`
    pub text: String,
}

impl Finding {
    /// Whether something is not in force as written.
    pub fn is_error(&self) -> bool {
        self.severity == "error"
    }

    /// As it is shown to people.
    pub fn line(&self) -> String {
        if self.is_error() {
            self.text.clone()
        } else {
            format!("{} ({})", self.text, self.severity)
        }
    }
}
