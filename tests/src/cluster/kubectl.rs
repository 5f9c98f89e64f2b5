//! `kubectl` as a library: arguments in, JSON out. A command that fails is an error which says what
//! was asked and what the API server answered.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::process::Command;
use weft_local::Output;

use super::child;
use crate::fixture::LIMIT;

/// The pace at which facts are asked for.
const POLL: Duration = Duration::from_millis(250);

/// Whether what is waited for is so.
#[derive(Clone, Debug)]
pub enum Fact<T> {
    /// It is.
    Is(T),
    /// It is not yet: the state that was seen.
    NotYet(String),
}

impl Fact<()> {
    /// A fact without a value.
    pub fn when(holds: bool, state: impl ToString) -> Self {
        if holds {
            Self::Is(())
        } else {
            Self::NotYet(state.to_string())
        }
    }
}

/// Asks until it is so, for at most [`LIMIT`], and then says what the last state was.
pub async fn until<T>(
    what: &str,
    ask: impl AsyncFn() -> anyhow::Result<Fact<T>>,
) -> anyhow::Result<T> {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        match ask().await.with_context(|| what.to_owned())? {
            Fact::Is(value) => return Ok(value),
            Fact::NotYet(state) => anyhow::ensure!(
                tokio::time::Instant::now() < deadline,
                "not within {LIMIT:?}: {what}; last state: {state}"
            ),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The command, for one cluster and, where it is set, one namespace.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
    namespace: Option<String>,
}

impl Kubectl {
    /// For a cluster. What the command remembers of the cluster's API it keeps in `cache`.
    pub fn new(program: PathBuf, kubeconfig: PathBuf, cache: PathBuf) -> Self {
        Self {
            program,
            kubeconfig,
            cache,
            namespace: None,
        }
    }

    /// For a namespace of the cluster.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..self.clone()
        }
    }

    /// The file that names the cluster, for other clients.
    pub fn kubeconfig(&self) -> &PathBuf {
        &self.kubeconfig
    }

    /// The command itself, to run it in another way.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let mut flag = OsString::from("--kubeconfig=");
        flag.push(&self.kubeconfig);
        command.arg(flag).env("KUBECACHEDIR", &self.cache);
        if let Some(namespace) = &self.namespace {
            command.arg(format!("--namespace={namespace}"));
        }
        command.args(args).kill_on_drop(true);
        command
    }

    /// Runs it with this input, whatever it answers.
    pub async fn run(&self, args: &[&str], input: &str) -> anyhow::Result<Output> {
        child::output(self.command(args), input).await
    }

    /// What it prints; an error if it fails.
    pub async fn text(&self, args: &[&str]) -> anyhow::Result<String> {
        self.text_of(args, "").await
    }

    async fn text_of(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        let output = self.run(args, input).await?;
        anyhow::ensure!(
            output.code == 0,
            "kubectl {}: {}",
            args.join(" "),
            output.err().trim_end()
        );
        Ok(output.out())
    }

    /// What it prints with `-o json`.
    pub async fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        let args = [args, &["-o", "json"]].concat();
        Ok(serde_json::from_str(&self.text(&args).await?)?)
    }

    /// An object.
    pub async fn object(&self, kind: &str, name: &str) -> anyhow::Result<Value> {
        self.json(&["get", kind, name]).await
    }

    /// An object, if it is there.
    pub async fn find(&self, kind: &str, name: &str) -> anyhow::Result<Option<Value>> {
        let args = ["get", kind, name, "--ignore-not-found", "-o", "json"];
        let text = self.text(&args).await?;
        match text.trim().is_empty() {
            true => Ok(None),
            false => Ok(Some(serde_json::from_str(&text)?)),
        }
    }

    /// The objects that have these labels (`app=web`); all of them if none are given.
    pub async fn list(&self, kind: &str, labels: &str) -> anyhow::Result<Vec<Value>> {
        let mut list = self.json(&["get", kind, "--selector", labels]).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            other => anyhow::bail!("a list of {kind} is {other}"),
        }
    }

    /// Applies objects; on the server's side, so that fields have owners as they will have in life.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        let args = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.text_of(&args, &as_yaml(yaml)).await.map(drop)
    }

    /// Applies the objects of a folder that has a kustomization, and waits for the CRDs among them.
    pub async fn apply_folder(&self, folder: &Path) -> anyhow::Result<()> {
        let folder = folder.to_str().context("a path that is no text")?;
        let applied = ["apply", "--server-side", "--force-conflicts", "-k", folder];
        self.text(&applied).await?;
        let known = ["wait", "--for=condition=Established", "crd", "--all"];
        self.text(&known).await.map(drop)
    }

    /// Deletes what [`Self::apply_folder`] applies.
    pub async fn delete_folder(&self, folder: &Path) -> anyhow::Result<()> {
        let folder = folder.to_str().context("a path that is no text")?;
        let args = [
            "delete",
            "--ignore-not-found",
            "--timeout=60s",
            "-k",
            folder,
        ];
        self.text(&args).await.map(drop)
    }

    /// Creates an object (`create -f -`) and gives it as it is then, for reviews too.
    pub async fn create(&self, yaml: &str) -> anyhow::Result<Value> {
        let text = self
            .text_of(&["create", "-o", "json", "-f", "-"], &as_yaml(yaml))
            .await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Deletes an object, if it is there, and waits until it is gone.
    pub async fn delete(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        self.text(&["delete", kind, name, "--ignore-not-found", "--timeout=60s"])
            .await
            .map(drop)
    }

    /// Runs a command in a container of a pod; `pod` may be `deployment/NAME` too.
    pub async fn exec(&self, pod: &str, container: &str, argv: &[&str]) -> anyhow::Result<Output> {
        let args = [&["exec", pod, "--container", container, "--"], argv].concat();
        self.run(&args, "").await
    }

    /// What a container has written so far.
    pub async fn logs(&self, pod: &str, container: &str) -> anyhow::Result<String> {
        self.text(&["logs", pod, "--container", container]).await
    }

    /// Waits until a Deployment runs as it is written now, all replicas ready and no old one left.
    pub async fn rolled_out(&self, deployment: &str) -> anyhow::Result<()> {
        let seconds = LIMIT.as_secs();
        let args = [
            "rollout",
            "status",
            &format!("deployment/{deployment}"),
            &format!("--timeout={seconds}s"),
        ];
        if let Err(error) = self.text(&args).await {
            let pods = self.text(&["get", "pods", "-o", "wide"]).await?;
            return Err(error.context(format!("the pods are\n{pods}")));
        }
        Ok(())
    }

    /// Waits until a pod has the condition Ready.
    pub async fn ready(&self, pod: &str) -> anyhow::Result<Value> {
        until(&format!("pod {pod} is ready"), async || {
            let Some(pod) = self.find("pod", pod).await? else {
                return Ok(Fact::NotYet("there is none".to_owned()));
            };
            let ready = condition(&pod, "Ready").is_some_and(|ready| ready["status"] == "True");
            match ready {
                true => Ok(Fact::Is(pod)),
                false => Ok(Fact::NotYet(pod["status"].to_string())),
            }
        })
        .await
    }
}

/// A container's entry in the status of a pod, be it an init container's; null if there is none.
pub fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let lists = lists
        .iter()
        .filter_map(|list| pod["status"][list].as_array());
    let found = lists.flatten().find(|one| one["name"] == name);
    found.unwrap_or(&Value::Null)
}

/// A condition of an object's status.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// What begins with a brace is taken for JSON, and whether kubectl then finds out that it is YAML depends on how it
/// comes through the pipe.
fn as_yaml(text: &str) -> String {
    format!("---\n{text}")
}
