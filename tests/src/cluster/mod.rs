//! A real Kubernetes for a suite: the cluster of `KUBECONFIG`, or one of two nodes that
//! `tests/cluster/up` keeps on this machine for as long as the suite runs. Tests act on it through
//! [`Kubectl`] alone, in namespaces of their own ([`Trial`]), so that any cluster will do; only
//! what takes a program of the cluster away needs the local one ([`Local`]).

mod api_server;
mod child;
mod grants;
mod kubectl;
mod load;
mod local;
mod mesh;
mod trial;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Context;
use serde_json::Value;

pub use api_server::{ApiServer, own_address};
pub use kubectl::{Fact, Kubectl, condition, container, until};
pub use local::{CutOff, Held, Local};
pub use mesh::{Mesh, run_weft, weft};
pub use trial::{Body, Namespace, Trial, WAITING, client, in_cluster, keep_namespace};

use crate::artifacts::artifacts;
use crate::runner::{Outcome, Suite};

/// The image with a shell, curl and this crate's programs: `weft-echo`, `weft-load` and so on.
pub const TOOLS: &str = "weft-test/tools:1";

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// The cluster that the suite runs in.
#[derive(Debug)]
pub struct Cluster {
    kubectl: Kubectl,
    local: Option<Local>,
}

impl Cluster {
    /// The one that the suite has started or was given.
    pub fn current() -> anyhow::Result<&'static Self> {
        CLUSTER.get().context("the suite has no cluster")
    }

    /// `kubectl` as an administrator of the whole cluster.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The cluster as programs on this machine; an error where `KUBECONFIG` names another one.
    pub fn local(&self) -> anyhow::Result<&Local> {
        self.local
            .as_ref()
            .context("this needs the cluster that the suite starts itself: unset KUBECONFIG")
    }

    /// What Weft's service accounts have asked of the API server so far (tests/cluster/audit.yaml).
    pub fn audit(&self) -> anyhow::Result<Vec<Value>> {
        let path = self.local()?.dir().join("audit.log");
        let log = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        log.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("audit log: {line}")))
            .collect()
    }
}

/// What the runner does around the tests of a suite that needs a cluster.
pub fn suite() -> Suite {
    let given = given_kubeconfig().is_some();
    Suite {
        // On somebody else's cluster nothing of ours runs on this machine.
        marker: (!given).then(|| local::RUNS.to_owned()),
        start,
        whole: Some(("nothing_is_granted_in_vain", nothing_is_granted_in_vain)),
        stop,
    }
}

fn given_kubeconfig() -> Option<PathBuf> {
    std::env::var_os("KUBECONFIG")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn start() -> anyhow::Result<()> {
    start_with(&[])
}

/// What [`Suite::start`] does for a suite whose pods run images of its own: a cluster that is
/// started here gets what these scripts write into the folder that they are called with.
pub fn start_with(images: &[PathBuf]) -> anyhow::Result<()> {
    let cluster = match given_kubeconfig() {
        Some(kubeconfig) => Cluster {
            kubectl: Kubectl::new(
                "kubectl".into(),
                kubeconfig,
                artifacts("cluster")?.join("cache"),
            ),
            local: None,
        },
        None => {
            let local = Local::start(images)?;
            Cluster {
                kubectl: Kubectl::new(
                    programs()?.join("kubectl"),
                    local.kubeconfig(),
                    local.dir().join("cache"),
                ),
                local: Some(local),
            }
        }
    };
    CLUSTER
        .set(cluster)
        .map_err(|_| anyhow::anyhow!("the suite has a cluster already"))
}

/// Whether the suite has started the cluster itself; what a test of that cluster's programs needs.
pub fn is_own() -> Outcome {
    Cluster::current()?.local().map(drop)
}

/// After the whole suite: the control plane was denied nothing, and had no right that it did not use.
fn nothing_is_granted_in_vain() -> anyhow::Result<()> {
    let cluster = Cluster::current()?;
    let asked = grants::asked(&cluster.audit()?);
    let granted = grants::granted()?;
    let denied = asked.not_granted(&granted);
    anyhow::ensure!(denied.is_empty(), "asked, and not granted: {denied:#?}");
    let unused = asked.unused(&granted);
    let unused: Vec<String> = unused.iter().map(ToString::to_string).collect();
    anyhow::ensure!(
        unused.is_empty(),
        "granted in manifests/install/rbac.yaml and never used:\n{}",
        unused.join("\n")
    );
    Ok(())
}

fn stop() -> anyhow::Result<()> {
    match CLUSTER.get() {
        None => Ok(()),
        Some(Cluster {
            local: Some(local), ..
        }) => local.stop(),
        // It goes on without us, and as it was before.
        Some(Cluster { kubectl, .. }) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(mesh::remove(kubectl)),
    }
}

/// `tests/cluster`.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster")
}

/// Where Kubernetes' commands are, built if need be.
fn programs() -> anyhow::Result<PathBuf> {
    path_from(&mut Command::new(folder().join("binaries")))
}

/// The folder of the Gateway API's own CRDs, of the experimental channel: for `kubectl apply -k`.
pub fn gateway_api() -> anyhow::Result<PathBuf> {
    path_from(&mut Command::new(folder().join("gateway-api")))
}

/// The path that a script prints.
pub fn path_from(script: &mut Command) -> anyhow::Result<PathBuf> {
    let output = script.stderr(std::process::Stdio::inherit()).output();
    let output = output.with_context(|| format!("running {script:?}"))?;
    anyhow::ensure!(output.status.success(), "{script:?}: {}", output.status);
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}
