//! Limits, ejection, retries and timeouts, counted at the application.

use std::collections::BTreeMap;

use anyhow::Context;
use weft_tests::fixture::{Fixture, TestMesh};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::streams::{self, inside, requests, speaks, start, stats};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(what_is_over_a_limit_is_refused_at_once, limited),
        test!(connections_and_those_who_wait_for_one_are_limited, narrow),
        test!(a_failing_replica_is_left_alone_and_taken_back, ejecting),
        test!(retries_hide_failures_and_repeat_no_post, retrying),
        test!(the_retry_budget_bounds_what_failure_costs, budgeted),
        test!(timeouts_end_an_attempt_and_a_request, impatient),
    ]
}

/// The shop with a TrafficPolicy for each of these Services, all of them the same pods.
fn with(policies: &[(&str, &str)], replicas: usize) -> anyhow::Result<Fixture> {
    let mut yaml = streams::shop_yaml()?;
    if replicas > 1 {
        yaml = yaml.replacen("replicas: 1", &format!("replicas: {replicas}"), 1);
    }
    for (name, settings) in policies {
        if *name != "streams" {
            yaml += &streams::service(name, "streams");
        }
        yaml += &format!(
            "
---
apiVersion: mesh.weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  targetRefs: [{{kind: Service, name: {name}}}]
{settings}
"
        );
    }
    Ok(Fixture::new().file("shop.yaml", yaml))
}

/// Status and flag of Weft's own answer.
async fn outcome(mesh: &TestMesh, args: &[&str]) -> anyhow::Result<String> {
    let format = "%{http_code} %header{weft-response-flag}";
    let args = [&["-o", "/dev/null", "-w", format], args].concat();
    let output = mesh.curl("shop/client", &args).await?;
    Ok(output.out().trim().to_owned())
}

fn limited() -> anyhow::Result<Fixture> {
    with(&[("limited", "  connections: {maxRequests: 2}")], 1)
}

async fn what_is_over_a_limit_is_refused_at_once(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut one = start(mesh, &["curl", "-sSN", "http://limited/hold"]).await?;
        assert_eq!(speaks(&mut one).await?, "begun\n");
        held.push(one);
    }
    assert_eq!(outcome(mesh, &["http://limited/"]).await?, "503 overloaded");
    assert_eq!(requests(mesh, "streams", "/").await?, 0, "it got nothing");
    // Another Service of the same pods has its own limits.
    assert_eq!(outcome(mesh, &["http://streams/"]).await?, "200");
    assert_eq!(stats(mesh, "streams").await?["open"], 2);
    drop(held);
    let free = async || Ok(outcome(mesh, &["http://limited/"]).await? == "200");
    mesh.until("there is room again", free).await
}

fn narrow() -> anyhow::Result<Fixture> {
    let settings = "  connections: {maxConnections: 1, maxPendingRequests: 1, connectTimeout: 50s}
  retries: {attempts: 0}";
    with(&[("narrow", settings)], 1)
}

