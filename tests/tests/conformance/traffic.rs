//! Whether the suite's traffic went through the mesh: what the proxies of its pods counted, beside
//! what the suite says that it sent. Without a mesh some of its tests pass too.

use std::collections::BTreeMap;

use anyhow::Context;
use weft_tests::cluster::Kubectl;
use weft_tests::runner::{Concurrency, Outcome, Test, anywhere};

use crate::official::{CLIENTS, Run, SERVERS};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        Test {
            name: "every_request_left_through_a_proxy",
            concurrency: Concurrency::Shared,
            possible: anywhere,
            run: |_| Box::pin(every_request_left_through_a_proxy()),
        },
        Test {
            name: "every_request_arrived_by_mutual_tls",
            concurrency: Concurrency::Shared,
            possible: anywhere,
            run: |_| Box::pin(every_request_arrived_by_mutual_tls()),
        },
    ]
}

/// What was seen of the suite's requests.
#[derive(Debug)]
pub struct Traffic {
    /// Answers that the suite got, by its own account.
    answers: u64,
    /// What the proxy of each of its pods in the mesh counted.
    pods: Vec<Counts>,
}

/// The counters of a proxy.
#[derive(Debug)]
struct Counts {
    namespace: &'static str,
    pod: String,
    series: Vec<(Labels, u64)>,
}

type Labels = BTreeMap<String, String>;

impl Counts {
    /// Requests that have all these labels.
    fn requests(&self, labels: &[(&str, &str)]) -> u64 {
        let has = |series: &Labels| {
            let mut labels = labels.iter();
            labels.all(|(name, value)| series.get(*name).is_some_and(|found| found == value))
        };
        let matching = self.series.iter().filter(|(labels, _)| has(labels));
        matching.map(|(_, count)| count).sum()
    }
}

impl Traffic {
    fn requests(&self, labels: &[(&str, &str)]) -> u64 {
        self.pods.iter().map(|pod| pod.requests(labels)).sum()
    }
}

async fn every_request_left_through_a_proxy() -> Outcome {
    let traffic = &Run::done().await?.traffic;
    let sent = traffic.requests(&[("direction", "outbound")]);
    anyhow::ensure!(
        traffic.answers > 0 && sent >= traffic.answers,
        "the suite had {} answers, its pods' proxies sent {sent} requests: {traffic:#?}",
        traffic.answers
    );
    Ok(())
}

/// What proxies sent on to a backend is what proxies let in, and they let in nothing else.
async fn every_request_arrived_by_mutual_tls() -> Outcome {
    let traffic = &Run::done().await?.traffic;
    let secured = |direction| traffic.requests(&[("direction", direction), ("mtls", "true")]);
    let (sent, arrived) = (secured("outbound"), secured("inbound"));
    let plain = traffic.requests(&[("direction", "inbound"), ("mtls", "false")]);
    anyhow::ensure!(
        arrived > 0 && arrived == sent && plain == 0,
        "by mutual TLS {sent} were sent and {arrived} arrived; {plain} arrived without: {traffic:#?}"
    );
    // Those of the other namespace are clients only.
    let servers = traffic.pods.iter().filter(|pod| pod.namespace == SERVERS);
    for server in servers {
        let arrived = server.requests(&[("direction", "inbound"), ("mtls", "true")]);
        anyhow::ensure!(
            arrived > 0,
            "nothing arrived at {}: {traffic:#?}",
            server.pod
        );
    }
    Ok(())
}

/// Reads the proxies' counters; `said` is what the suite printed.
pub async fn read(kubectl: &Kubectl, said: &str) -> anyhow::Result<Traffic> {
    let mut pods = Vec::new();
    for namespace in [SERVERS, CLIENTS] {
        for pod in kubectl.in_namespace(namespace).list("pods", "").await? {
            let name = pod["metadata"]["name"].as_str().context("no name")?;
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:15020/proxy/metrics");
            let metrics = kubectl.text(&["get", "--raw", &path]).await?;
            pods.push(Counts {
                namespace,
                pod: name.to_owned(),
                series: series(&metrics),
            });
        }
    }
    Ok(Traffic {
        answers: answers(said),
        pods,
    })
}

/// One at a time, or several of which it says the number.
fn answers(said: &str) -> u64 {
    let several = said.lines().filter_map(|line| {
        let (_, rest) = line.split_once("Processed ")?;
        rest.strip_suffix(" requests")?.parse::<u64>().ok()
    });
    several.sum::<u64>() + said.matches("Got resp ").count() as u64
}

/// `weft_requests_total{name="value",…} count`, in OpenMetrics' text.
fn series(metrics: &str) -> Vec<(Labels, u64)> {
    let series = metrics.lines().filter_map(|line| {
        let line = line.strip_prefix("weft_requests_total{")?;
        let (labels, count) = line.rsplit_once("} ")?;
        let labels = labels.trim_end_matches('"').split("\",");
        let labels = labels.filter_map(|label| label.split_once("=\""));
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some((labels.collect(), count.parse().ok()?))
    });
    series.collect()
}
