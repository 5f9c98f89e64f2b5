//! What is wrong is named where somebody will look, and nothing else is disturbed.

use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Namespace, Trial, client, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::mesh::{answers, has_proxy, visitor};
use crate::platform::NGINX;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(a_policy_that_does_not_compile_is_named_and_guards_its_target_alone),
        cluster_test!(a_gateways_part_of_a_route_is_left_to_its_controller),
        cluster_test!(a_call_of_the_webhook_from_nobody_is_refused_and_changes_nothing),
    ]
}

/// Another Service, of other pods.
const OTHER: &str = "
apiVersion: v1
kind: Service
metadata: {name: other}
spec: {selector: {app: other}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other, labels: {app: other}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: other, image: 'nginx:1.27', ports: [{containerPort: 80}]}]
";

fn policy(blocks: &str) -> String {
    json!({
        "apiVersion": "mesh.weft.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "office"},
        "spec": {
            "targetRefs": [{"kind": "Service", "name": "nginx"}],
            "action": "DENY",
            "rules": [{"from": [{"ipBlocks": [blocks]}]}],
        },
    })
    .to_string()
}

/// Waits until the policy's `Accepted` has this status, and gives the condition.
async fn accepted(ns: &Namespace, status: &str) -> anyhow::Result<Value> {
    until(&format!("Accepted is {status}"), async || {
        let policy = ns.object("authorizationpolicy", "office").await?;
        let conditions = &policy["status"]["ancestors"][0]["conditions"];
        let mut conditions = conditions.as_array().into_iter().flatten();
        let found = conditions.find(|one| one["type"] == "Accepted");
        let found =
            found.filter(|one| one["observedGeneration"] == policy["metadata"]["generation"]);
        Ok(match found {
            Some(found) if found["status"] == status => Fact::Is(found.clone()),
            _ => Fact::NotYet(policy.to_string()),
        })
    })
    .await
}

async fn a_policy_that_does_not_compile_is_named_and_guards_its_target_alone(
    trial: &Trial,
) -> anyhow::Result<()> {
    let ns = trial.meshed("bad").await?;
    ns.apply(NGINX).await?;
    ns.apply(OTHER).await?;
    visitor(&ns).await?;
    ns.ready("other").await?;
    ns.rolled_out("nginx-deployment").await?;
    for url in ["http://nginx/", "http://other/"] {
        answers(&ns, "visitor", url, 200).await?;
    }
    // The schema takes it: it does not know how long an address is.
    ns.apply(&policy("10.0.0.0/99")).await?;
    let told = accepted(&ns, "False").await?;
    let message = told["message"].as_str().unwrap_or_default();
    assert!(
        told["reason"] == "Invalid" && message.contains("ipBlocks"),
        "{told}"
    );
    // With no version before it, it guards: nobody passes; and the neighbours notice nothing.
    answers(&ns, "visitor", "http://nginx/", 403).await?;
    answers(&ns, "visitor", "http://other/", 200).await?;

    // Corrected it is in force, and spoilt again the last good version stays.
    ns.apply(&policy("192.0.2.0/24")).await?;
    accepted(&ns, "True").await?;
    answers(&ns, "visitor", "http://nginx/", 200).await?;
    ns.apply(&policy("192.0.2.0/99")).await?;
    accepted(&ns, "False").await?;
    answers(&ns, "visitor", "http://nginx/", 200).await?;
    Ok(())
}

/// A Gateway would need a grant for a backend in another namespace; what it makes of that is for its
/// controller to say. A Service needs none.
async fn a_gateways_part_of_a_route_is_left_to_its_controller(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.meshed("front").await?;
    let elsewhere = trial.meshed("elsewhere").await?;
    elsewhere.apply(OTHER).await?;
    // A Service without pods: what is answered is answered elsewhere.
    ns.apply("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}")
        .await?;
    visitor(&ns).await?;
    elsewhere.ready("other").await?;
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "web"},
        "spec": {
            "parentRefs": [
                {"name": "front"},
                {"group": "", "kind": "Service", "name": "web"},
            ],
            "rules": [{"backendRefs": [{"name": "other", "namespace": elsewhere.name, "port": 80}]}],
        },
    });
    ns.apply(&route.to_string()).await?;
    answers(&ns, "visitor", "http://web/", 200).await?;
    let told = until("the route has a status", async || {
        let route = ns.object("httproute", "web").await?;
        Ok(match route["status"]["parents"].as_array() {
            Some(parents) if !parents.is_empty() => Fact::Is(parents.clone()),
            _ => Fact::NotYet(route.to_string()),
        })
    })
    .await?;
    let [only] = &told[..] else {
        anyhow::bail!("{told:?}");
    };
    anyhow::ensure!(only["parentRef"]["kind"] == "Service", "{only}");
    let conditions = only["conditions"].as_array().into_iter().flatten();
    for one in conditions {
        anyhow::ensure!(one["status"] == "True", "{only}");
    }
    Ok(())
}

/// Anyone who reaches the webhook may call it.
async fn a_call_of_the_webhook_from_nobody_is_refused_and_changes_nothing(
    trial: &Trial,
) -> anyhow::Result<()> {
    let ns = trial.meshed("asked").await?;
    let outside = trial.namespace("nobody", &[]).await?;
    outside.apply(&client("nobody", None)).await?;
    outside.ready("nobody").await?;
    let review = |kind: &str| {
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "1", "kind": {"group": "", "version": "v1", "kind": kind},
                "operation": "CREATE", "namespace": ns.name, "object": {"kind": kind},
            },
        })
        .to_string()
    };
    let json = "content-type: application/json";
    let large = format!("@{}", "/bin/busybox");
    let calls = [
        ("/inject/pod", json, "rubbish", "400"),
        ("/inject/pod", json, "{}", "400"),
        (
            "/inject/pod",
            json,
            r#"{"apiVersion":"v1","kind":"Pod"}"#,
            "400",
        ),
        ("/inject/pod", "content-type: text/plain", "{}", "415"),
        ("/inject/pod", json, &large, "400"),
        ("/inject/everything", json, "{}", "404"),
        ("/", json, "{}", "404"),
    ];
    let ask = async |path: &str, header: &str, body: &str| {
        let url = format!("https://weft-control-plane.weft-system{path}");
        let args = [
            "-k",
            "-H",
            header,
            "--data-binary",
            body,
            "-w",
            "\n%{http_code}",
            &url,
        ];
        anyhow::Ok(outside.curl("nobody", &args).await?.out())
    };
    for (path, header, body, status) in calls {
        let answer = ask(path, header, body).await?;
        assert!(answer.ends_with(status), "{path} {header} {body}: {answer}");
    }
    // A proper question about what is no pod is answered, and refused.
    let answer = ask("/inject/pod", json, &review("Secret")).await?;
    assert!(
        answer.contains("\"allowed\":false") && answer.ends_with("200"),
        "{answer}"
    );
    ns.apply(&client("inside", None)).await?;
    has_proxy(&ns.ready("inside").await?)
}
