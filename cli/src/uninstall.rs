//! `weft uninstall`: everything that an installation made, and that the mesh made for itself, out of a cluster again.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use weft_install::{Values, objects};

use crate::cluster::{Cluster, ClusterFlags, meshed, path_of};
use crate::installed::{self, named};
use crate::output::{counted, print};

/// How many names a message has.
const NAMES: usize = 10;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Deletes the mesh from the cluster: the webhook first, then the control plane, then what it has made, at last its namespace. Refuses
/// while pods have a proxy: they would go on until their certificates end, and then reach nobody. CRDs, and with them all
/// policies, stay unless --crds is given.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only print what would be deleted.
    #[arg(long)]
    dry_run: bool,
    /// Go on although pods have a proxy.
    #[arg(long)]
    force: bool,
    /// Delete Weft's CRDs, too, and so every policy. Those of the Gateway API are never touched.
    #[arg(long)]
    crds: bool,
    /// How long to wait for the control plane to end.
    #[arg(long, default_value = "120s", value_parser = crate::duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        let cluster = self.cluster.connect().await?;
        if !self.force {
            no_proxy_is_left(&cluster).await?;
        }
        let found = installed::found(&cluster, "helm uninstall").await?;
        if found.is_none() && !self.force {
            return Err(installed::missing(&cluster)
                .context("nothing is deleted; --force deletes what is left of one"));
        }
        let namespace = format!("/api/v1/namespaces/{}", cluster.system);
        let namespace = cluster.find(&namespace).await?.unwrap_or_default();
        let owns_namespace = namespace["metadata"]["labels"]["app.kubernetes.io/part-of"] == "weft";
        let own = own_objects(&cluster).await?;
        let mut count = 0;
        for object in order(&cluster.system, owns_namespace, self.crds, own)? {
            count += usize::from(self.take(&cluster, &object).await?);
        }
        let objects = counted(count, "object", "objects");
        let done = if self.dry_run {
            "would be deleted"
        } else {
            "deleted"
        };
        print(&format!("{objects} {done}\n"))?;
        if !self.crds {
            print("Weft's CRDs and with them all policies stay: --crds deletes them\n")?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Deletes an object and says so; whether it was there.
    async fn take(&self, cluster: &Cluster, object: &Value) -> Result<bool> {
        let path = path_of(object);
        let there = match self.dry_run {
            true => cluster.find(&path).await?.is_some(),
            false => cluster.delete(&path).await?,
        };
        if there {
            let done = if self.dry_run {
                "would delete"
            } else {
                "deleted"
            };
            print(&format!("{done} {}\n", named(object)))?;
        }
        if object["kind"] == "Deployment" && !self.dry_run {
            // What it keeps would come back while one of its replicas runs.
            self.has_ended(cluster).await?;
        }
        Ok(there)
    }

    async fn has_ended(&self, cluster: &Cluster) -> Result<()> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let left = cluster.control_plane_pods().await?.len();
            if left == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} of the control plane did not end; run it again to go on",
                    counted(left, "pod", "pods")
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn no_proxy_is_left(cluster: &Cluster) -> Result<()> {
    let pods = cluster.list("/api/v1/pods").await?;
    let meshed = meshed(&pods, &cluster.system).into_iter();
    let meshed: Vec<String> = meshed.map(|one| one.name).collect();
    if meshed.is_empty() {
        return Ok(());
    }
    let more = meshed.len().saturating_sub(NAMES);
    let mut names = meshed[..meshed.len() - more].join(", ");
    if more > 0 {
        names += &format!(" and {more} more");
    }
    bail!(
        "{} a proxy: {names}. Take the label mesh.weft.dev/inject off their namespaces, restart their workloads (kubectl rollout \
         restart) and come again; --force leaves them as they are",
        counted(meshed.len(), "pod has", "pods have")
    );
}

/// What the mesh has made for itself, as it is there.
async fn own_objects(cluster: &Cluster) -> Result<Vec<Value>> {
    let object = |api: &str, kind: &str, namespace: &str, name: &str| json!({"apiVersion": api, "kind": kind, "metadata": {"namespace": namespace, "name": name}});
    let system = &cluster.system;
    let mut own = vec![
        object("v1", "Secret", system, "weft-ca"),
        object("v1", "Secret", system, "weft-webhook"),
        object("coordination.k8s.io/v1", "Lease", system, "weft-leader"),
    ];
    let maps = "/api/v1/configmaps?fieldSelector=metadata.name%3Dweft-trust";
    for map in cluster.list(maps).await? {
        let namespace = map["metadata"]["namespace"].as_str().unwrap_or_default();
        own.push(object("v1", "ConfigMap", namespace, "weft-trust"));
    }
    Ok(own)
}

/// Everything, in the order in which it goes: first what pods wait for, the control plane before what it keeps, what others
/// refer to last.
fn order(system: &str, owns_namespace: bool, crds: bool, own: Vec<Value>) -> Result<Vec<Value>> {
    let namespace = format!("namespace={system}");
    let mut all = objects(&Values::with([namespace.as_str()])?)?;
    all.reverse();
    let (own_crds, rest): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|one| one["kind"] == "CustomResourceDefinition");
    let (namespaces, rest): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|one| one["kind"] == "Namespace");
    let first = |kind: &str| match kind {
        "MutatingWebhookConfiguration" => 0,
        "Deployment" => 1,
        _ => 2,
    };
    let mut rest = rest;
    rest.sort_by_key(|one| first(one["kind"].as_str().unwrap_or_default()));
    let at = rest
        .iter()
        .position(|one| first(one["kind"].as_str().unwrap_or_default()) == 2)
        .unwrap_or(rest.len());
    rest.splice(at..at, own);
    if owns_namespace {
        rest.extend(namespaces);
    }
    if crds {
        rest.extend(own_crds);
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_webhook_goes_first_and_the_namespace_last() {
        let own = vec![json!({"kind": "Secret", "metadata": {"name": "weft-ca"}})];
        let kinds = |owns_namespace, crds| -> Vec<String> {
            let order = order("mesh", owns_namespace, crds, own.clone()).unwrap();
            order
                .iter()
                .map(|one| one["kind"].as_str().unwrap().to_owned())
                .collect()
        };
        let usual = kinds(true, false);
        assert_eq!(
            usual[..3],
            ["MutatingWebhookConfiguration", "Deployment", "Secret"]
        );
        assert_eq!(usual.last().unwrap(), "Namespace");
        assert!(
            usual.iter().any(|kind| kind == "ClusterRoleBinding"),
            "{usual:?}"
        );
        assert!(!usual.iter().any(|kind| kind == "CustomResourceDefinition"));
        let all = kinds(false, true);
        assert!(!all.iter().any(|kind| kind == "Namespace"));
        assert_eq!(all.last().unwrap(), "CustomResourceDefinition");
    }
}
