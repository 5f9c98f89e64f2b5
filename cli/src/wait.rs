//! `weft wait`: has my change reached everyone?
//!
//! On one machine; `cluster` asks all replicas of a control plane.

mod cluster;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use http::StatusCode;
use serde_json::Value;
use weft_local::info::Status;

use crate::admin::{Refused, query_value};
use crate::mesh::{Mesh, Place};
use crate::output::{Format, counted, print, print_json};
use crate::proxy::refusal;
use crate::run_dir::RunDir;
use crate::{Output, duration};

/// Waits until an object, as it is written now, is compiled and every proxy that is due a change by it runs it.
/// Without a name: until every pod is ready and every proxy is up to date.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The object, as in HTTPRoute/catalog.
    #[arg(value_name = "KIND/NAME")]
    object: Option<String>,
    /// The object's namespace [default: that of the kubeconfig's context, on one machine `default`]
    #[arg(short, long)]
    namespace: Option<String>,
    /// How long to wait at most.
    #[arg(long, default_value = "60s", value_parser = duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    mesh: Mesh,
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        match (&self.object, self.mesh.place().await?) {
            (Some(object), Place::Machine(run_dir)) => self.object(run_dir, object).await,
            (None, Place::Machine(run_dir)) => self.everything(run_dir).await,
            (Some(object), Place::Cluster(cluster)) => self.cluster_object(&cluster, object).await,
            (None, Place::Cluster(cluster)) => self.whole_cluster(&cluster).await,
        }
    }

    async fn object(&self, run_dir: &RunDir, object: &str) -> Result<ExitCode> {
        let (kind, name) = split(object)?;
        let path = format!(
            "/v1/wait?kind={}&namespace={}&name={}&timeout={}",
            query_value(kind),
            query_value(self.namespace.as_deref().unwrap_or("default")),
            query_value(name),
            self.timeout.as_millis()
        );
        let answer = run_dir.control_plane().get(&path).await;
        let answer = answer.map_err(|error| match error.downcast_ref::<Refused>() {
            Some(refused) if refused.status == StatusCode::NOT_FOUND => anyhow!(
                "{refused}; name another namespace by -n, and see `weft validate FOLDER` for objects that cannot be read"
            ),
            _ => error,
        })?;
        self.tell(object, &answer)
    }

    /// Prints an answer; success if the object is confirmed.
    fn tell(&self, object: &str, answer: &Value) -> Result<ExitCode> {
        match self.output.output {
            Format::Json => print_json(answer)?,
            Format::Table => print(&outcome(object, answer))?,
        }
        Ok(match answer["confirmed"].as_bool().unwrap_or(false) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    /// Polls, since what is waited for is spread over processes that come and go.
    async fn everything(&self, run_dir: &RunDir) -> Result<ExitCode> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let status = run_dir.status().await;
            if status.as_ref().is_ok_and(|status| status.settled) {
                let status = status?;
                match self.output.output {
                    Format::Json => print_json(&status)?,
                    Format::Table => print(&format!(
                        "ready: {}\n",
                        counted(status.pods.len(), "pod", "pods")
                    ))?,
                }
                return Ok(ExitCode::SUCCESS);
            }
            if Instant::now() >= deadline {
                let status = status?;
                match self.output.output {
                    Format::Json => print_json(&status)?,
                    Format::Table => print(&unready(&status))?,
                }
                return Ok(ExitCode::FAILURE);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// `KIND/NAME`
fn split(object: &str) -> Result<(&str, &str)> {
    let Some(parts) = object.split_once('/') else {
        bail!("{object:?} is not of the form KIND/NAME, as in HTTPRoute/catalog");
    };
    Ok(parts)
}

/// The control plane's answer in sentences.
fn outcome(object: &str, answer: &Value) -> String {
    let list = |field: &str| answer[field].as_array().cloned().unwrap_or_default();
    let proxies = answer["proxies"].as_u64().unwrap_or_default();
    let proxies = usize::try_from(proxies).unwrap_or(usize::MAX);
    let proxies = counted(proxies, "proxy", "proxies");
    if answer["confirmed"].as_bool().unwrap_or(false) {
        return format!("{object} is in force; connected and up to date with it: {proxies}\n");
    }
    let mut out = format!("{object} is not in force everywhere");
    let diagnostics = list("diagnostics");
    if !diagnostics.is_empty() {
        out += "; as it is written now it cannot be read, so its last good version holds:\n";
    }
    for finding in &diagnostics {
        out += &format!("  {}\n", finding["text"].as_str().unwrap_or_default());
    }
    let refusals = list("refusals");
    if !refusals.is_empty() {
        out += "; refused by\n";
    }
    for one in &refusals {
        out += &format!(
            "  {}: {}\n",
            one["pod"].as_str().unwrap_or_default(),
            refusal(one)
        );
    }
    if diagnostics.is_empty() && refusals.is_empty() {
        let lagging: Vec<String> = list("lagging")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        out += &format!(
            " yet; waiting for {}\nSee `weft proxy status`, or wait longer with --timeout.\n",
            lagging.join(", ")
        );
    }
    out
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_answer_says_whether_and_why_not() {
        let answer = json!({"confirmed": true, "proxies": 2, "lagging": []});
        assert_eq!(
            outcome("HTTPRoute/a", &answer),
            "HTTPRoute/a is in force; connected and up to date with it: 2 proxies\n"
        );
        let answer = json!({"confirmed": false, "proxies": 2, "lagging": ["shop/a", "shop/b"]});
        assert!(outcome("HTTPRoute/a", &answer).contains("yet; waiting for shop/a, shop/b\n"));
        let refusal = json!({"pod": "shop/a", "resource": "Service shop/w", "field": "ports", "reason": "odd"});
        let answer = json!({"confirmed": false, "lagging": ["shop/a"], "refusals": [refusal]});
        assert!(
            outcome("HTTPRoute/a", &answer)
                .ends_with("; refused by\n  shop/a: Service shop/w: ports: odd\n")
        );
        let finding = json!({"text": "a.yaml:3: HTTPRoute shop/a: spec: odd"});
        let answer = json!({"confirmed": false, "lagging": [], "diagnostics": [finding]});
        assert!(
            outcome("HTTPRoute/a", &answer)
                .ends_with("holds:\n  a.yaml:3: HTTPRoute shop/a: spec: odd\n")
        );
    }
}
