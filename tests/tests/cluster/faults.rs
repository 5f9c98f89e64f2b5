//! What holds when parts of the cluster or of the control plane are away.

use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Local, Mesh, Namespace, Trial, client, until};
use weft_tests::cluster_test;
use weft_tests::load::{LEAST_SOURCES, Load, Target};
use weft_tests::runner::Test;

use crate::mesh::{STRICT, answers, get, has_proxy, policy, visitor};
use crate::platform::NGINX;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(disruptive without_a_webhook_no_pod_slips_into_the_mesh),
        cluster_test!(own disruptive another_replica_leads_when_the_leader_is_cut_off),
        cluster_test!(own alone nothing_fails_while_the_api_server_is_away_for_a_minute),
    ]
}

async fn without_a_webhook_no_pod_slips_into_the_mesh(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.meshed("unasked").await?;
    let outside = trial.namespace("aside", &[]).await?;
    let mesh = trial.mesh().await?;
    mesh.scale(0).await?;
    let refused = async {
        let pod = client("inside", None);
        let refused = until("a pod of the mesh is refused", async || {
            let tried = ns.run(&["create", "-f", "-"], &pod).await?;
            anyhow::ensure!(tried.code != 0, "it was taken as it is: {}", tried.out());
            let why = tried.err();
            Ok(match why.contains("injector.mesh.weft.dev") {
                true => Fact::Is(why),
                false => Fact::NotYet(why),
            })
        });
        refused.await?;
        outside.apply(&client("aside", None)).await?;
        outside.ready("aside").await
    };
    let refused = refused.await;
    mesh.scale(1).await?;
    mesh.serves().await?;
    refused?;
    ns.apply(&client("inside", None)).await?;
    has_proxy(&ns.ready("inside").await?)
}

/// Refuses `visitor` at the pods of nginx.
fn denial() -> String {
    let from = json!([{"from": [{"serviceAccounts": ["visitor"]}]}]);
    policy("no-visitors", "DENY", &from)
}

/// The pod that leads.
async fn leader(mesh: &Mesh) -> anyhow::Result<String> {
    until("a replica leads", async || {
        let lease = mesh.system.object("lease", "weft-leader").await?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        Ok(match holder.rsplit_once('_') {
            Some((pod, _)) => Fact::Is(pod.to_owned()),
            None => Fact::NotYet(lease.to_string()),
        })
    })
    .await
}

/// Waits until another pod leads.
async fn led_by_another(mesh: &Mesh, than: &str) -> anyhow::Result<()> {
    until("another replica leads", async || {
        let now = leader(mesh).await?;
        Ok(Fact::when(now != than, now))
    })
    .await
}

/// A metric without labels, of a program with this address, as a node gets it.
async fn metric(local: &Local, address: &str, port: u16, name: &str) -> anyhow::Result<f64> {
    let url = format!("http://{address}:{port}/metrics");
    let argv = ["curl", "-sS", "--max-time", "5", &url];
    let output = local.in_node(1, &argv).await?;
    let text = output.out();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.with_context(|| format!("{url} has no {name}: {text}{}", output.err()))?;
    Ok(value.trim().parse()?)
}

/// The pods of the namespace that stream from this replica.
async fn streams(local: &Local, replica: &Value, ns: &Namespace) -> anyhow::Result<Vec<String>> {
    let argv = ["curl", "-sS", "http://127.0.0.1:15011/v1/proxies"];
    let answer = local.in_pod(replica, &argv).await?;
    let answer: Value = serde_json::from_slice(&answer.stdout)
        .with_context(|| format!("{}{}", answer.out(), answer.err()))?;
    let proxies = answer["proxies"].as_array().into_iter().flatten();
    let pods = proxies.filter_map(|proxy| proxy["pod"].as_str());
    let own = format!("{}/", ns.name);
    let own = pods.filter(|pod| pod.starts_with(&own));
    Ok(own.map(str::to_owned).collect())
}

