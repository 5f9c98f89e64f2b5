//! `weft top`: who calls whom, from the proxies' own metrics.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Meshed, meshed};
use crate::mesh::{self, Place};
use crate::metrics::{Edge, Mesh, Page, Traffic};
use crate::output::{Format, print, print_json};
use crate::run_dir::RunDir;
use crate::table::{Align, Table};
use crate::{Output, duration};
use weft_inject::names::METRICS_PORT;

/// How many pods of a cluster are asked at a time.
const AT_ONCE: usize = 8;

/// Shows calls between workloads as the callers' proxies see them: success, latency, retries and the share of mutual
/// TLS. Refreshes until Ctrl-C.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print once, with the totals since the proxies started.
    #[arg(long)]
    once: bool,
    /// Time between two looks.
    #[arg(long, default_value = "1s", value_parser = duration::parse)]
    interval: Duration,
    #[command(flatten)]
    mesh: mesh::Mesh,
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        let place = self.mesh.place().await?;
        let mut before: Option<(Instant, Mesh)> = None;
        loop {
            let pages = match &place {
                Place::Machine(run_dir) => pages(run_dir).await?,
                Place::Cluster(cluster) => cluster_pages(cluster).await?,
            };
            let mesh = Mesh::read(&pages);
            let now = Instant::now();
            match self.output.output {
                Format::Json => print_json(&to_json(&mesh))?,
                Format::Table => {
                    self.print(&mesh, before.as_ref().map(|(then, old)| (now - *then, old)))?
                }
            }
            if self.once {
                return Ok(ExitCode::SUCCESS);
            }
            before = Some((now, mesh));
            tokio::select! {
                () = tokio::time::sleep(self.interval) => {}
                _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            }
        }
    }

    fn print(&self, mesh: &Mesh, before: Option<(Duration, &Mesh)>) -> Result<()> {
        // Home and clear to the end: no flicker.
        let clear = if !self.once && std::io::stdout().is_terminal() {
            "\x1b[H\x1b[J"
        } else {
            ""
        };
        print(&format!("{clear}{}", table(mesh, before)))
    }
}

/// The metrics page of every meshed pod that answers.
async fn pages(run_dir: &RunDir) -> Result<Vec<Page>> {
    let status = run_dir.status().await?;
    let supervisor = run_dir.supervisor();
    let mut pages = Vec::new();
    for pod in status.pods.iter().filter(|pod| pod.meshed) {
        let path = RunDir::proxy_path(&pod.namespace, &pod.name, "/metrics");
        // A proxy that is starting or leaving has no page, and is no reason to show nothing.
        if let Ok(text) = supervisor.get_text(&path).await {
            pages.push(Page {
                pod: format!("{}/{}", pod.namespace, pod.name),
                workload: RunDir::workload(pod),
                text,
            });
        }
    }
    Ok(pages)
}

/// The same through the API server, a few pods at a time.
async fn cluster_pages(cluster: &Cluster) -> Result<Vec<Page>> {
    let pods = cluster.list("/api/v1/pods").await?;
    let meshed = meshed(&pods, &cluster.system).into_iter();
    let pages = meshed.map(|Meshed { name, pod, .. }| async move {
        let (namespace, pod_name) = name.split_once('/')?;
        let admin = cluster.admin(namespace, pod_name, METRICS_PORT);
        let text = admin.get_text("/metrics").await.ok()?;
        Some(Page {
            workload: format!("{namespace}/{}", workload(pod, pod_name)),
            text,
            pod: name,
        })
    });
    let pages = stream::iter(pages).buffered(AT_ONCE);
    Ok(pages.filter_map(std::future::ready).collect().await)
}

/// What the pods of one Deployment (or StatefulSet, DaemonSet, Job) have in common.
fn workload<'a>(pod: &'a Value, name: &'a str) -> &'a str {
    let owner = &pod["metadata"]["ownerReferences"][0];
    let owner_name = owner["name"].as_str().unwrap_or(name);
    let hash = pod["metadata"]["labels"]["pod-template-hash"].as_str();
    match (owner["kind"].as_str(), hash) {
        (Some("ReplicaSet"), Some(hash)) => {
            let deployment = owner_name.strip_suffix(hash);
            deployment
                .and_then(|name| name.strip_suffix('-'))
                .unwrap_or(owner_name)
        }
        _ => owner_name,
    }
}

fn table(mesh: &Mesh, before: Option<(Duration, &Mesh)>) -> String {
    if mesh.edges.is_empty() {
        return "no pod with a sidecar has called anybody yet; `weft wait` says whether all are ready\n".to_owned();
    }
    let mut table = Table::new(&[
        ("FROM", Align::Left),
        ("TO", Align::Left),
        ("BACKEND", Align::Left),
        ("REQUESTS", Align::Right),
        ("RPS", Align::Right),
        ("SUCCESS", Align::Right),
        ("REFUSED", Align::Right),
        ("RETRIES", Align::Right),
        ("P50", Align::Right),
        ("P99", Align::Right),
        ("MTLS", Align::Right),
    ]);
    for (edge, traffic) in &mesh.edges {
        table.row(vec![
            edge.from.clone(),
            edge.to.clone(),
            edge.backend.clone(),
            traffic.requests.to_string(),
            rate(edge, traffic, before),
            percent(traffic.success()),
            traffic.refused.to_string(),
            traffic.retries.to_string(),
            millis(traffic.latency_ms(0.5)),
            millis(traffic.latency_ms(0.99)),
            percent(traffic.mtls_share()),
        ]);
    }
    table.render()
}

fn rate(edge: &Edge, traffic: &Traffic, before: Option<(Duration, &Mesh)>) -> String {
    let Some((elapsed, old)) = before else {
        return "-".into();
    };
    let earlier = old.edges.get(edge).map_or(0, |old| old.requests);
    // A proxy that restarted counts from nought again.
    let requests = traffic.requests.saturating_sub(earlier);
    format!("{:.1}", requests as f64 / elapsed.as_secs_f64())
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn millis(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.1}ms"))
}

fn to_json(mesh: &Mesh) -> Value {
    let edges: Vec<Value> = mesh
        .edges
        .iter()
        .map(|(edge, traffic)| {
            let mut row = traffic_json(traffic);
            row["from"] = edge.from.as_str().into();
            row["to"] = edge.to.as_str().into();
            row["backend"] = edge.backend.as_str().into();
            row
        })
        .collect();
    let pods: Vec<Value> = mesh
        .pods
        .iter()
        .map(|(pod, traffic)| {
            let mut row = traffic_json(traffic);
            row["pod"] = pod.as_str().into();
            row
        })
        .collect();
    json!({ "edges": edges, "pods": pods })
}

fn traffic_json(traffic: &Traffic) -> Value {
    let statuses: BTreeMap<String, u64> = traffic
        .statuses
        .iter()
        .map(|(status, count)| (status.to_string(), *count))
        .collect();
    json!({
        "requests": traffic.requests,
        "failed": traffic.failed,
        "refused": traffic.refused,
        "retries": traffic.retries,
        "mtls": traffic.mtls,
        "unsent": traffic.unsent,
        "statuses": statuses,
        "p50Ms": traffic.latency_ms(0.5),
        "p99Ms": traffic.latency_ms(0.99),
    })
}
