//! The mesh that is installed in a cluster: what says which version it is, what was chosen, and who keeps it.

use anyhow::{Result, anyhow, bail};
use serde_json::Value;
use weft_install::names::{CONTROL_PLANE, INJECTOR};
use weft_install::{Found, api_server_policy};

use crate::cluster::Cluster;

/// Label of everything that is installed.
pub(crate) const VERSION: &str = "app.kubernetes.io/version";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Its objects; `None` if there is no control plane.
///
/// # Errors
/// Helm keeps it, so that `helm` is the command to use.
pub(crate) async fn found(cluster: &Cluster, helm: &str) -> Result<Option<Found>> {
    let system = &cluster.system;
    let deployment = format!("/apis/apps/v1/namespaces/{system}/deployments/{CONTROL_PLANE}");
    let Some(deployment) = cluster.find(&deployment).await? else {
        return Ok(None);
    };
    if deployment["metadata"]["labels"][MANAGED_BY] == "Helm" {
        let release = &deployment["metadata"]["annotations"]["meta.helm.sh/release-name"];
        bail!(
            "Helm keeps this mesh: {helm} {}",
            release.as_str().unwrap_or("RELEASE")
        );
    }
    let webhook =
        format!("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{INJECTOR}");
    let policy = api_server_policy();
    let policy = format!("/apis/networking.k8s.io/v1/namespaces/{system}/networkpolicies/{policy}");
    Ok(Some(Found {
        namespace: cluster.get(&format!("/api/v1/namespaces/{system}")).await?,
        deployment,
        webhook: cluster.find(&webhook).await?.unwrap_or_default(),
        network_policy: cluster.find(&policy).await?.unwrap_or_default(),
    }))
}

/// That there is none.
pub(crate) fn missing(cluster: &Cluster) -> anyhow::Error {
    anyhow!(
        "no mesh is installed in namespace {}: there is no Deployment {CONTROL_PLANE}; --system-namespace names another namespace",
        cluster.system
    )
}

/// The version of a mesh, as its label says.
pub(crate) fn version(found: &Found) -> &str {
    text(&found.deployment["metadata"]["labels"][VERSION])
}

/// `Kind namespace/name`, without the namespace where there is none.
pub(crate) fn named(object: &Value) -> String {
    let name = text(&object["metadata"]["name"]);
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{} {namespace}/{name}", text(&object["kind"])),
        None => format!("{} {name}", text(&object["kind"])),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