async fn another_replica_leads_when_the_leader_is_cut_off(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.meshed("leaderless").await?;
    ns.apply(NGINX).await?;
    visitor(&ns).await?;
    ns.rolled_out("nginx-deployment").await?;
    answers(&ns, "visitor", "http://nginx/", 200).await?;
    let mesh = trial.mesh().await?;
    mesh.scale(3).await?;
    mesh.serves().await?;
    let held = leader_is_cut_off(trial.cluster.local()?, mesh, &ns).await;
    let held = match held {
        Ok(()) => pushes_survive_a_leader(mesh, &ns).await,
        failed => failed,
    };
    mesh.scale(1).await?;
    mesh.serves().await?;
    held
}

async fn leader_is_cut_off(local: &Local, mesh: &Mesh, ns: &Namespace) -> anyhow::Result<()> {
    let first = leader(mesh).await?;
    let pod = mesh.system.object("pod", &first).await?;
    let address = pod["status"]["podIP"].as_str().context("no address")?;
    let cut = local.cut_off(address).await?;
    let held = another_takes_over(local, mesh, ns, &pod).await;
    cut.heal().await?;
    held?;
    // The push that came in between reaches the proxies of that replica, too.
    answers(ns, "visitor", "http://nginx/", 403).await?;
    anyhow::ensure!(leader(mesh).await? != first, "it took the Lease back");
    Ok(())
}

async fn another_takes_over(
    local: &Local,
    mesh: &Mesh,
    ns: &Namespace,
    pod: &Value,
) -> anyhow::Result<()> {
    let first = pod["metadata"]["name"].as_str().context("no name")?;
    let address = pod["status"]["podIP"].as_str().context("no address")?;
    let before = streams(local, pod, ns).await?;
    ns.apply(&denial()).await?;
    led_by_another(mesh, first).await?;
    until("the former leader has stopped writing", async || {
        let leads = metric(local, address, 15014, "weft_control_plane_leads").await?;
        Ok(Fact::when(leads == 0.0, leads))
    })
    .await?;
    // It serves its streams, and new pods by what it knows.
    let kept = streams(local, pod, ns).await?;
    anyhow::ensure!(before == kept, "streams of {before:?}, then of {kept:?}");
    let ready = format!("http://{address}:15014/healthz/ready");
    let ready = local.in_node(1, &["curl", "-sSf", &ready]).await?;
    anyhow::ensure!(ready.code == 0, "{}", ready.err());
    let (status, headers) = get(ns, "visitor", "http://nginx/").await?;
    anyhow::ensure!(status == 200 || status == 403, "{status} {headers}");
    Ok(())
}

/// The leader is killed in the moment of a change.
async fn pushes_survive_a_leader(mesh: &Mesh, ns: &Namespace) -> anyhow::Result<()> {
    let leader = leader(mesh).await?;
    ns.delete("authorizationpolicy", "no-visitors").await?;
    let now = ["delete", "pod", &leader, "--force", "--grace-period=0"];
    mesh.system.text(&now).await?;
    answers(ns, "visitor", "http://nginx/", 200).await?;
    led_by_another(mesh, &leader).await
}

/// Requests a second: [`LEAST_REQUESTS`](weft_tests::load::LEAST_REQUESTS) last until the scheduler and the kubelets, which
/// wait longer and longer for an API server, are back as well.
const RATE: u32 = 100;
/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(60);
/// Everything that could run out does so while it is.
const SHORT: [&str; 3] = [
    "WEFT_WATCH_LIFETIME=10s",
    "WEFT_LEASE_DURATION=6s",
    "WEFT_LEAF_LIFETIME=60s",
];
const USUAL: [&str; 3] = [
    "WEFT_WATCH_LIFETIME-",
    "WEFT_LEASE_DURATION-",
    "WEFT_LEAF_LIFETIME=24h",
];

async fn set(mesh: &Mesh, settings: &[&str]) -> anyhow::Result<()> {
    let args = [&["set", "env", "deployment/weft-control-plane"], settings].concat();
    mesh.system.text(&args).await?;
    mesh.scale(1).await?;
    mesh.serves().await
}

