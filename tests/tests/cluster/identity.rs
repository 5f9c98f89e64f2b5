//! Replicas of the control plane and what they keep in an API server: who leads, the CA, the trust
//! anchors. Each test has an API server to itself.

use anyhow::Context;
use serde_json::{Value, json};
use tokio::process::Command;
use weft_tests::cluster::{Fact, Trial, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::replicas::ROTATION;
pub(crate) use crate::replicas::Setting;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(independent another_replica_leads_when_the_leader_is_killed),
        cluster_test!(independent a_ca_secret_comes_back_and_a_lost_one_never_makes_a_root),
        cluster_test!(independent a_root_rotation_reaches_all_replicas_and_namespaces),
        cluster_test!(independent a_supplied_ca_that_is_damaged_is_named_and_changes_nothing),
    ]
}

async fn another_replica_leads_when_the_leader_is_killed(_: &Trial) -> anyhow::Result<()> {
    let setting = Setting::new().await?;
    let mut first = setting.start("first")?;
    setting.led_by("first").await?;
    let second = setting.start("second")?;
    second.says(ROTATION, "stable").await?;
    let (status, answer) = second.admin("POST", ROTATION).await?;
    anyhow::ensure!(
        status == 409 && answer.contains("pod first"),
        "{status} {answer}"
    );

    first.process.kill().await?;
    setting.led_by("second").await?;
    until("the new leader changes the CA", async || {
        let (status, answer) = second.admin("POST", ROTATION).await?;
        Ok(Fact::when(status == 200, answer))
    })
    .await?;
    // One that is told to go does not let others wait.
    second.stop().await?;
    let lease = setting.kubectl.object("lease", "weft-leader").await?;
    anyhow::ensure!(lease["spec"]["holderIdentity"].is_null(), "{lease}");
    Ok(())
}

async fn a_ca_secret_comes_back_and_a_lost_one_never_makes_a_root(_: &Trial) -> anyhow::Result<()> {
    let setting = Setting::new().await?;
    let [first, second] = [setting.start("first")?, setting.start("second")?];
    let before = setting.ca().await?;
    for replica in [&first, &second] {
        replica.says(ROTATION, "stable").await?;
    }
    setting.kubectl.delete("secret", "weft-ca").await?;
    anyhow::ensure!(setting.ca().await? == before, "another CA came back");

    // What cannot be read is named, and the last good one stays in use.
    let backup = setting.kubectl.object("secret", "weft-ca").await?;
    let patch = json!({"data": {"ca.json": "eA=="}}).to_string();
    let args = ["patch", "secret", "weft-ca", "--type=merge", "-p", &patch];
    setting.kubectl.text(&args).await?;
    for replica in [&first, &second] {
        let found = replica.says("/v1/diagnostics", "MalformedSecret").await?;
        anyhow::ensure!(found.contains("data[ca.json]"), "{found}");
        replica
            .says("/metrics", "weft_control_plane_issuing 1")
            .await?;
    }
    setting.kubectl.delete("secret", "weft-ca").await?;
    anyhow::ensure!(setting.ca().await? == before, "another CA came back");

    // Nobody has it in memory any more.
    setting.anchors("weft-system", 1).await?;
    first.stop().await?;
    second.stop().await?;
    setting.kubectl.delete("secret", "weft-ca").await?;
    let third = setting.start("third")?;
    setting.led_by("third").await?;
    third.says("/v1/diagnostics", "AuthorityLost").await?;
    third
        .says("/metrics", "weft_control_plane_issuing 0")
        .await?;
    let made = setting.kubectl.find("secret", "weft-ca").await?;
    anyhow::ensure!(made.is_none(), "a new CA was made");
    setting.anchors("weft-system", 1).await?;

    let restored = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "weft-ca"},
        "data": backup["data"],
    });
    setting.kubectl.apply(&restored.to_string()).await?;
    third
        .says("/metrics", "weft_control_plane_issuing 1")
        .await?;
    third.says("/v1/diagnostics", "\"diagnostics\":[]").await?;
    Ok(())
}

