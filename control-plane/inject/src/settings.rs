//! What every proxy of a mesh has in common. As JSON it is how the control plane is told.

use serde::{Deserialize, Serialize};

/// What is put into a pod where its annotations say nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InjectSettings {
    /// Image of the proxy.
    pub image: String,
    /// `imagePullPolicy` of both containers; Kubernetes' own rule where there is none.
    pub image_pull_policy: Option<String>,
    /// Version of the proxy, for the label; a valid label value.
    pub version: String,
    /// The control plane, `host:port`.
    pub control_plane: String,
    /// The trust domain of the mesh.
    pub trust_domain: String,
    /// What the proxy logs.
    pub log: String,
    /// The proxy's CPU and memory.
    pub resources: Resources,
}

/// Requests and limits, as Kubernetes quantities; none: not set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// `requests.cpu`
    pub cpu_request: Option<String>,
    /// `limits.cpu`
    pub cpu_limit: Option<String>,
    /// `requests.memory`
    pub memory_request: Option<String>,
    /// `limits.memory`
    pub memory_limit: Option<String>,
}

impl Default for InjectSettings {
    /// A mesh installed with `weft install` and no settings.
    fn default() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self {
            image: format!("weft/proxy:{version}"),
            image_pull_policy: None,
            version: version.to_owned(),
            control_plane: "weft-control-plane.weft-system.svc:15010".to_owned(),
            trust_domain: "cluster.local".to_owned(),
            log: "info".to_owned(),
            resources: Resources {
                // No CPU limit: a throttled proxy delays every request of its application.
                cpu_limit: None,
                cpu_request: Some("20m".to_owned()),
                memory_request: Some("24Mi".to_owned()),
                memory_limit: Some("512Mi".to_owned()),
            },
        }
    }
}
