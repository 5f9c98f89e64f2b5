//! `weft proxy`: single proxies. `status` is the control plane's view of all of them, `config` one proxy's own.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Subcommand;
use serde_json::Value;

use crate::Output;
use crate::output::{Format, print_json};
use crate::run_dir::RunDir;
use crate::table::{Align, Table};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every connected proxy: who it is, and whether it runs what it should.
    Status {
        #[command(flatten)]
        mesh: RunDir,
        #[command(flatten)]
        output: Output,
    },
    /// The configuration that one proxy runs now.
    Config {
        /// The pod, as in shop/web-6d4cf56db6-x2x9k.
        #[arg(value_name = "NAMESPACE/POD")]
        pod: String,
        #[command(flatten)]
        mesh: RunDir,
    },
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        match &self.command {
            Command::Status { mesh, output } => status(mesh, output.output).await?,
            Command::Config { pod, mesh } => {
                let Some((namespace, name)) = pod.split_once('/') else {
                    bail!(
                        "{pod:?} is not of the form NAMESPACE/POD; `weft proxy status` lists the pods"
                    );
                };
                let path = RunDir::proxy_path(namespace, name, "/config");
                print_json(&mesh.supervisor().get(&path).await?)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn status(run_dir: &RunDir, format: Format) -> Result<()> {
    let answer = run_dir.control_plane().get("/v1/proxies").await?;
    if format == Format::Json {
        return print_json(&answer);
    }
    let mut table = Table::new(&[
        ("POD", Align::Left),
        ("IDENTITY", Align::Left),
        ("CONNECTED", Align::Right),
        ("STATE", Align::Left),
        ("REFUSED", Align::Left),
    ]);
    for proxy in answer["proxies"].as_array().into_iter().flatten() {
        let refused: Vec<String> = proxy["refusals"]
            .as_array()
            .into_iter()
            .flatten()
            .map(refusal)
            .collect();
        table.row(vec![
            text(&proxy["pod"]),
            text(&proxy["identity"]),
            format!("{}s", proxy["connectedSeconds"]),
            if proxy["upToDate"].as_bool().unwrap_or(false) {
                "up to date".into()
            } else {
                "behind".into()
            },
            refused.join("; "),
        ]);
    }
    print!("{}", table.render());
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn refusal(value: &Value) -> String {
    format!(
        "{}: {}: {}",
        text(&value["resource"]),
        text(&value["field"]),
        text(&value["reason"])
    )
}
