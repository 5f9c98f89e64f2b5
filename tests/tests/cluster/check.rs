//! `weft check`: nothing on a mesh that is well, and each fault that is planted in it named, with what to do.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde_json::{Value, json};
use weft_certs::{AuthoritySettings, CertificateAuthority};
use weft_identity::TrustDomain;
use weft_tests::cluster::{Fact, Kubectl, Trial, client, run_weft, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(disruptive check_finds_nothing_on_a_healthy_mesh_and_each_planted_fault),
        cluster_test!(disruptive check_finds_what_is_wrong_without_a_control_plane),
    ]
}

/// What `weft check` answers, in JSON.
async fn check(kubectl: &Kubectl, flags: &[&str]) -> anyhow::Result<Value> {
    let kubeconfig = kubectl.kubeconfig().display().to_string();
    let args = [&["check", "--kubeconfig", &kubeconfig, "-o", "json"], flags].concat();
    let output = run_weft(&args, "").await?;
    let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| output.err())?;
    let failed = answer["errors"].as_u64() > Some(0);
    anyhow::ensure!(
        output.code == i32::from(failed),
        "{} and {answer}",
        output.code
    );
    Ok(answer)
}

/// The faults of an answer: check, message and hint.
fn faults(answer: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = answer["checks"].as_array().into_iter().flatten();
    checks
        .flat_map(|check| {
            let faults = check["faults"].as_array().into_iter().flatten();
            faults.map(|fault| {
                (
                    text(&check["id"]),
                    text(&fault["message"]),
                    text(&fault["hint"]),
                )
            })
        })
        .collect()
}

/// Waits until the check finds this, and gives the hint.
pub async fn finds(kubectl: &Kubectl, id: &str, message: &str) -> anyhow::Result<String> {
    until(&format!("{id} says {message:?}"), async || {
        let answer = check(kubectl, &[]).await?;
        let found = faults(&answer);
        let hit = found
            .iter()
            .find(|(check, said, _)| check == id && said.contains(message));
        Ok(match hit {
            Some((_, _, hint)) => Fact::Is(hint.clone()),
            None => Fact::NotYet(format!("{found:#?}")),
        })
    })
    .await
}

/// Waits until the check finds nothing.
pub async fn is_well(kubectl: &Kubectl, flags: &[&str]) -> anyhow::Result<()> {
    until("nothing is wrong", async || {
        let found = faults(&check(kubectl, flags).await?);
        Ok(Fact::when(found.is_empty(), format!("{found:#?}")))
    })
    .await
}

/// The object as it would be applied anew.
fn bare(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| {
            ["name", "namespace", "labels", "annotations"].contains(&field.as_str())
        });
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object
}

async fn check_finds_nothing_on_a_healthy_mesh_and_each_planted_fault(
    trial: &Trial,
) -> anyhow::Result<()> {
    let ns = trial.meshed("checked").await?;
    ns.apply(&client("well", None)).await?;
    ns.ready("well").await?;
    let kubectl = trial.cluster.kubectl();
    is_well(kubectl, &["--proxy"]).await?;

    policy_unresolved(kubectl, &ns).await?;
    old_proxy(kubectl, &ns).await?;
    port_conflict(kubectl, &ns).await?;
    clock_skew(kubectl).await?;
    wrong_channel(kubectl).await?;
    rbac_missing(kubectl).await?;
    missing_crd(kubectl).await?;
    unmeshed_pod(trial, kubectl).await?;
    Ok(())
}

async fn policy_unresolved(kubectl: &Kubectl, ns: &Kubectl) -> anyhow::Result<()> {
    let policy = json!({
        "apiVersion": "mesh.weft.dev/v1alpha1", "kind": "TrafficPolicy", "metadata": {"name": "lost"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "nowhere"}], "timeouts": {"request": "1s"}},
    });
    ns.apply(&policy.to_string()).await?;
    let hint = finds(kubectl, "policies", "there is no Service").await?;
    assert!(hint.contains("`weft wait TrafficPolicy/lost -n "), "{hint}");
    ns.delete("trafficpolicy", "lost").await?;
    is_well(kubectl, &[]).await
}

