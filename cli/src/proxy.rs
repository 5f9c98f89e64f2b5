//! `weft proxy`: single proxies. `status` is the control plane's view of all of them, `config` one proxy's own.

mod cluster_status;
mod config;
mod status;

use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::Subcommand;
use serde_json::Value;

use crate::Output;
use crate::admin::Refused;
use crate::mesh::{Mesh, Place};
use crate::output::{Format, print, print_json};
use crate::run_dir::RunDir;
pub(crate) use cluster_status::ask as ask_cluster;
pub(crate) use status::refusal;

/// Where a proxy answers on the loopback of its pod.
pub(crate) const ADMIN_PORT: u16 = 15000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every proxy: who it is, and whether it runs what it should. In a cluster all replicas of the control plane are asked, and
    /// pods that should have a proxy and have none are named.
    Status {
        #[command(flatten)]
        mesh: Mesh,
        #[command(flatten)]
        output: Output,
    },
    /// What one proxy runs now: who may come in, and where calls go. All of it with `-o json`.
    Config {
        /// The pod, as in shop/web-6d4cf56db6-x2x9k, or without the namespace where -n names it.
        #[arg(value_name = "NAMESPACE/POD")]
        pod: String,
        /// The pod's namespace.
        #[arg(short, long)]
        namespace: Option<String>,
        #[command(flatten)]
        mesh: Mesh,
        #[command(flatten)]
        output: Output,
    },
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        match &self.command {
            Command::Status { mesh, output } => {
                let (status, table): (_, fn(&Value) -> String) = match mesh.place().await? {
                    Place::Machine(run_dir) => (status::ask(run_dir).await?, status::table),
                    Place::Cluster(cluster) => {
                        (ask_cluster(&cluster).await?, cluster_status::table)
                    }
                };
                match output.output {
                    Format::Json => print_json(&status)?,
                    Format::Table => print(&table(&status))?,
                }
            }
            Command::Config {
                pod,
                namespace,
                mesh,
                output,
            } => {
                let config = config(mesh, pod, namespace.as_deref()).await?;
                match output.output {
                    Format::Json => print_json(&config)?,
                    Format::Table => print(&config::text(&config))?,
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn config(mesh: &Mesh, pod: &str, namespace: Option<&str>) -> Result<Value> {
    let place = mesh.place().await?;
    let by_kubeconfig = match &place {
        Place::Cluster(cluster) => Some(cluster.namespace.as_str()),
        Place::Machine(_) => None,
    };
    let (namespace, name) = match (pod.split_once('/'), namespace.or(by_kubeconfig)) {
        (Some(named), _) => named,
        (None, Some(namespace)) => (namespace, pod),
        (None, None) => bail!(
            "{pod:?} is not of the form NAMESPACE/POD, and -n names no namespace; `weft proxy status` lists the pods"
        ),
    };
    match &place {
        Place::Machine(run_dir) => {
            let path = RunDir::proxy_path(namespace, name, "/config");
            let answer = run_dir.supervisor().get(&path).await;
            answer.map_err(|error| match error.downcast_ref::<Refused>() {
                Some(refused) => anyhow!("{refused}; `weft proxy status` lists the pods"),
                None => error,
            })
        }
        Place::Cluster(cluster) => {
            let answer = cluster
                .admin(namespace, name, ADMIN_PORT)
                .get("/config")
                .await;
            answer.context("`weft proxy status` lists the pods")
        }
    }
}
