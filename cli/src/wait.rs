//! `weft wait`: has my change reached everyone?

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use weft_local::info::Status;

use crate::admin::query_value;
use crate::output::{Format, print_json};
use crate::run_dir::RunDir;
use crate::{Output, duration};

/// Waits until an object, as it is written now, is compiled and every proxy that is due a change by it runs it.
/// Without a name: until every pod is ready and every proxy is up to date.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The object, as in HTTPRoute/catalog.
    #[arg(value_name = "KIND/NAME")]
    object: Option<String>,
    /// The object's namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// How long to wait at most.
    #[arg(long, default_value = "60s", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    mesh: RunDir,
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        match &self.object {
            Some(object) => self.object(object).await,
            None => self.everything().await,
        }
    }

    async fn object(&self, object: &str) -> Result<ExitCode> {
        let Some((kind, name)) = object.split_once('/') else {
            bail!("{object:?} is not of the form KIND/NAME, as in HTTPRoute/catalog");
        };
        let path = format!(
            "/v1/wait?kind={}&namespace={}&name={}&timeout={}",
            query_value(kind),
            query_value(&self.namespace),
            query_value(name),
            self.timeout.as_millis()
        );
        let answer = self.mesh.control_plane().get(&path).await?;
        let confirmed = answer["confirmed"].as_bool().unwrap_or(false);
        match self.output.output {
            Format::Json => print_json(&answer)?,
            Format::Table if confirmed => {
                println!(
                    "{object} is in force: {} proxies have confirmed it",
                    answer["proxies"]
                );
            }
            Format::Table => {
                println!(
                    "{object} is not in force everywhere yet; waiting for: {}",
                    names(&answer["lagging"])
                );
                println!(
                    "See `weft proxy status` for what these proxies have refused or not yet confirmed."
                );
            }
        }
        Ok(if confirmed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Polls, since what is waited for is spread over processes that come and go.
    async fn everything(&self) -> Result<ExitCode> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let status = self.mesh.status().await;
            if status.as_ref().is_ok_and(|status| status.settled) {
                if self.output.output == Format::Json {
                    print_json(&status?)?;
                } else {
                    println!("every pod is ready");
                }
                return Ok(ExitCode::SUCCESS);
            }
            if Instant::now() >= deadline {
                print!("{}", unready(&status?));
                return Ok(ExitCode::FAILURE);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn names(value: &serde_json::Value) -> String {
    let names: Vec<&str> = value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str())
        .collect();
    names.join(", ")
}

/// What stands in the way, a line each.
fn unready(status: &Status) -> String {
    let mut out = String::from("not everything is ready:\n");
    for fault in &status.faults {
        out.push_str(&format!("  {fault}\n"));
    }
    for pod in status.pods.iter().filter(|pod| !pod.ready) {
        let waiting: Vec<&str> = pod
            .containers
            .iter()
            .filter(|(_, one)| !one.ready)
            .map(|(name, _)| name.as_str())
            .collect();
        let why = pod
            .error
            .clone()
            .unwrap_or_else(|| format!("waiting for {}", waiting.join(", ")));
        out.push_str(&format!("  pod {}/{}: {why}\n", pod.namespace, pod.name));
    }
    if status.control_plane_pid.is_none() {
        out.push_str("  the control plane does not run\n");
    }
    out
}
