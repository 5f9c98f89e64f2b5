//! The control plane's replicas: each has streams of its own, so all of them are asked.

use anyhow::{Result, bail};
use futures_util::future::join_all;
use serde_json::Value;
use weft_install::names::{ADMIN_PORT, CONTROL_PLANE};

use super::{Cluster, labelled};
use crate::admin::Admin;

/// One replica that runs.
pub(crate) struct Replica {
    /// The name of its pod.
    pub pod: String,
    /// Whether Kubernetes takes it for ready: one that is not may have no streams yet.
    pub is_ready: bool,
    /// Its admin interface.
    pub admin: Admin,
}

impl Cluster {
    /// The pods of the control plane, whatever their state.
    pub(crate) async fn control_plane_pods(&self) -> Result<Vec<Value>> {
        let selector = labelled("app.kubernetes.io/name", CONTROL_PLANE);
        self.list(&format!(
            "/api/v1/namespaces/{}/pods{selector}",
            self.system
        ))
        .await
    }

    /// Those that run and stay.
    ///
    /// # Errors
    /// There is none.
    pub(crate) async fn replicas(&self) -> Result<Vec<Replica>> {
        let pods = self.control_plane_pods().await?;
        let replicas: Vec<Replica> = pods
            .iter()
            .filter(|pod| {
                pod["status"]["phase"] == "Running"
                    && pod["metadata"]["deletionTimestamp"].is_null()
            })
            .filter_map(|pod| Some((pod["metadata"]["name"].as_str()?, is_ready(pod))))
            .map(|(pod, is_ready)| Replica {
                pod: pod.to_owned(),
                is_ready,
                admin: self.admin(&self.system, pod, ADMIN_PORT),
            })
            .collect();
        if replicas.is_empty() {
            bail!(
                "no control plane runs in namespace {}; `weft install | kubectl apply -f -` brings one, \
                 --system-namespace names another namespace, and `weft check` says what is in the way",
                self.system
            );
        }
        Ok(replicas)
    }
}

/// Asks all replicas at once.
pub(crate) async fn ask_all(replicas: &[Replica], path: &str) -> Vec<Result<Value>> {
    join_all(replicas.iter().map(|replica| replica.admin.get(path))).await
}

/// Whether a pod has the condition Ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == "Ready" && one["status"] == "True")
}