async fn nothing_fails_while_the_api_server_is_away_for_a_minute(
    trial: &Trial,
) -> anyhow::Result<()> {
    let ns = trial.meshed("away").await?;
    let mesh = trial.mesh().await?;
    set(mesh, &SHORT).await?;
    let held = everything_goes_on(trial.cluster.local()?, mesh, &ns).await;
    set(mesh, &USUAL).await?;
    held
}

async fn everything_goes_on(local: &Local, mesh: &Mesh, ns: &Namespace) -> anyhow::Result<()> {
    ns.apply(STRICT).await?;
    ns.apply(NGINX).await?;
    // The same pods by another address, which no proxy has dialled yet.
    ns.text(&[
        "expose",
        "deployment",
        "nginx-deployment",
        "--name=unseen",
        "--port=80",
    ])
    .await?;
    let names: Vec<String> = (0..LEAST_SOURCES).map(|i| format!("client-{i}")).collect();
    for name in &names {
        ns.apply(&client(name, None)).await?;
    }
    let mut clients = Vec::new();
    for name in &names {
        clients.push(ns.ready(name).await?);
    }
    ns.rolled_out("nginx-deployment").await?;
    let service = ns.object("service", "unseen").await?;
    let unseen = service["spec"]["clusterIP"]
        .as_str()
        .context("no address")?;
    let replicas = mesh
        .system
        .list("pods", "app.kubernetes.io/name=weft-control-plane")
        .await?;
    let target = Target {
        url: "http://nginx/",
        rate: RATE,
        expect: Some("Welcome to nginx!"),
    };
    let load = Load::start(ns.clone(), &names, target).await?;
    let held = local.hold(1, "kube-apiserver").await?;
    let away = tokio::time::Instant::now();
    let kept = kept_meanwhile(local, &replicas[0], &clients, unseen).await;
    tokio::time::sleep_until(away + AWAY).await;
    drop(held);
    until("the API server is back", async || {
        let answer = ns.run(&["get", "--raw", "/readyz"], "").await?;
        Ok(Fact::when(answer.code == 0, answer.err()))
    })
    .await?;
    kept?;
    load.finish().await?.nothing_failed()?;
    // What happens from now on is seen.
    ns.apply(&denial()).await?;
    let ready = mesh
        .system
        .object("deployment", "weft-control-plane")
        .await?;
    anyhow::ensure!(ready["status"]["readyReplicas"] == 1, "{}", ready["status"]);
    visitor(ns).await?;
    answers(ns, "visitor", "http://nginx/", 403).await.map(drop)
}

/// Certificates are renewed, what is asked for the first time is answered, and readiness stays.
async fn kept_meanwhile(
    local: &Local,
    replica: &Value,
    clients: &[Value],
    unseen: &str,
) -> anyhow::Result<()> {
    let address = |pod: &Value| pod["status"]["podIP"].as_str().map(str::to_owned);
    let client = &clients[0];
    let own = address(client).context("no address")?;
    let expiry = async || {
        let name = "weft_proxy_certificate_expiry_timestamp_seconds";
        metric(local, &own, 15020, name).await
    };
    let before = expiry().await?;
    let url = format!("http://{unseen}/");
    let argv = ["curl", "-sSf", "--max-time", "10", &url];
    let answer = local.in_pod(client, &argv).await?;
    anyhow::ensure!(
        answer.out().contains("Welcome to nginx!"),
        "{}",
        answer.err()
    );
    until("the certificate is renewed", async || {
        let now = expiry().await?;
        Ok(Fact::when(now > before, now))
    })
    .await?;
    let replica = address(replica).context("no address")?;
    let url = format!("http://{replica}:15014/healthz/ready");
    let ready = local.in_node(1, &["curl", "-sSf", &url]).await?;
    anyhow::ensure!(ready.code == 0, "{}", ready.err());
    Ok(())
}