async fn connections_and_those_who_wait_for_one_are_limited(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let server = mesh.pod("shop", "streams").await?;
    // Nobody can connect to the pod for a while: whoever calls waits.
    let closed = "nft 'add table inet closed; add chain inet closed in { type filter hook prerouting priority -300; }; \
                  add rule inet closed in iif != lo tcp dport 8080 drop'";
    let output = mesh
        .exec("shop", &server.name, &["sh", "-c", closed])
        .await?;
    anyhow::ensure!(output.code == 0, "{}", output.err());
    let waiting = start(mesh, &["curl", "-sS", "http://narrow/first"]).await?;
    let dials = async || {
        let argv = ["ss", "-Htn", "state", "syn-sent", "dport", "=", "8080"];
        Ok(!mesh.run_in("shop/client", &argv).await?.out().is_empty())
    };
    mesh.until("the first one waits for a connection", dials)
        .await?;
    let refused = "503 overloaded";
    assert_eq!(outcome(mesh, &["http://narrow/second"]).await?, refused);
    let open = ["nft", "delete", "table", "inet", "closed"];
    mesh.exec("shop", &server.name, &open).await?;
    assert_eq!(waiting.output().await?.code, 0);
    assert_eq!(requests(mesh, "streams", "/first").await?, 1);
    // What leaves HTTP has a connection of its own, in the place of the one that rests; a second finds none.
    let script = "exec 3<>/dev/tcp/narrow/80
        printf 'GET /upgrade HTTP/1.1\\r\\nhost: a\\r\\nconnection: upgrade\\r\\nupgrade: echo\\r\\n\\r\\n' >&3
        IFS= read -r line <&3; echo \"$line\"; exec sleep infinity";
    let mut held = start(mesh, &["bash", "-c", script]).await?;
    let said = speaks(&mut held).await?;
    assert!(said.starts_with("HTTP/1.1 101"), "{said}");
    assert_eq!(outcome(mesh, &["http://narrow/third"]).await?, refused);
    assert_eq!(outcome(mesh, &["http://streams/third"]).await?, "200");
    drop(held);
    let free = async || Ok(outcome(mesh, &["http://narrow/fourth"]).await? == "200");
    mesh.until("there is room again", free).await?;
    assert_eq!(requests(mesh, "streams", "/second").await?, 0);
    Ok(())
}

fn ejecting() -> anyhow::Result<Fixture> {
    let settings = "  loadBalancing: {algorithm: RoundRobin}
  outlierDetection: {consecutiveFailures: 3, baseEjectionTime: 1s, maxEjectionPercent: 50}
  retries: {attempts: 0}";
    with(&[("streams", settings)], 2)
}

/// So many requests one after another: how many had each outcome, as [`outcome`] has it.
async fn outcomes(mesh: &TestMesh, url: &str, count: u64) -> anyhow::Result<BTreeMap<String, u64>> {
    let url = format!("{url}?[1-{count}]");
    let format = "%{http_code} %header{weft-response-flag}\\n";
    let args = ["-o", "/dev/null", "-w", format, &url];
    let output = mesh.curl("shop/client", &args).await?;
    let mut outcomes = BTreeMap::new();
    for line in output.out().lines() {
        *outcomes.entry(line.trim().to_owned()).or_default() += 1;
    }
    anyhow::ensure!(
        output.code == 0 && outcomes.values().sum::<u64>() == count,
        "of {count} only {outcomes:?}: {}",
        output.err()
    );
    Ok(outcomes)
}

/// How many of so many requests were answered 200.
async fn good(mesh: &TestMesh, url: &str, count: u64) -> anyhow::Result<u64> {
    let outcomes = outcomes(mesh, url, count).await?;
    Ok(outcomes.get("200").copied().unwrap_or(0))
}

async fn a_failing_replica_is_left_alone_and_taken_back(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let pods = mesh.pods_of("shop", "streams").await?;
    let [broken, whole] = &pods[..] else {
        anyhow::bail!("{} pods", pods.len());
    };
    inside(mesh, &broken.name, "break").await?;
    let (sent, mut refused) = (200, 0);
    refused += sent - good(mesh, "http://streams/work", sent).await?;
    let failing = requests(mesh, &broken.name, "/work").await?;
    // Three in a row, then one try after each ejection, which are longer and longer.
    anyhow::ensure!(
        (3..=8).contains(&failing) && refused == failing,
        "{refused} of {sent} failed, {failing} of them at the broken replica"
    );
    assert_eq!(requests(mesh, &whole.name, "/work").await?, sent - failing);
    inside(mesh, &broken.name, "mend").await?;
    let back = async || {
        good(mesh, "http://streams/work", 10).await?;
        Ok(requests(mesh, &broken.name, "/work").await? >= failing + 10)
    };
    mesh.until("it is taken back", back).await?;
    assert_eq!(good(mesh, "http://streams/work", 40).await?, 40);
    Ok(())
}

