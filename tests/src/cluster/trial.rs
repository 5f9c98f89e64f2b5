//! One test in the cluster: its namespaces, which go when it is done, and what is kept of them when
//! it fails.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use serde_json::{Value, json};
use weft_local::Output;

use super::{Cluster, Fact, Kubectl, Mesh, TOOLS, until};
use crate::artifacts::artifacts;
use crate::runner::{Outcome, bounded};

/// The body of a test in the cluster.
pub type Body = for<'a> fn(&'a Trial) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// What a test is given.
#[derive(Debug)]
pub struct Trial {
    /// The cluster, which it shares.
    pub cluster: &'static Cluster,
    name: &'static str,
    namespaces: Mutex<Vec<Namespace>>,
}

/// A namespace of a test. Dereferences to [`Kubectl`] in it.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// Its name, no other run's.
    pub name: String,
    kubectl: Kubectl,
}

impl Deref for Namespace {
    type Target = Kubectl;

    fn deref(&self) -> &Kubectl {
        &self.kubectl
    }
}

impl Namespace {
    /// Waits for the mesh's trust anchors: pods wait for them too, and a kubelet that has looked in vain looks
    /// again ever more seldom.
    pub async fn has_anchors(&self) -> anyhow::Result<()> {
        until("the namespace has the trust anchors", async || {
            let anchors = self.find("configmap", "weft-trust").await?;
            Ok(Fact::when(anchors.is_some(), "it has none"))
        })
        .await
    }

    /// Runs curl in a pod's only (or first) container.
    pub async fn curl(&self, pod: &str, args: &[&str]) -> anyhow::Result<Output> {
        let argv = [
            &["exec", pod, "--", "curl", "-sS", "--max-time", "20"],
            args,
        ]
        .concat();
        self.run(&argv, "").await
    }
}

/// Waits until it is told to end, and ends at once: the first process of a container hears no signal that it does not ask for, and
/// would be given the two seconds that the kubelet grants at least.
pub const WAITING: [&str; 3] = ["sh", "-c", "trap exit TERM; sleep infinity & wait"];

/// A pod with the container `client` that waits to be told what to do (`Namespace::curl`, `exec`), on
/// this node if one is named; as JSON, for `apply`.
pub fn client(name: &str, node: Option<&str>) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "client",
                "image": TOOLS,
                "command": WAITING,
            }],
        },
    })
    .to_string()
}

/// Runs the body with namespaces of its own.
pub async fn in_cluster(name: &'static str, body: Body) -> Outcome {
    let trial = Trial {
        cluster: Cluster::current()?,
        name,
        namespaces: Mutex::default(),
    };
    let result = match bounded(body(&trial)).await {
        Ok(()) => Ok(()),
        Err(error) => Err(match trial.keep_artifacts().await {
            Ok(dir) => error.context(format!("artifacts in {}", dir.display())),
            Err(lost) => error.context(format!("no artifacts: {lost:#}")),
        }),
    };
    trial.remove().await.and(result)
}

impl Trial {
    /// Makes a namespace with these labels; `purpose` tells the test's own apart.
    pub async fn namespace(
        &self,
        purpose: &str,
        labels: &[(&str, &str)],
    ) -> anyhow::Result<Namespace> {
        let name = format!("{purpose}-{}", unique());
        let labels: serde_json::Map<String, Value> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        let kubectl = self.cluster.kubectl();
        let namespace = Namespace {
            kubectl: kubectl.in_namespace(&name),
            name: name.clone(),
        };
        self.list().push(namespace.clone());
        let object = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        });
        kubectl.apply(&object.to_string()).await?;
        // It comes a moment after the namespace, and pods are refused without it.
        until("the namespace has its service account", async || {
            let account = namespace.find("serviceaccount", "default").await?;
            Ok(Fact::when(account.is_some(), "it has none"))
        })
        .await?;
        Ok(namespace)
    }

    /// The mesh, which is installed for the first test that asks.
    pub async fn mesh(&self) -> anyhow::Result<&'static Mesh> {
        Mesh::install(self.cluster.kubectl()).await
    }

    /// Makes a namespace that is in the mesh.
    pub async fn meshed(&self, purpose: &str) -> anyhow::Result<Namespace> {
        self.mesh().await?;
        let namespace = self
            .namespace(purpose, &[("mesh.weft.dev/inject", "enabled")])
            .await?;
        namespace.has_anchors().await?;
        Ok(namespace)
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Namespace>> {
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what explains a failure: objects, events, and what every container wrote.
    async fn keep_artifacts(&self) -> anyhow::Result<PathBuf> {
        let dir = artifacts(self.name)?;
        let kubectl = self.cluster.kubectl();
        keep(kubectl, &dir.join("nodes.txt"), &["describe", "nodes"]).await?;
        let namespaces = self.list().clone();
        for namespace in &namespaces {
            keep_namespace(namespace, &dir.join(&namespace.name)).await?;
        }
        if let Some(system) = Mesh::found(kubectl).await? {
            keep_namespace(&system, &dir.join("weft-system")).await?;
        }
        Ok(dir)
    }

    /// Deletes the namespaces; the cluster ends their pods in its own time.
    async fn remove(&self) -> anyhow::Result<()> {
        let namespaces = std::mem::take(&mut *self.list());
        for namespace in namespaces {
            let kubectl = self.cluster.kubectl();
            kubectl
                .text(&["delete", "namespace", &namespace.name, "--wait=false"])
                .await?;
            // Now that nothing makes them anew.
            let pods = [
                "delete",
                "pods",
                "--all",
                "--grace-period=1",
                "--wait=false",
            ];
            namespace.text(&pods).await?;
        }
        Ok(())
    }
}

/// Keeps what there is in a namespace.
pub async fn keep_namespace(kubectl: &Kubectl, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let all = "all,endpointslices,configmaps,serviceaccounts";
    let args = ["get", all, "-o", "yaml"];
    keep(kubectl, &dir.join("objects.yaml"), &args).await?;
    keep(kubectl, &dir.join("pods.txt"), &["describe", "pods"]).await?;
    let events = ["get", "events", "--sort-by=.lastTimestamp"];
    keep(kubectl, &dir.join("events.txt"), &events).await?;
    for pod in kubectl.list("pods", "").await? {
        keep_logs(kubectl, dir, &pod).await?;
    }
    Ok(())
}

async fn keep_logs(kubectl: &Kubectl, dir: &Path, pod: &Value) -> anyhow::Result<()> {
    let name = pod["metadata"]["name"]
        .as_str()
        .context("a pod has no name")?;
    for kind in ["initContainerStatuses", "containerStatuses"] {
        for container in pod["status"][kind].as_array().into_iter().flatten() {
            let Some(container_name) = container["name"].as_str() else {
                continue;
            };
            let file = dir.join(format!("{name}.{container_name}.log"));
            let args = ["logs", name, "-c", container_name];
            keep(kubectl, &file, &args).await?;
            if container["restartCount"].as_u64() > Some(0) {
                let args = [&args[..], &["--previous"]].concat();
                keep(kubectl, &file.with_extension("previous.log"), &args).await?;
            }
        }
    }
    Ok(())
}

/// Keeps what a command prints, or why it does not.
async fn keep(kubectl: &Kubectl, file: &Path, args: &[&str]) -> anyhow::Result<()> {
    let output = kubectl.run(args, "").await?;
    std::fs::write(file, [output.stdout, output.stderr].concat())?;
    Ok(())
}

/// Tells this run's names from those of an earlier one on a cluster that stays.
fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{count}", std::process::id())
}
