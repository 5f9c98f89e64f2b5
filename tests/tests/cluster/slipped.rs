//! A pod that slipped past injection: counted and named where people look, until it is made anew.

use anyhow::Context;
use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Mesh, Namespace, Trial, client, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::mesh::has_proxy;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![cluster_test!(
        a_pod_that_slipped_past_is_counted_and_named_until_it_is_made_anew
    )]
}

/// For all pods of the namespace.
fn everyone() -> String {
    json!({
        "apiVersion": "mesh.weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "everyone"}, "spec": {"rules": [{}]},
    })
    .to_string()
}

/// Waits until the policy is in force, with a message that has this in it or has it not.
async fn told(ns: &Namespace, what: &str, says: bool) -> anyhow::Result<()> {
    until(&format!("{what:?} is told: {says}"), async || {
        let policy = ns.object("authorizationpolicy", "everyone").await?;
        let conditions = policy["status"]["ancestors"][0]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        let told = conditions.any(|one| {
            let message = one["message"].as_str().unwrap_or_default();
            one["type"] == "Accepted" && one["status"] == "True" && message.contains(what) == says
        });
        Ok(Fact::when(told, &policy))
    })
    .await
}

/// Waits until every replica counts this many pods of the namespace, as a scraper sees it.
async fn counted(
    mesh: &Mesh,
    scraper: &Namespace,
    ns: &Namespace,
    count: u64,
) -> anyhow::Result<()> {
    let name = format!(
        "weft_control_plane_pods_without_sidecar{{namespace=\"{}\"}} ",
        ns.name
    );
    until(&format!("{count} pods are counted"), async || {
        let labels = "app.kubernetes.io/name=weft-control-plane";
        let replicas = mesh.system.list("pods", labels).await?;
        anyhow::ensure!(!replicas.is_empty(), "there is no replica");
        for replica in &replicas {
            let page = match page(scraper, replica).await {
                Ok(page) => page,
                // A replica that comes or goes.
                Err(error) => return Ok(Fact::NotYet(error.to_string())),
            };
            let line = page.lines().find_map(|line| line.strip_prefix(&name));
            // There is no line for a namespace without one.
            if line.unwrap_or("0") != count.to_string() {
                return Ok(Fact::NotYet(format!("{line:?} in {page}")));
            }
        }
        Ok(Fact::Is(()))
    })
    .await
}

async fn page(scraper: &Namespace, replica: &Value) -> anyhow::Result<String> {
    let address = replica["status"]["podIP"].as_str().context("no address")?;
    let url = format!("http://{address}:15014/metrics");
    let answer = scraper.curl("scraper", &["-f", &url]).await?;
    anyhow::ensure!(answer.code == 0, "{url}: {}", answer.err());
    Ok(answer.out())
}

async fn a_pod_that_slipped_past_is_counted_and_named_until_it_is_made_anew(
    trial: &Trial,
) -> anyhow::Result<()> {
    let mesh = trial.mesh().await?;
    let scraper = trial.namespace("scraper", &[]).await?;
    scraper.apply(&client("scraper", None)).await?;
    let late = trial.namespace("late", &[]).await?;
    late.apply(&client("early-bird", None)).await?;
    scraper.ready("scraper").await?;
    late.ready("early-bird").await?;

    // Nobody has asked for it, but a policy chooses it.
    late.apply(&everyone()).await?;
    told(
        &late,
        "on 1 of 1 pods, which have no sidecar: early-bird",
        true,
    )
    .await?;
    counted(mesh, &scraper, &late, 0).await?;

    let label = "mesh.weft.dev/inject=enabled";
    let args = ["label", "namespace", &late.name, label];
    trial.cluster.kubectl().text(&args).await?;
    counted(mesh, &scraper, &late, 1).await?;
    late.has_anchors().await?;
    late.apply(&client("in-time", None)).await?;
    has_proxy(&late.ready("in-time").await?)?;
    told(
        &late,
        "on 1 of 2 pods, which have no sidecar: early-bird",
        true,
    )
    .await?;
    counted(mesh, &scraper, &late, 1).await?;

    late.delete("pod", "early-bird").await?;
    late.apply(&client("early-bird", None)).await?;
    has_proxy(&late.ready("early-bird").await?)?;
    told(&late, "nothing enforces it", false).await?;
    counted(mesh, &scraper, &late, 0).await
}