fn retrying() -> anyhow::Result<Fixture> {
    let settings = "  outlierDetection: {consecutiveFailures: 1000}
  retries: {attempts: 2, retryOn: [GatewayError, Reset], budget: {percent: 100, minPerSecond: 100}}";
    with(&[("streams", settings)], 1)
}

async fn retries_hide_failures_and_repeat_no_post(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    for (method, path, answer, attempts) in [
        ("GET", "/fail/1/get", "200", 2),
        ("GET", "/fail/2/get", "200", 3),
        ("PUT", "/fail/1/put", "200", 2),
        ("GET", "/fail/9/get", "503", 3),
        ("POST", "/fail/1/post", "503", 1),
        ("GET", "/cut/get", "", 3),
        ("POST", "/cut/post", "", 1),
    ] {
        let url = format!("http://streams{path}");
        let got = outcome(mesh, &["-X", method, "-d", "body", &url]).await?;
        let reached = requests(mesh, "streams", path).await?;
        assert_eq!(reached, attempts, "{method} {path} ended in {got}");
        let wanted = if answer.is_empty() { "50" } else { answer };
        assert!(got.starts_with(wanted), "{method} {path} ended in {got}");
    }
    Ok(())
}

fn budgeted() -> anyhow::Result<Fixture> {
    let settings = "  outlierDetection: {consecutiveFailures: 1000}
  retries:
    attempts: 3
    retryOn: [GatewayError]
    backoff: {base: 1ms, max: 2ms}
    budget: {percent: 20, minPerSecond: 1}";
    with(&[("streams", settings)], 1)
}

async fn the_retry_budget_bounds_what_failure_costs(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let began = tokio::time::Instant::now();
    let sent = 400;
    let outcomes = outcomes(mesh, "http://streams/fail/100000/x", sent).await?;
    let seconds = began.elapsed().as_secs() + 2;
    // Each is the application's own answer.
    let own = outcomes.get("503");
    anyhow::ensure!(own == Some(&sent), "{sent} requests ended in {outcomes:?}");
    let reached = requests(mesh, "streams", "/fail/100000/x").await?;
    // A fifth more, and one each second.
    anyhow::ensure!(
        (sent + sent / 10..=sent + sent / 5 + seconds).contains(&reached),
        "{sent} requests became {reached} in {seconds} s"
    );
    Ok(())
}

fn impatient() -> anyhow::Result<Fixture> {
    let request = "  timeouts: {request: 2s}";
    let attempt = "  outlierDetection: {consecutiveFailures: 1000}
  retries: {attempts: 2, retryOn: [Timeout], perTryTimeout: 2s, budget: {percent: 100, minPerSecond: 100}}";
    with(&[("whole", request), ("each", attempt)], 1)
}

async fn timeouts_end_an_attempt_and_a_request(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    // The hop is there before a deadline runs: what is measured is the application's delay, not a first handshake.
    for url in ["http://whole/delay/1", "http://each/delay/1"] {
        mesh.until(url, async || Ok(outcome(mesh, &[url]).await? == "200"))
            .await?;
    }
    let status = outcome(mesh, &["http://whole/delay/60001"]).await?;
    assert_eq!(status, "504 timeout");
    assert_eq!(requests(mesh, "streams", "/delay/60001").await?, 1);
    let status = outcome(mesh, &["http://each/delay/60002"]).await?;
    assert!(status.starts_with("504 "), "{status}");
    assert_eq!(requests(mesh, "streams", "/delay/60002").await?, 3);
    let post = outcome(mesh, &["-X", "POST", "http://each/delay/60003"]).await?;
    let flag = post.strip_prefix("504 ").context(post.clone())?;
    assert_eq!(flag, "timeout");
    assert_eq!(requests(mesh, "streams", "/delay/60003").await?, 1);
    Ok(())
}
