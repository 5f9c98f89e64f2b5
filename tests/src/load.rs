//! "Nothing failed" as a claim with a shape: requests at a fixed rate from several pods, half on
//! kept-alive connections and half on new ones, for as long as something happens to the mesh.
//!
//! The client itself is the program `weft-load`; this module starts one in each client pod, stops
//! them, and judges.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use weft_local::info::ExecRequest;
use weft_local::{Client, Output, Running};

use crate::fixture::program;

/// Requests that a claim rests on at least.
pub const LEAST_REQUESTS: u64 = 10_000;
/// Source addresses that new connections come from at least.
pub const LEAST_SOURCES: usize = 4;
/// Time under load before the first event.
pub const BEFORE: Duration = Duration::from_secs(2);
/// Time under load after the last event.
pub const AFTER: Duration = Duration::from_secs(5);
/// The file that tells a client to stop.
pub const STOP_FILE: &str = "/tmp/weft-load.stop";

/// What one load client saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Requests sent.
    pub sent: u64,
    /// Requests answered as expected.
    pub good: u64,
    /// Answers by the responding pod (`pod` of the echo's JSON).
    pub by_pod: BTreeMap<String, u64>,
    /// Answers by the responding version.
    pub by_version: BTreeMap<String, u64>,
    /// Every failure.
    pub failures: Vec<Failure>,
}

/// One request that was not answered as expected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// Unix milliseconds at which it was sent.
    pub at: u128,
    /// Whether it went over a kept-alive connection.
    pub kept_alive: bool,
    /// Status and Weft's headers, or what went wrong.
    pub what: String,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.good += other.good;
        for (pod, count) in other.by_pod {
            *self.by_pod.entry(pod).or_default() += count;
        }
        for (version, count) in other.by_version {
            *self.by_version.entry(version).or_default() += count;
        }
        self.failures.extend(other.failures);
    }

    /// What went wrong: how often, and when it did first and last.
    fn causes(&self) -> Vec<String> {
        let mut causes: BTreeMap<(bool, &str), Vec<u128>> = BTreeMap::new();
        for failure in &self.failures {
            let times = causes.entry((failure.kept_alive, &failure.what));
            times.or_default().push(failure.at);
        }
        let told = causes.iter().take(20).map(|((kept_alive, what), times)| {
            let connection = if *kept_alive { "kept alive" } else { "new" };
            let (first, last) = (times.iter().min(), times.iter().max());
            format!(
                "{} times ({connection}) from {first:?} to {last:?}: {what}",
                times.len()
            )
        });
        told.collect()
    }

    /// Fails unless nothing failed and the claim has its shape.
    pub fn nothing_failed(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.failures.is_empty() && self.good == self.sent,
            "{} of {} requests failed:\n{}",
            self.sent - self.good,
            self.sent,
            self.causes().join("\n")
        );
        anyhow::ensure!(
            self.sent >= LEAST_REQUESTS,
            "{} requests are too few for the claim",
            self.sent
        );
        Ok(())
    }
}

/// Where load clients run: the pods of a namespace.
pub trait Place {
    /// A client that runs.
    type Running;

    /// Starts the client with these arguments in a pod.
    fn start(
        &self,
        pod: &str,
        arguments: &[&str],
    ) -> impl Future<Output = anyhow::Result<Self::Running>>;

    /// Stops it and waits for what it says at its end.
    fn stop(
        &self,
        pod: &str,
        running: Self::Running,
    ) -> impl Future<Output = anyhow::Result<Output>>;
}

/// A namespace of a mesh on this machine.
#[derive(Clone, Debug)]
pub struct LocalPods {
    /// The mesh.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl Place for LocalPods {
    type Running = Running;

    async fn start(&self, pod: &str, arguments: &[&str]) -> anyhow::Result<Running> {
        let program = program("weft-load")?;
        let words = std::iter::once(&*program).chain(arguments.iter().copied());
        let request = ExecRequest {
            pod: Some((self.namespace.clone(), pod.to_owned())),
            argv: words.map(str::to_owned).collect(),
            ..ExecRequest::default()
        };
        self.client.start(&request).await
    }

    async fn stop(&self, pod: &str, running: Running) -> anyhow::Result<Output> {
        self.client
            .exec(&self.namespace, pod, &["touch", STOP_FILE])
            .await?;
        running.output().await
    }
}

/// What is asked for, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// What is got.
    pub url: &'a str,
    /// Requests a second, all clients together.
    pub rate: u32,
    /// What every answer must contain; `None`: it is an echo's JSON.
    pub expect: Option<&'a str>,
}

/// Load that runs.
#[derive(Debug)]
pub struct Load<P: Place> {
    place: P,
    clients: Vec<(String, P::Running)>,
    rate: u32,
    started: Instant,
}

impl<P: Place> Load<P> {
    /// Starts clients in `pods` and returns after [`BEFORE`].
    pub async fn start(place: P, pods: &[String], target: Target<'_>) -> anyhow::Result<Self> {
        anyhow::ensure!(
            pods.len() >= LEAST_SOURCES,
            "{} client pods are too few",
            pods.len()
        );
        let started = Instant::now();
        let each = (target.rate / u32::try_from(pods.len())?).to_string();
        let mut arguments = vec!["--url", target.url, "--rate", &each];
        if let Some(text) = target.expect {
            arguments.extend(["--expect", text]);
        }
        let mut clients = Vec::new();
        for pod in pods {
            clients.push((pod.clone(), place.start(pod, &arguments).await?));
        }
        tokio::time::sleep(BEFORE).await;
        Ok(Self {
            place,
            clients,
            rate: target.rate,
            started,
        })
    }

    /// Goes on for [`AFTER`], and until each client has sent its share of [`LEAST_REQUESTS`], then
    /// stops and reports.
    pub async fn finish(self) -> anyhow::Result<Report> {
        let least = Duration::from_secs(LEAST_REQUESTS.div_ceil(u64::from(self.rate)) + 1);
        let rest = least.saturating_sub(self.started.elapsed()).max(AFTER);
        tokio::time::sleep(rest).await;
        let mut report = Report::default();
        for (pod, running) in self.clients {
            let output = self.place.stop(&pod, running).await?;
            let one: Report = serde_json::from_slice(&output.stdout).with_context(|| {
                format!(
                    "the load client in {pod} ended with {}: {}",
                    output.code,
                    output.err()
                )
            })?;
            report.add(one);
        }
        Ok(report)
    }
}
