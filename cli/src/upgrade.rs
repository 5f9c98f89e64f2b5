//! `weft upgrade`: a mesh that is installed brought to the version of this tool, with what was chosen for it.

mod difference;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use weft_install::names::CONTROL_PLANE;
use weft_install::{Values, objects};

use crate::cluster::{Cluster, ClusterFlags, is_kept_by_kubectl, meshed, path_of};
use crate::install::Chosen;
use crate::installed::{self, named};
use crate::output::{counted, print};
use crate::version::{Distance, Version};
use difference::Change;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Brings the mesh in the cluster to the version of this tool: CRDs, account, then the control plane, one replica after the other.
/// What was chosen at installation stays, whichever way it was installed; --set changes it. Refuses to skip a minor version,
/// since only neighbours understand each other. Proxies get the new version when their pods are made anew.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only print what would change, field by field.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    chosen: Chosen,
    /// How long to wait for the control plane.
    #[arg(long, default_value = "300s", value_parser = crate::duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    cluster: ClusterFlags,
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        let cluster = self.cluster.connect().await?;
        let found = installed::found(&cluster, "helm upgrade").await?;
        let found = found.ok_or_else(|| installed::missing(&cluster))?;
        let mut before = found.values()?;
        if !self.chosen.says("image.tag") {
            before.image.tag = Values::default().image.tag;
        }
        let values = self.chosen.over(&before)?;
        if values.namespace != cluster.system {
            bail!("namespace: a mesh cannot move; uninstall it and install it anew");
        }
        let (old, new) = (installed::version(&found), values.image.tag.as_str());
        may_follow("the control plane", old, new)?;
        let proxies = proxies(&cluster).await?;
        for (version, count) in &proxies {
            let restart = || {
                format!(
                    "{}; restart their workloads first",
                    counted(*count, "pod", "pods")
                )
            };
            may_follow("a proxy", version, new).with_context(restart)?;
        }
        print(&format!("{old} → {new}\n"))?;
        let mut changed = 0;
        for object in objects(&values)? {
            changed += usize::from(self.bring(&cluster, &object).await?);
        }
        let changed = counted(changed, "object", "objects");
        if self.dry_run {
            print(&format!("{changed} would change; nothing did\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        self.rolled_out(&cluster, values.control_plane.replicas)
            .await?;
        print(&format!(
            "{changed} changed; the control plane runs {new}\n"
        ))?;
        print(&older(&proxies, new))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Writes one object and says what changes by it; whether anything does.
    async fn bring(&self, cluster: &Cluster, wanted: &Value) -> Result<bool> {
        let name = named(wanted);
        let live = cluster.find(&path_of(wanted)).await?;
        let Some(live) = live else {
            if !self.dry_run {
                cluster.apply(wanted, false).await?;
            }
            print(&format!("{name}: new\n"))?;
            return Ok(true);
        };
        if !self.dry_run {
            cluster.take_over(&live).await?;
        }
        let after = cluster.apply(wanted, self.dry_run).await?;
        let mut changes = difference::between(&live, &after);
        // Not before they are taken over does the API server know that these are not wanted any more.
        if self.dry_run && is_kept_by_kubectl(&live) {
            changes.extend(difference::dropped(&live, wanted));
        }
        let lines: String = changes.iter().map(Change::line).collect();
        if !lines.is_empty() {
            print(&format!("{name}:\n{lines}"))?;
        }
        Ok(!lines.is_empty())
    }

    async fn rolled_out(&self, cluster: &Cluster, replicas: u32) -> Result<()> {
        let deadline = Instant::now() + self.timeout;
        let path = format!(
            "/apis/apps/v1/namespaces/{}/deployments/{CONTROL_PLANE}",
            cluster.system
        );
        loop {
            let deployment = cluster.get(&path).await?;
            if is_rolled_out(&deployment, replicas) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!(
                    "the control plane is not ready yet; `weft check` says why, and the old replicas that are left go on"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether all replicas are of the newest generation, ready, and no old one is left.
fn is_rolled_out(deployment: &Value, replicas: u32) -> bool {
    let status = &deployment["status"];
    let counts =
        ["replicas", "updatedReplicas", "readyReplicas"].map(|field| status[field].as_u64());
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && counts
            .iter()
            .all(|count| *count == Some(u64::from(replicas)))
}

/// How many pods have a proxy of each version.
async fn proxies(cluster: &Cluster) -> Result<BTreeMap<String, usize>> {
    let pods = cluster.list("/api/v1/pods").await?;
    let mut counts = BTreeMap::new();
    for one in meshed(&pods, &cluster.system) {
        *counts.entry(one.version.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

/// What is left to do for pods whose proxies have another version; nothing if there are none.
fn older(proxies: &BTreeMap<String, usize>, new: &str) -> String {
    let old = proxies.iter().filter(|(version, _)| *version != new);
    match old.map(|(_, count)| count).sum() {
        0 => String::new(),
        count => format!(
            "{} an older proxy: restart the workloads (kubectl -n NAMESPACE rollout restart deployment); `weft check` names them\n",
            counted(count, "pod has", "pods have")
        ),
    }
}

/// Only neighbours understand each other.
fn may_follow(whose: &str, old: &str, new: &str) -> Result<()> {
    let parse = |text: &str| {
        Version::parse(text).with_context(|| format!("{text:?} is no version such as 1.2.3"))
    };
    match parse(old)?.distance(&parse(new)?) {
        Distance::Same | Distance::Neighbour => Ok(()),
        Distance::Far => bail!(
            "{whose} is {old}, and {new} is more than a minor version away: go by each minor version in between"
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_minor_version_is_never_skipped() {
        assert!(may_follow("it", "0.1.0", "0.2.0").is_ok());
        assert!(may_follow("it", "0.2.0", "0.1.4").is_ok(), "the way back");
        let skipped = may_follow("the control plane", "0.1.0", "0.3.0")
            .unwrap_err()
            .to_string();
        assert!(
            skipped.contains("0.3.0 is more than a minor version away"),
            "{skipped}"
        );
        assert!(may_follow("it", "latest", "0.3.0").is_err());
    }

    #[test]
    fn a_rollout_is_done_when_no_old_replica_is_left() {
        let deployment = |replicas: u32, generation: u32| {
            json!({
                "metadata": {"generation": 2},
                "status": {"observedGeneration": generation, "replicas": replicas, "updatedReplicas": 3, "readyReplicas": 3},
            })
        };
        assert!(is_rolled_out(&deployment(3, 2), 3));
        assert!(!is_rolled_out(&deployment(4, 2), 3));
        assert!(!is_rolled_out(&deployment(3, 1), 3));
    }
}
