//! Replicas of the control plane and what they keep in an API server: who leads, the CA, the trust
//! anchors, and who is believed at first contact. Each test has an API server to itself.

use serde_json::json;
use weft_tests::cluster::{Fact, Trial, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::replicas::ROTATION;
pub(crate) use crate::replicas::Setting;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(another_replica_leads_when_the_leader_is_killed),
        cluster_test!(a_ca_secret_comes_back_and_a_lost_one_never_makes_a_root),
        cluster_test!(a_root_rotation_reaches_all_replicas_and_namespaces),
        cluster_test!(only_a_pods_own_token_is_believed),
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

async fn only_a_pods_own_token_is_believed(_: &Trial) -> anyhow::Result<()> {
    let setting = Setting::new().await?;
    let shop = setting.kubectl.in_namespace("shop");
    shop.text(&["create", "serviceaccount", "web"]).await?;
    setting.pod("web-1", "127.0.0.1").await?;
    setting.pod("web-2", "127.0.0.2").await?;
    let replica = setting.start("first")?;
    replica.says("/readyz", "ready").await?;
    setting.trust(1).await?;

    let token = async |audience: &str, pod: Option<&str>| setting.token(audience, pod).await;
    let id = "spiffe://cluster.local/ns/shop/sa/web";
    let issue = async |pod: &str, token: String| {
        let claim = format!("shop/{pod}");
        setting.join(&replica, &["issue", &claim, id, &token]).await
    };
    let own = issue("web-1", token("weft", Some("web-1")).await?).await?;
    anyhow::ensure!(own.contains("issued"), "{own}");
    let refused = [
        (
            "web-1",
            token("api", Some("web-1")).await?,
            "Unauthenticated",
        ),
        ("web-1", "forged".to_owned(), "Unauthenticated"),
        ("web-1", token("weft", None).await?, "bound to no pod"),
        (
            "web-1",
            token("weft", Some("web-2")).await?,
            "bound to pod shop/web-2",
        ),
        (
            "web-2",
            token("weft", Some("web-2")).await?,
            "no address of pod shop/web-2",
        ),
    ];
    for (pod, token, why) in refused {
        let answer = issue(pod, token).await?;
        anyhow::ensure!(answer.contains(why), "{why}: {answer}");
    }
    // The token of a pod that is gone is no good for its successor of the same name.
    let former = token("weft", Some("web-1")).await?;
    shop.delete("pod", "web-1").await?;
    let answer = issue("web-1", former).await?;
    anyhow::ensure!(answer.contains("Unauthenticated"), "{answer}");
    Ok(())
}
