//! `weft proxy`: single proxies. `status` is the control plane's view of all of them, `config` one proxy's own.

mod config;
mod status;

use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use clap::Subcommand;

use crate::Output;
use crate::admin::Refused;
use crate::output::{Format, print, print_json};
use crate::run_dir::RunDir;
pub(crate) use status::refusal;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every proxy: who it is, and whether it runs what it should.
    Status {
        #[command(flatten)]
        mesh: RunDir,
        #[command(flatten)]
        output: Output,
    },
    /// What one proxy runs now: who may come in, and where calls go. All of it with `-o json`.
    Config {
        /// The pod, as in shop/web-6d4cf56db6-x2x9k.
        #[arg(value_name = "NAMESPACE/POD")]
        pod: String,
        #[command(flatten)]
        mesh: RunDir,
        #[command(flatten)]
        output: Output,
    },
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        match &self.command {
            Command::Status { mesh, output } => {
                let status = status::ask(mesh).await?;
                match output.output {
                    Format::Json => print_json(&status)?,
                    Format::Table => print(&status::table(&status))?,
                }
            }
            Command::Config { pod, mesh, output } => {
                let config = config(mesh, pod).await?;
                match output.output {
                    Format::Json => print_json(&config)?,
                    Format::Table => print(&config::text(&config))?,
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn config(mesh: &RunDir, pod: &str) -> Result<serde_json::Value> {
    let Some((namespace, name)) = pod.split_once('/') else {
        bail!("{pod:?} is not of the form NAMESPACE/POD; `weft proxy status` lists the pods");
    };
    let path = RunDir::proxy_path(namespace, name, "/config");
    let answer = mesh.supervisor().get(&path).await;
    answer.map_err(|error| match error.downcast_ref::<Refused>() {
        Some(refused) => anyhow!("{refused}; `weft proxy status` lists the pods"),
        None => error,
    })
}