async fn old_proxy(kubectl: &Kubectl, ns: &Kubectl) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let label = |version: &str| format!("mesh.weft.dev/proxy-version={version}");
    ns.text(&["label", "--overwrite", "pod", "well", &label("0.0.1")])
        .await?;
    let hint = finds(kubectl, "proxy-version", "is 0.0.1, the control plane").await?;
    assert!(hint.contains("delete pod well"), "{hint}");
    ns.text(&["label", "--overwrite", "pod", "well", &label(version)])
        .await?;
    is_well(kubectl, &[]).await
}

async fn port_conflict(kubectl: &Kubectl, ns: &Kubectl) -> anyhow::Result<()> {
    let labels = json!({"app": "greedy"});
    let container =
        json!({"name": "it", "image": "nginx:1.27", "ports": [{"containerPort": 15006}]});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "greedy"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
    });
    ns.apply(&deployment.to_string()).await?;
    let hint = finds(
        kubectl,
        "port-conflict",
        "ports[0].containerPort: 15006 is a port of the proxy",
    )
    .await?;
    assert!(hint.contains("mesh.weft.dev/inject: disabled"), "{hint}");
    ns.delete("deployment", "greedy").await?;
    is_well(kubectl, &[]).await
}

/// A node whose kubelet lives five minutes from now.
async fn clock_skew(kubectl: &Kubectl) -> anyhow::Result<()> {
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "hasty"}, "spec": {"unschedulable": true},
    });
    kubectl.apply(&node.to_string()).await?;
    let now = kubectl
        .text(&[
            "create",
            "namespace",
            "now",
            "--dry-run=server",
            "-o",
            "jsonpath={.metadata.creationTimestamp}",
        ])
        .await?;
    // 2026-01-01T00:00:00Z, an hour later by its digits: no date is written in another way.
    let (date, rest) = now.trim().split_once('T').context("no time")?;
    let year: u32 = date[..4].parse()?;
    let future = format!(
        "{}{}T{}.000000Z",
        year + 1,
        &date[4..],
        rest.trim_end_matches('Z')
    );
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "hasty", "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": "hasty", "leaseDurationSeconds": 40, "renewTime": future},
    });
    kubectl.apply(&lease.to_string()).await?;
    let hint = finds(kubectl, "clock-skew", "the clock of node hasty is ").await?;
    assert!(hint.contains("synchronise it"), "{hint}");
    kubectl.delete("node", "hasty").await?;
    kubectl
        .in_namespace("kube-node-lease")
        .delete("lease", "hasty")
        .await?;
    is_well(kubectl, &[]).await
}

async fn wrong_channel(kubectl: &Kubectl) -> anyhow::Result<()> {
    let name = "httproutes.gateway.networking.k8s.io";
    let whole = kubectl.object("crd", name).await?;
    let mut standard = bare(whole.clone());
    standard["metadata"]["annotations"]["gateway.networking.k8s.io/channel"] = "standard".into();
    for version in standard["spec"]["versions"]
        .as_array_mut()
        .context("no versions")?
    {
        let schema = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let rule = schema["properties"]["rules"]["items"]["properties"]
            .as_object_mut()
            .context("no rules")?;
        rule.remove("retry").context("rules have no retry")?;
    }
    replace(kubectl, &standard).await?;
    let hint = finds(kubectl, "gateway-api", "spec.rules[].retry.attempts").await?;
    assert!(hint.contains("experimental channel"), "{hint}");
    // A policy of the Gateway API's own keeps the experimental channel from coming over the standard one.
    kubectl.delete("crd", name).await?;
    kubectl.apply(&bare(whole).to_string()).await?;
    is_well(kubectl, &[]).await
}