async fn a_root_rotation_reaches_all_replicas_and_namespaces(_: &Trial) -> anyhow::Result<()> {
    let setting = Setting::new().await?;
    // A pod that never confirms anything keeps the rotation in its first phase.
    setting.pod("web-1", "10.0.0.1").await?;
    let first = setting.start("first")?;
    setting.led_by("first").await?;
    let second = setting.start("second")?;
    second.says(ROTATION, "stable").await?;
    let before = setting.anchors("shop", 1).await?;

    let (status, answer) = first.admin("POST", ROTATION).await?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    second.says(ROTATION, "announced").await?;
    for namespace in ["shop", "weft-system"] {
        setting.anchors(namespace, 2).await?;
    }
    // Edited or deleted, the anchors come back.
    let shop = setting.kubectl.in_namespace("shop");
    let patch = json!({"data": {"bundle.pem": before}}).to_string();
    let args = [
        "patch",
        "configmap",
        "weft-trust",
        "--type=merge",
        "-p",
        &patch,
    ];
    shop.text(&args).await?;
    setting.anchors("shop", 2).await?;
    shop.delete("configmap", "weft-trust").await?;
    setting.anchors("shop", 2).await?;

    // The pod is gone: nobody is waited for. The next leader goes on where the first one was.
    first.stop().await?;
    setting.led_by("second").await?;
    shop.delete("pod", "web-1").await?;
    second.says(ROTATION, "stable").await?;
    let after = setting.anchors("shop", 1).await?;
    anyhow::ensure!(after != before, "the root is the same");

    setting.label("shop", "mesh.weft.dev/inject-").await?;
    until("no anchors where there is no mesh", async || {
        let map = shop.find("configmap", "weft-trust").await?;
        Ok(Fact::when(map.is_none(), map.unwrap_or_default()))
    })
    .await
}

/// A CA as somebody makes it with openssl, as the data of a Secret.
async fn self_made_ca() -> anyhow::Result<Value> {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"])
        .args(["-subj", "/O=Shop/CN=our own root"])
        .args(["-addext", "keyUsage=critical,keyCertSign,cRLSign"])
        .args(["-keyout", "-", "-out", "-"])
        .output()
        .await?;
    let pem = String::from_utf8(output.stdout)?;
    let at = pem.find("-----BEGIN CERT").context("no certificate")?;
    let (key, certificate) = pem.split_at(at);
    Ok(json!({"tls.crt": certificate, "tls.key": key, "ca.crt": certificate}))
}

async fn a_supplied_ca_that_is_damaged_is_named_and_changes_nothing(
    _: &Trial,
) -> anyhow::Result<()> {
    let setting = Setting::new().await?;
    let supply = async |data: &Value| {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "our-ca"}, "stringData": data,
        });
        setting.kubectl.apply(&secret.to_string()).await
    };
    let good = self_made_ca().await?;
    supply(&good).await?;
    let replica = setting.start_with("first", &["--ca-secret=our-ca"])?;
    let anchors = setting.anchors("shop", 1).await?;
    // Who writes PEM breaks its lines as they like.
    let own = good["ca.crt"].as_str().unwrap_or_default();
    let own: String = own.split_whitespace().collect();
    let found: String = anchors.split_whitespace().collect();
    anyhow::ensure!(found.contains(&own), "{found} instead of {own}");
    for (key, field) in [("tls.key", "data[tls.key]"), ("tls.crt", "data[tls.crt]")] {
        let mut bad = good.clone();
        bad[key] = json!("-----BEGIN NOTHING-----");
        supply(&bad).await?;
        let found = replica.says("/v1/diagnostics", field).await?;
        anyhow::ensure!(
            found.contains("UnusableAuthority") && found.contains("our-ca"),
            "{found}"
        );
        let issuing = "weft_control_plane_issuing 1";
        replica.says("/metrics", issuing).await?;
        replica.says(ROTATION, "stable").await?;
    }
    supply(&good).await?;
    replica
        .says("/v1/diagnostics", "\"diagnostics\":[]")
        .await?;
    anyhow::ensure!(setting.anchors("shop", 1).await? == anchors);
    Ok(())
}
