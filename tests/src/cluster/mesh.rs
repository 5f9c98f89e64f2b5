//! Weft in the cluster, installed as people do it, once per suite and for the tests that ask for it.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;
use weft_local::Output;

use super::{Fact, Kubectl, child, gateway_api, is_own, until};
use crate::fixture::program;

/// Where the control plane is.
const NAMESPACE: &str = "weft-system";
/// Its Deployment.
const CONTROL_PLANE: &str = "weft-control-plane";
/// One replica takes the memory of one.
const CHOSEN: [&str; 3] = ["install", "--set", "controlPlane.replicas=1"];

static MESH: OnceCell<Mesh> = OnceCell::const_new();

/// A mesh that is installed.
#[derive(Debug)]
pub struct Mesh {
    /// The cluster, in the control plane's namespace.
    pub system: Kubectl,
    /// The CRDs of the Gateway API, where the suite has brought them.
    gateway_api: Option<PathBuf>,
}

impl Mesh {
    /// Installs it unless a test has done so already.
    pub async fn install(kubectl: &Kubectl) -> anyhow::Result<&'static Self> {
        MESH.get_or_try_init(async || Self::new(kubectl).await)
            .await
    }

    /// The control plane's namespace, if a test has installed it or tried to.
    pub(super) async fn found(kubectl: &Kubectl) -> anyhow::Result<Option<Kubectl>> {
        let namespace = kubectl.find("namespace", NAMESPACE).await?;
        Ok(namespace.map(|_| kubectl.in_namespace(NAMESPACE)))
    }

    /// `weft install | kubectl apply -f -`, with the Gateway API beside it, which is the cluster's:
    /// where it is there already it stays as it is.
    async fn new(kubectl: &Kubectl) -> anyhow::Result<Self> {
        anyhow::ensure!(
            is_own().is_ok() || Self::found(kubectl).await?.is_none(),
            "the cluster has a namespace {NAMESPACE}: the suite brings a mesh of its own and takes it away again; uninstall that one"
        );
        let routes = kubectl.find("crd", "httproutes.gateway.networking.k8s.io");
        let gateway_api = match routes.await? {
            Some(_) => None,
            None => Some(gateway_api()?),
        };
        if let Some(folder) = &gateway_api {
            kubectl.apply_folder(folder).await?;
        }
        Self::apply(kubectl).await?;
        let this = Self {
            system: kubectl.in_namespace(NAMESPACE),
            gateway_api,
        };
        this.serves().await?;
        Ok(this)
    }

    /// Applies what `weft install` prints, also where it has been taken away.
    pub async fn apply(kubectl: &Kubectl) -> anyhow::Result<()> {
        let manifests = weft(&CHOSEN, "").await?;
        let applied = kubectl.run(&["apply", "-f", "-"], &manifests).await?;
        anyhow::ensure!(applied.code == 0, "kubectl apply: {}", applied.err());
        Ok(())
    }

    /// Waits until the control plane is ready and the API server believes its webhook.
    pub async fn serves(&self) -> anyhow::Result<()> {
        self.system.rolled_out(CONTROL_PLANE).await?;
        until("the webhook's bundle is written", async || {
            let kind = "mutatingwebhookconfiguration";
            let configuration = self.system.object(kind, "weft-injector").await?;
            let webhooks = configuration["webhooks"].as_array();
            let mut webhooks = webhooks.into_iter().flatten();
            let written = webhooks.all(|one| one["clientConfig"]["caBundle"].is_string());
            Ok(Fact::when(written, &configuration))
        })
        .await?;
        // A Service finds pods that have just become ready a moment later.
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "asks", "labels": {"mesh.weft.dev/inject": "enabled"}},
            "spec": {"containers": [{"name": "asks", "image": "asks"}]},
        })
        .to_string();
        let anywhere = self.system.in_namespace("default");
        until("the API server reaches the webhook", async || {
            let tried = ["create", "--dry-run=server", "-f", "-"];
            let answer = anywhere.run(&tried, &pod).await?;
            Ok(Fact::when(answer.code == 0, answer.err()))
        })
        .await
    }

    /// How many replicas the control plane is to have; waits until none is left over.
    pub async fn scale(&self, replicas: u32) -> anyhow::Result<()> {
        let deployment = format!("deployment/{CONTROL_PLANE}");
        let wanted = format!("--replicas={replicas}");
        self.system.text(&["scale", &deployment, &wanted]).await?;
        until("the control plane is scaled", async || {
            let labels = format!("app.kubernetes.io/name={CONTROL_PLANE}");
            let pods = self.system.list("pods", &labels).await?;
            let count = usize::try_from(replicas)?;
            Ok(Fact::when(pods.len() == count, Value::from(pods)))
        })
        .await
    }
}

/// Takes the mesh out of the cluster, if a test has installed it, with everything that it brought.
pub(super) async fn remove(kubectl: &Kubectl) -> anyhow::Result<()> {
    let Some(mesh) = MESH.get() else {
        return Ok(());
    };
    let kubeconfig = kubectl.kubeconfig().display().to_string();
    weft(
        &[
            "uninstall",
            "--crds",
            "--force",
            "--kubeconfig",
            &kubeconfig,
        ],
        "",
    )
    .await?;
    match &mesh.gateway_api {
        Some(folder) => kubectl.delete_folder(folder).await,
        None => Ok(()),
    }
}

/// `weft`, as it was built beside this suite: what it prints.
pub async fn weft(args: &[&str], input: &str) -> anyhow::Result<String> {
    let output = run_weft(args, input).await?;
    anyhow::ensure!(output.code == 0, "weft {args:?}: {}", output.err());
    Ok(output.out())
}

/// `weft`, whatever it answers.
pub async fn run_weft(args: &[&str], input: &str) -> anyhow::Result<Output> {
    let mut command = Command::new(program("weft")?);
    command.args(args);
    child::output(command, input).await
}
