//! "Nothing failed" as a claim with a shape: requests at a fixed rate from several pods, half on
//! kept-alive connections and half on new ones, for as long as something happens to the mesh.
//!
//! The client itself is the program `weft-load`; this module starts one in each client pod, stops
//! them, and judges.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use weft_local::info::ExecRequest;
use weft_local::{Client, Running};

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

    /// Fails unless nothing failed and the claim has its shape.
    pub fn nothing_failed(&self) -> anyhow::Result<()> {
        let first: Vec<_> = self.failures.iter().take(5).collect();
        anyhow::ensure!(
            self.failures.is_empty() && self.good == self.sent,
            "{} of {} requests failed, such as {first:#?}",
            self.sent - self.good,
            self.sent
        );
        anyhow::ensure!(
            self.sent >= LEAST_REQUESTS,
            "{} requests are too few for the claim",
            self.sent
        );
        Ok(())
    }
}

/// Load that runs.
#[derive(Debug)]
pub struct Load {
    client: Client,
    sources: Vec<(String, String, Running)>,
}

impl Load {
    /// Starts clients in `pods` of `namespace`, `rate` requests a second in all, and returns after
    /// [`BEFORE`].
    pub async fn start(
        client: &Client,
        program: &str,
        namespace: &str,
        pods: &[String],
        url: &str,
        rate: u32,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(
            pods.len() >= LEAST_SOURCES,
            "{} client pods are too few",
            pods.len()
        );
        let each = rate / u32::try_from(pods.len())?;
        let mut sources = Vec::new();
        for pod in pods {
            let argv = [program, "--url", url, "--rate", &each.to_string()];
            let request = ExecRequest {
                pod: Some((namespace.to_owned(), pod.clone())),
                argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                ..ExecRequest::default()
            };
            sources.push((
                namespace.to_owned(),
                pod.clone(),
                client.start(&request).await?,
            ));
        }
        tokio::time::sleep(BEFORE).await;
        Ok(Self {
            client: client.clone(),
            sources,
        })
    }

    /// Goes on for [`AFTER`], and until each client has sent its share of [`LEAST_REQUESTS`] at
    /// `rate`, then stops and reports.
    pub async fn finish(self, started: tokio::time::Instant, rate: u32) -> anyhow::Result<Report> {
        let least = Duration::from_secs(LEAST_REQUESTS.div_ceil(u64::from(rate)) + 1);
        let rest = least.saturating_sub(started.elapsed()).max(AFTER);
        tokio::time::sleep(rest).await;
        for (namespace, pod, _) in &self.sources {
            self.client
                .exec(namespace, pod, &["touch", STOP_FILE])
                .await?;
        }
        let mut report = Report::default();
        for (_, pod, running) in self.sources {
            let output = running.output().await?;
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
