//! The person's tool at a mesh in a cluster, through nothing but the API server.

use anyhow::Context;
use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Trial, client, run_weft, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::mesh::{WEB, answers, visitor};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(the_tool_shows_who_calls_whom_and_where_the_root_stands),
        cluster_test!(disruptive the_tool_asks_all_replicas_and_single_proxies),
    ]
}

/// `weft` for the suite's cluster: exit code, and its JSON answer.
async fn weft(trial: &Trial, args: &[&str]) -> anyhow::Result<(i32, Value)> {
    let kubeconfig = trial.cluster.kubectl().kubeconfig().display().to_string();
    let args = [args, &["--kubeconfig", &kubeconfig, "-o", "json"]].concat();
    let output = run_weft(&args, "").await?;
    let answer = serde_json::from_slice(&output.stdout);
    let answer = answer.with_context(|| format!("weft {args:?}: {}", output.err()))?;
    Ok((output.code, answer))
}

/// `weft` for the suite's cluster: what it prints for people.
async fn shown(trial: &Trial, args: &[&str]) -> anyhow::Result<String> {
    let kubeconfig = trial.cluster.kubectl().kubeconfig().display().to_string();
    let output = run_weft(&[args, &["--kubeconfig", &kubeconfig]].concat(), "").await?;
    anyhow::ensure!(output.code == 0, "weft {args:?}: {}", output.err());
    Ok(output.out())
}

/// The entry of a list whose `pod` is this.
fn of<'a>(answer: &'a Value, list: &str, pod: &str) -> Option<&'a Value> {
    let list = answer[list].as_array()?;
    list.iter().find(|one| one["pod"] == pod)
}

async fn the_tool_shows_who_calls_whom_and_where_the_root_stands(
    trial: &Trial,
) -> anyhow::Result<()> {
    let ns = trial.meshed("watched").await?;
    ns.apply(WEB).await?;
    visitor(&ns).await?;
    ns.ready("web").await?;
    answers(&ns, "visitor", "http://web/", 200).await?;
    let (from, to) = (format!("{}/visitor", ns.name), format!("{}/web", ns.name));
    let edge = until("the call is shown", async || {
        let (code, top) = weft(trial, &["top", "--once"]).await?;
        anyhow::ensure!(code == 0, "{top}");
        let mut edges = top["edges"].as_array().into_iter().flatten();
        let edge = edges.find(|edge| edge["from"] == *from && edge["to"] == *to);
        Ok(match edge {
            Some(edge) if edge["statuses"]["200"] == 1 => Fact::Is(edge.clone()),
            _ => Fact::NotYet(top.to_string()),
        })
    })
    .await?;
    let number = |field: &str| edge[field].as_u64().unwrap_or_default();
    let sent = number("requests") - number("unsent");
    assert_eq!(number("mtls"), sent, "{edge}");
    let table = shown(trial, &["top", "--once"]).await?;
    let row = table.lines().find(|row| row.starts_with(&from));
    let row = row.with_context(|| format!("{from} is not in {table}"))?;
    assert!(row.contains(&to), "{row}");

    // A rotation that another test began may be under way: then two roots are trusted.
    let system = &trial.mesh().await?.system;
    let phase = until("the phase and the anchors agree", async || {
        let (code, root) = weft(trial, &["root", "status"]).await?;
        anyhow::ensure!(code == 0, "{root}");
        let anchors = system.object("configmap", "weft-trust").await?;
        let anchors = anchors["data"]["bundle.pem"].as_str().unwrap_or_default();
        let trusted = anchors.matches("BEGIN CERTIFICATE").count();
        let phase = root["phase"].as_str().unwrap_or_default();
        Ok(match (phase, trusted) {
            ("stable", 1) | ("announced" | "switched", 2) => Fact::Is(phase.to_owned()),
            _ => Fact::NotYet(format!("{trusted} anchors, and {root}")),
        })
    })
    .await?;
    if phase == "stable" {
        let told = shown(trial, &["root", "status"]).await?;
        assert!(told.starts_with("stable: one root is trusted"), "{told}");
    }
    Ok(())
}

async fn the_tool_asks_all_replicas_and_single_proxies(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.meshed("tool").await?;
    let late = trial.namespace("late", &[]).await?;
    late.apply(&client("early-bird", None)).await?;
    late.ready("early-bird").await?;
    let label = [
        "label",
        "namespace",
        &late.name,
        "mesh.weft.dev/inject=enabled",
    ];
    trial.cluster.kubectl().text(&label).await?;

    let mesh = trial.mesh().await?;
    mesh.scale(2).await?;
    mesh.serves().await?;
    for name in ["one", "two", "three"] {
        ns.apply(&client(name, None)).await?;
    }
    for name in ["one", "two", "three"] {
        ns.ready(name).await?;
    }
    let (code, ready) = weft(trial, &["wait"]).await?;
    assert_eq!((code, &ready["waitingFor"]), (0, &json!([])), "{ready}");
    assert_eq!(ready["replicas"], 2, "{ready}");

    let early = format!("{}/early-bird", late.name);
    let status = until("the unmeshed pod is flagged", async || {
        let (_, status) = weft(trial, &["proxy", "status"]).await?;
        Ok(match of(&status, "unmeshed", &early) {
            Some(_) => Fact::Is(status),
            None => Fact::NotYet(status.to_string()),
        })
    })
    .await?;
    for name in ["one", "two", "three"] {
        let proxy = of(&status, "proxies", &format!("{}/{name}", ns.name));
        let proxy = proxy.with_context(|| format!("{name} is not in {status}"))?;
        assert_eq!(proxy["version"], env!("CARGO_PKG_VERSION"), "{proxy}");
        assert!(
            proxy["replica"]
                .as_str()
                .is_some_and(|one| one.starts_with("weft-control-plane-")),
            "{proxy}"
        );
    }

    let policy = json!({
        "apiVersion": "mesh.weft.dev/v1alpha1", "kind": "AuthorizationPolicy", "metadata": {"name": "nobody"},
        "spec": {"action": "DENY", "rules": [{"from": [{"namespaces": ["nowhere"]}]}]},
    });
    ns.apply(&policy.to_string()).await?;
    let wait = ["wait", "authorizationpolicy/nobody", "-n", &ns.name];
    let (code, answer) = weft(trial, &wait).await?;
    assert_eq!(
        (code, &answer["confirmed"], &answer["replicas"]),
        (0, &json!(true), &json!(2)),
        "{answer}"
    );
    // It is in force where the wait says so.
    let (code, config) = weft(trial, &["proxy", "config", "one", "-n", &ns.name]).await?;
    assert_eq!(
        (code, &config["pod"]),
        (0, &json!(format!("{}/one", ns.name))),
        "{config}"
    );
    let policies = config["inbound"]["policies"].to_string();
    assert!(policies.contains("nobody"), "{policies}");

    mesh.scale(1).await?;
    mesh.serves().await
}
