//! Replicas tell each other what they heard: the one that writes need not be the one that a proxy
//! speaks to.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};
use weft_proto::type_url;
use weft_tests::cluster::{Fact, Kubectl, Trial, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::replicas::{ROTATION, Replica, Setting};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(independent a_refusal_is_told_whichever_replica_heard_it),
        cluster_test!(independent a_rotation_goes_on_by_what_another_replica_heard),
    ]
}

const POD: &str = "shop/web-1";
const ID: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// A replica that leads, another one, and the pod `web-1` with a certificate.
async fn two_replicas() -> anyhow::Result<(Setting, Replica, Replica)> {
    let setting = Setting::new().await?;
    let shop = setting.kubectl.in_namespace("shop");
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/crds");
    shop.text(&["apply", "--server-side", "-f", crds]).await?;
    shop.text(&["wait", "--for=condition=Established", "crd", "--all"])
        .await?;
    shop.text(&["create", "serviceaccount", "web"]).await?;
    setting.pod("web-1", "127.0.0.1").await?;
    let first = setting.start("first")?;
    setting.led_by("first").await?;
    let second = setting.start("second")?;
    second.says("/readyz", "ready").await?;
    setting.trust(1).await?;
    let token = setting.token("weft", Some("web-1")).await?;
    let joined = setting.join(&second, &["join", POD, ID, &token]).await?;
    anyhow::ensure!(joined.contains("joined"), "{joined}");
    Ok((setting, first, second))
}

/// A stream to a replica; it ends with the value.
fn stay(mut joiner: Command) -> anyhow::Result<Child> {
    Ok(joiner.stdout(Stdio::null()).spawn()?)
}

const OBJECTS: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: mesh.weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: web}
spec:
  targetRefs: [{name: web}]
  loadBalancing: {algorithm: RoundRobin}
";

/// The condition of the policy's only target.
async fn condition(shop: &Kubectl, name: &str) -> anyhow::Result<Option<Value>> {
    let policy = shop.object("trafficpolicy", "web").await?;
    let conditions = policy["status"]["ancestors"][0]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    Ok(conditions.find(|one| one["type"] == name).cloned())
}

async fn a_refusal_is_told_whichever_replica_heard_it(_: &Trial) -> anyhow::Result<()> {
    let (setting, _first, second) = two_replicas().await?;
    let shop = setting.kubectl.in_namespace("shop");
    shop.apply(OBJECTS).await?;
    until("the policy is in force", async || {
        let accepted = condition(&shop, "Accepted").await?;
        let is = accepted.as_ref().is_some_and(|one| one["status"] == "True");
        Ok(Fact::when(is, format!("{accepted:?}")))
    })
    .await?;
    let name = "shop/web?from=shop";
    let args = ["stay", POD, type_url::SERVICE, name, "too round"];
    let mut stream = stay(setting.joiner(&second, &args)?)?;
    until("the refusal is in the status", async || {
        let told = condition(&shop, "Programmed").await?;
        let is = told.as_ref().is_some_and(|one| {
            let message = one["message"].as_str().unwrap_or_default();
            one["reason"] == "RefusedByProxy"
                && message.contains(POD)
                && message.contains("too round")
        });
        Ok(Fact::when(is, format!("{told:?}")))
    })
    .await?;
    // Who refused is gone, and with it the refusal.
    stream.kill().await?;
    until("the refusal is gone", async || {
        let told = condition(&shop, "Programmed").await?;
        Ok(Fact::when(told.is_none(), format!("{told:?}")))
    })
    .await?;

    // What a replica heard goes with its pod, whatever it says.
    let mut stream = stay(setting.joiner(&second, &args)?)?;
    until("the refusal is back", async || {
        let told = condition(&shop, "Programmed").await?;
        Ok(Fact::when(told.is_some(), "none"))
    })
    .await?;
    drop(second);
    stream.kill().await?;
    setting.kubectl.delete("pod", "second").await?;
    let report = setting
        .kubectl
        .object("configmap", "weft-heard-second")
        .await?;
    anyhow::ensure!(report["data"].to_string().contains("too round"), "{report}");
    until("nobody refuses", async || {
        let told = condition(&shop, "Programmed").await?;
        Ok(Fact::when(told.is_none(), format!("{told:?}")))
    })
    .await
}

/// Deadlines are a day away: nothing but what the pod confirmed lets the rotation go on.
async fn a_rotation_goes_on_by_what_another_replica_heard(_: &Trial) -> anyhow::Result<()> {
    let (setting, first, second) = two_replicas().await?;
    let args = ["stay", POD, type_url::TRUST_BUNDLE, "default"];
    let _stream = stay(setting.joiner(&second, &args)?)?;
    second.says("/v1/proxies", POD).await?;
    let (status, answer) = first.admin("POST", ROTATION).await?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    for replica in [&first, &second] {
        replica.says(ROTATION, "switched").await?;
    }
    setting.trust(2).await?;
    let renewed = setting.join(&second, &["issue-again", POD, ID]).await?;
    anyhow::ensure!(renewed.contains("issued"), "{renewed}");
    for replica in [&first, &second] {
        replica.says(ROTATION, "stable").await?;
    }
    setting.anchors("shop", 1).await.map(drop)
}
