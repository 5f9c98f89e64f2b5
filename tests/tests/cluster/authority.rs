//! The CA's Secret is damaged: nobody at work notices, whoever looks is told, and there is never a new root.

use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Kubectl, Mesh, Namespace, Trial, client, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::check::{finds, is_well};
use crate::mesh::{answers, has_proxy, strict_web};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![cluster_test!(disruptive a_damaged_ca_is_named_and_disturbs_nobody)]
}

const SECRET: &str = "weft-ca";
/// Where the damage is, as it is named.
const DAMAGE: &str = "Secret weft-system/weft-ca: data[ca.json]: ";

/// What the Secret or the ConfigMap of this name holds.
async fn data(system: &Kubectl, kind: &str, name: &str) -> anyhow::Result<Value> {
    Ok(system.object(kind, name).await?["data"].take())
}

async fn edit(system: &Kubectl, data: &Value) -> anyhow::Result<()> {
    let patch = json!({ "data": data }).to_string();
    let args = ["patch", "secret", SECRET, "--type=merge", "-p", &patch];
    system.text(&args).await.map(drop)
}

async fn a_damaged_ca_is_named_and_disturbs_nobody(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.meshed("damaged").await?;
    strict_web(&ns).await?;
    let mesh = trial.mesh().await?;
    let kubectl = trial.cluster.kubectl();
    let anchors = data(&mesh.system, "configmap", "weft-trust").await?;
    let backup = data(&mesh.system, "secret", SECRET).await?;

    let held = async {
        edit(&mesh.system, &json!({"ca.json": "eA=="})).await?;
        from_memory(kubectl, &ns).await?;
        without_memory(kubectl, mesh, &ns).await
    };
    let held = held.await;
    let found = data(&mesh.system, "secret", SECRET).await?;
    edit(&mesh.system, &backup).await?;
    mesh.serves().await?;
    held?;
    assert_eq!(found["ca.json"], "eA==", "somebody wrote another CA");

    is_well(kubectl, &[]).await?;
    let after = data(&mesh.system, "configmap", "weft-trust").await?;
    assert_eq!(after, anchors, "there is another root");
    joins(&ns, "later").await
}

/// A new pod has its certificate, and is believed.
async fn joins(ns: &Namespace, name: &str) -> anyhow::Result<()> {
    ns.apply(&client(name, None)).await?;
    has_proxy(&ns.ready(name).await?)?;
    answers(ns, name, "http://web/", 200).await.map(drop)
}

/// The replica still has the CA: it says what is wrong, and goes on.
async fn from_memory(kubectl: &Kubectl, ns: &Namespace) -> anyhow::Result<()> {
    finds(kubectl, "issuing", DAMAGE).await?;
    joins(ns, "meanwhile").await
}

/// The one after it has none: it issues nothing, and who is in the mesh goes on.
async fn without_memory(kubectl: &Kubectl, mesh: &Mesh, ns: &Namespace) -> anyhow::Result<()> {
    let labels = "app.kubernetes.io/name=weft-control-plane";
    mesh.system
        .text(&["delete", "pods", "--selector", labels])
        .await?;
    let stopped = format!("cannot issue certificates: {DAMAGE}");
    let hint = finds(kubectl, "issuing", &stopped).await?;
    assert!(hint.contains("never made anew"), "{hint}");
    let deployment = until("no replica is ready", async || {
        let kind = "deployment";
        let found = mesh.system.object(kind, "weft-control-plane").await?;
        let ready = found["status"]["readyReplicas"].as_u64().unwrap_or(0);
        Ok(match ready {
            0 => Fact::Is(found),
            _ => Fact::NotYet(found["status"].to_string()),
        })
    });
    deployment.await?;
    answers(ns, "visitor", "http://web/", 200).await?;
    answers(ns, "meanwhile", "http://web/", 200).await.map(drop)
}
