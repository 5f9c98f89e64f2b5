//! Nothing failed: a tutorial's nginx, unchanged, is restarted and scaled in the mesh while requests
//! go on at a fixed rate. It ends at once when it is told to, in the middle of whatever it does.

use std::collections::BTreeSet;

use serde_json::Value;
use weft_tests::cluster::{Fact, Namespace, Trial, client, until};
use weft_tests::cluster_test;
use weft_tests::load::{LEAST_SOURCES, Load, Target};
use weft_tests::runner::Test;

use crate::mesh::{PROXY, has_proxy};
use crate::platform::NGINX;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![cluster_test!(alone nothing_fails_while_restarted_and_scaled_to_ten_and_back)]
}

/// Requests a second, all clients together: what the machine of a whole cluster bears while pods start
/// on it, and as many as make [`LEAST_REQUESTS`](weft_tests::load::LEAST_REQUESTS) in the time that the events take.
const RATE: u32 = 152;
const DEPLOYMENT: &str = "deployment/nginx-deployment";

/// nginx, as the tutorial says, and load on it.
async fn under_load(ns: &Namespace) -> anyhow::Result<Load<Namespace>> {
    ns.apply(NGINX).await?;
    let names: Vec<String> = (0..LEAST_SOURCES).map(|i| format!("client-{i}")).collect();
    for name in &names {
        ns.apply(&client(name, None)).await?;
    }
    for name in &names {
        has_proxy(&ns.ready(name).await?)?;
    }
    ns.rolled_out("nginx-deployment").await?;
    for pod in ns.list("pods", "app=nginx").await? {
        has_proxy(&pod)?;
    }
    let target = Target {
        url: "http://nginx/",
        rate: RATE,
        expect: Some("Welcome to nginx!"),
    };
    Load::start(ns.clone(), &names, target).await
}

/// The addresses of all pods of nginx, once they are this many.
async fn addresses(ns: &Namespace, count: usize) -> anyhow::Result<BTreeSet<String>> {
    until(&format!("there are {count} pods of nginx"), async || {
        let pods = ns.list("pods", "app=nginx").await?;
        let ips = pods.iter().map(|pod| pod["status"]["podIP"].as_str());
        let ips: BTreeSet<String> = ips.flatten().map(str::to_owned).collect();
        Ok(match pods.len() == count && ips.len() == count {
            true => Fact::Is(ips),
            false => Fact::NotYet(format!("{} pods with {ips:?}", pods.len())),
        })
    })
    .await
}

async fn scale(ns: &Namespace, replicas: usize) -> anyhow::Result<()> {
    let replicas = format!("--replicas={replicas}");
    ns.text(&["scale", DEPLOYMENT, &replicas]).await.map(drop)
}

async fn nothing_fails_while_restarted_and_scaled_to_ten_and_back(
    trial: &Trial,
) -> anyhow::Result<()> {
    let ns = trial.meshed("rollout").await?;
    let load = under_load(&ns).await?;
    let before = addresses(&ns, 3).await?;
    ns.text(&["rollout", "restart", DEPLOYMENT]).await?;
    ns.rolled_out("nginx-deployment").await?;
    let after = addresses(&ns, 3).await?;
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");

    scale(&ns, 1).await?;
    addresses(&ns, 1).await?;
    scale(&ns, 10).await?;
    ns.rolled_out("nginx-deployment").await?;
    let pods = ns.list("pods", "app=nginx").await?;
    assert_eq!(pods.len(), 10);
    for pod in &pods {
        has_proxy(pod)?;
        serves(&ns, pod).await?;
    }
    scale(&ns, 1).await?;
    addresses(&ns, 1).await?;
    load.finish().await?.nothing_failed()
}

/// Waits until requests have been answered by this pod.
async fn serves(ns: &Namespace, pod: &Value) -> anyhow::Result<()> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    until(&format!("{name} has its share of requests"), async || {
        let log = ns.logs(name, PROXY).await?;
        let answered = |line: &str| {
            serde_json::from_str(line)
                .is_ok_and(|line: Value| line["direction"] == "inbound" && line["status"] == 200)
        };
        Ok(Fact::when(log.lines().any(answered), "none yet"))
    })
    .await
}
