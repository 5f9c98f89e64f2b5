//! The run directory of a mesh on this machine, and whom to ask at which socket.

use std::path::{Path, PathBuf};

use anyhow::Result;
use weft_local::info::{PodInfo, Status};

use crate::admin::Admin;

/// Which mesh of this machine is meant; the same flags as `weft up` has.
#[derive(clap::Args)]
pub(crate) struct RunDir {
    /// Name of the mesh, as given to `weft up` [default: default]
    #[arg(long)]
    name: Option<String>,
    /// Where the mesh keeps its sockets, logs and state [default: /run/weft/NAME]
    #[arg(long, env = "WEFT_RUN_DIR", value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

impl RunDir {
    /// The directory.
    pub(crate) fn path(&self) -> PathBuf {
        self.run_dir.clone().unwrap_or_else(|| {
            Path::new("/run/weft").join(self.name.as_deref().unwrap_or("default"))
        })
    }

    /// Whether a mesh of this machine was asked for by flags.
    pub(crate) fn is_given(&self) -> bool {
        self.name.is_some() || self.run_dir.is_some()
    }

    /// Whether a mesh has left its socket there.
    pub(crate) fn has_mesh(&self) -> bool {
        self.path().join("control-plane.sock").exists()
    }

    /// The control plane's own answers.
    pub(crate) fn control_plane(&self) -> Admin {
        Admin::new(&self.path().join("control-plane.sock"), "the control plane")
    }

    /// What runs on this machine.
    pub(crate) fn supervisor(&self) -> Admin {
        Admin::new(&self.path().join("supervisor.sock"), "the mesh")
    }

    pub(crate) async fn status(&self) -> Result<Status> {
        Ok(serde_json::from_value(
            self.supervisor().get("/v1/status").await?,
        )?)
    }

    /// The path, at the supervisor, of a pod's proxy.
    pub(crate) fn proxy_path(namespace: &str, pod: &str, path: &str) -> String {
        format!("/v1/proxy/{namespace}/{pod}{path}")
    }

    /// `namespace/workload`: what the pods of one Deployment have in common.
    pub(crate) fn workload(pod: &PodInfo) -> String {
        format!(
            "{}/{}",
            pod.namespace,
            pod.deployment.as_deref().unwrap_or(&pod.name)
        )
    }
}