async fn replace(kubectl: &Kubectl, object: &Value) -> anyhow::Result<()> {
    let output = kubectl
        .run(&["replace", "-f", "-"], &object.to_string())
        .await?;
    anyhow::ensure!(output.code == 0, "{}", output.err());
    Ok(())
}

async fn rbac_missing(kubectl: &Kubectl) -> anyhow::Result<()> {
    let whole = kubectl.object("clusterrole", "weft-control-plane").await?;
    let mut less = bare(whole.clone());
    let rules = less["rules"].as_array_mut().context("no rules")?;
    rules.retain(|rule| rule["apiGroups"] != json!(["authentication.k8s.io"]));
    replace(kubectl, &less).await?;
    let hint = finds(
        kubectl,
        "rbac",
        "may not create tokenreviews.authentication.k8s.io",
    )
    .await?;
    assert!(hint.contains("apply its roles again"), "{hint}");
    replace(kubectl, &bare(whole)).await?;
    is_well(kubectl, &[]).await
}

async fn missing_crd(kubectl: &Kubectl) -> anyhow::Result<()> {
    let name = "trafficpolicies.mesh.weft.dev";
    let whole = kubectl.object("crd", name).await?;
    kubectl.delete("crd", name).await?;
    let hint = finds(kubectl, "crds", &format!("CRD {name} is missing")).await?;
    assert!(hint.contains("weft install | kubectl apply"), "{hint}");
    kubectl.apply(&bare(whole).to_string()).await?;
    is_well(kubectl, &[]).await
}

async fn unmeshed_pod(trial: &Trial, kubectl: &Kubectl) -> anyhow::Result<()> {
    let late = trial.namespace("late", &[]).await?;
    late.apply(&client("early-bird", None)).await?;
    late.ready("early-bird").await?;
    kubectl
        .text(&[
            "label",
            "namespace",
            &late.name,
            "mesh.weft.dev/inject=enabled",
        ])
        .await?;
    let hint = finds(
        kubectl,
        "unmeshed-pods",
        &format!("pod {}/early-bird has no proxy", late.name),
    )
    .await?;
    assert!(hint.contains("delete pod early-bird"), "{hint}");
    late.delete("pod", "early-bird").await?;
    is_well(kubectl, &[]).await
}

async fn check_finds_what_is_wrong_without_a_control_plane(trial: &Trial) -> anyhow::Result<()> {
    let mesh = trial.mesh().await?;
    let kubectl = trial.cluster.kubectl();
    mesh.scale(0).await?;
    let found = without_control_plane(&mesh.system, kubectl).await;
    mesh.scale(1).await?;
    mesh.serves().await?;
    found?;
    // The leader puts its own roots back.
    is_well(kubectl, &[]).await
}

async fn without_control_plane(system: &Kubectl, kubectl: &Kubectl) -> anyhow::Result<()> {
    let hint = finds(kubectl, "control-plane", "scaled to 0").await?;
    assert!(hint.contains("--replicas="), "{hint}");
    let hint = finds(kubectl, "webhook", "failed calling webhook").await?;
    assert!(hint.contains("the API server must reach Service"), "{hint}");

    // The roots of a mesh that began so long ago that its first root has ended.
    let state = tempfile::tempdir()?;
    let settings = AuthoritySettings::new(TrustDomain::default());
    let long_ago = SystemTime::now() - settings.root_lifetime - Duration::from_secs(86_400);
    let pem = CertificateAuthority::open(state.path(), settings, long_ago)?
        .bundle()
        .to_pem();
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "weft-trust"}, "data": {"bundle.pem": pem},
    });
    system.apply(&map.to_string()).await?;
    let hint = finds(kubectl, "root", "has expired, 24h").await?;
    assert!(hint.contains("docs/rotate.md"), "{hint}");
    Ok(())
}
