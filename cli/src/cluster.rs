//! A cluster that the mesh runs in: its API server, and the way through it to ports of pods.
//!
//! Owns which cluster is meant and how it is asked; objects are JSON, as the API server has them.
//! What they mean is for the commands.

mod objects;
mod pods;
mod replicas;

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use http::{Method, Request, StatusCode};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

use crate::admin::{Admin, query_value};

pub(crate) use objects::{is_kept_by_kubectl, path_of, resource_of};
#[cfg(test)]
pub(crate) use pods::Unmeshed;
pub(crate) use pods::{Meshed, Standing, meshed, namespace_settings, pod_name};
pub(crate) use replicas::{Replica, ask_all, is_ready};

/// Which cluster is meant.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "In a cluster")]
pub(crate) struct ClusterFlags {
    /// The kubeconfig of the cluster [default: that of KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The namespace of the control plane.
    #[arg(long, value_name = "NAME", default_value = "weft-system")]
    system_namespace: String,
}

/// The API server of a cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    /// The namespace of the control plane.
    pub system: String,
    /// The namespace that the kubeconfig's context names.
    pub namespace: String,
}

impl ClusterFlags {
    /// Whether a cluster was asked for by flags.
    pub(crate) fn are_given(&self) -> bool {
        self.kubeconfig.is_some() || self.context.is_some()
    }

    /// The cluster; nothing is contacted yet.
    pub(crate) async fn connect(&self) -> Result<Cluster> {
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let read = Kubeconfig::read_from(path);
                let read = read.with_context(|| path.display().to_string())?;
                Config::from_custom_kubeconfig(read, &options).await?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await?,
            (None, None) => Config::infer().await.context(
                "no mesh of this machine and no cluster: `weft up -f FOLDER` starts the one, --kubeconfig or KUBECONFIG names the other",
            )?,
        };
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
        Ok(Cluster {
            client,
            system: self.system_namespace.clone(),
            namespace,
        })
    }
}

impl Cluster {
    /// An admin interface on a pod's loopback.
    pub(crate) fn admin(&self, namespace: &str, pod: &str, port: u16) -> Admin {
        Admin::of_pod(self.client.clone(), namespace, pod, port)
    }

    /// The answer of the API server to a GET.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, "", Vec::new()).await
    }

    /// The answer of the API server to a GET, if there is such a thing.
    pub(crate) async fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if status(&error) == Some(StatusCode::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The items of a collection; none where there is no such resource.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let Some(mut list) = self.find(path).await? else {
            return Ok(Vec::new());
        };
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => bail!("the API server's answer to {path} is no list"),
        }
    }

    /// The text that the API server answers to a GET, such as a container's log.
    pub(crate) async fn text(&self, path: &str) -> Result<String> {
        let request = request(Method::GET, path, "", Vec::new())?;
        let answer = self.client.request_text(request).await;
        answer.with_context(|| failed(&Method::GET, path))
    }

    /// What the API server's clock says, to the second.
    pub(crate) async fn date(&self) -> Result<SystemTime> {
        let request = Request::get("/version").body(kube::client::Body::empty())?;
        let answer = self
            .client
            .send(request)
            .await
            .context("the API server's clock")?;
        let date = crate::admin::date(answer.headers());
        date.context("the API server's answers have no date")
    }

    /// Sends a body of this type.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Value> {
        let request = request(method.clone(), path, content_type, body)?;
        let answer = self.client.request(request).await;
        answer.with_context(|| failed(&method, path))
    }
}

fn request(
    method: Method,
    path: &str,
    content_type: &str,
    body: Vec<u8>,
) -> Result<Request<Vec<u8>>> {
    let mut request = Request::builder().method(method).uri(path);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    Ok(request.body(body)?)
}

fn failed(method: &Method, path: &str) -> String {
    format!("the API server, asked to {method} {path}")
}

/// The HTTP status by which the API server refused.
pub(crate) fn status(error: &anyhow::Error) -> Option<StatusCode> {
    match error.downcast_ref::<kube::Error>()? {
        kube::Error::Api(status) => StatusCode::from_u16(status.code).ok(),
        _ => None,
    }
}

/// `?labelSelector=KEY%3DVALUE`
pub(crate) fn labelled(key: &str, value: &str) -> String {
    format!("?labelSelector={}", query_value(&format!("{key}={value}")))
}
