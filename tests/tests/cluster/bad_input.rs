//! What is wrong is named where somebody will look, and nothing else is disturbed.

use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Namespace, Trial, client, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::mesh::{answers, has_proxy, policy, visitor};
use crate::platform::NGINX;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(a_policy_that_does_not_compile_is_named_and_guards_its_target_alone),
        cluster_test!(a_gateways_route_without_a_grant_is_named_and_disturbs_nothing),
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

/// Keeps these addresses out of nginx.
fn office(blocks: &str) -> String {
    let from = json!([{"from": [{"ipBlocks": [blocks]}]}]);
    policy("office", "DENY", &from)
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
    ns.apply(&office("10.0.0.0/99")).await?;
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
    ns.apply(&office("192.0.2.0/24")).await?;
    accepted(&ns, "True").await?;
    answers(&ns, "visitor", "http://nginx/", 200).await?;
    ns.apply(&office("192.0.2.0/99")).await?;
    accepted(&ns, "False").await?;
    answers(&ns, "visitor", "http://nginx/", 200).await?;
    Ok(())
}

/// A GatewayClass of this control plane's and one of another controller's, with a Gateway of each.
fn gateways(class: &str, others: &str) -> String {
    let gateway = |name: &str, class: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": {"name": name},
            "spec": {
                "gatewayClassName": class,
                "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            },
        })
    };
    let class_of = |name: &str, controller: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": name},
            "spec": {"controllerName": controller},
        })
    };
    let items = [
        class_of(class, "mesh.weft.dev/controller"),
        class_of(others, "example.com/gateways"),
        gateway("front", class),
        gateway("theirs", others),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// The entries of the status of the route `web` of this kind, once they are at these parents and of its last generation.
async fn told_at(ns: &Namespace, kind: &str, parents: &[&str]) -> anyhow::Result<Vec<Value>> {
    until(
        &format!("the {kind} has a status at {parents:?}"),
        async || {
            let route = ns.object(kind, "web").await?;
            let entries = route["status"]["parents"].as_array().cloned();
            let entries = entries.unwrap_or_default();
            let names = entries.iter().map(|entry| &entry["parentRef"]["name"]);
            let generation = &route["metadata"]["generation"];
            let is_new = entries.iter().all(|entry| {
                let mut conditions = entry["conditions"].as_array().into_iter().flatten();
                conditions.all(|one| one["observedGeneration"] == *generation)
            });
            Ok(match names.eq(parents) && is_new {
                true => Fact::Is(entries),
                false => Fact::NotYet(route["status"].to_string()),
            })
        },
    )
    .await
}

/// Status and reason of the condition of this type.
fn verdict<'a>(conditions: &'a Value, r#type: &str) -> (&'a str, &'a str) {
    let mut all = conditions.as_array().into_iter().flatten();
    let found = all.find(|one| one["type"] == r#type);
    let word = |part: &str| found.and_then(|one| one[part].as_str()).unwrap_or_default();
    (word("status"), word("reason"))
}

/// A Gateway needs a grant for a backend in another namespace, a Service does not. What is another controller's Gateway's
/// is not spoken of at all.
async fn a_gateways_route_without_a_grant_is_named_and_disturbs_nothing(
    trial: &Trial,
) -> anyhow::Result<()> {
    let ns = trial.meshed("front").await?;
    let elsewhere = trial.meshed("elsewhere").await?;
    elsewhere.apply(OTHER).await?;
    // A Service without pods: what is answered is answered elsewhere.
    ns.apply("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}")
        .await?;
    visitor(&ns).await?;
    elsewhere.ready("other").await?;
    let (class, others) = (format!("{}-weft", ns.name), format!("{}-others", ns.name));
    ns.apply(&gateways(&class, &others)).await?;
    let route = |kind: &str, parents: Value| {
        let backend = json!({"name": "other", "namespace": elsewhere.name, "port": 80});
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": "web"},
            "spec": {"parentRefs": parents, "rules": [{"backendRefs": [backend]}]},
        })
        .to_string()
    };
    let service = json!({"group": "", "kind": "Service", "name": "web"});
    let parents = json!([{"name": "front"}, {"name": "theirs"}, service]);
    ns.apply(&route("HTTPRoute", parents)).await?;
    ns.apply(&route("GRPCRoute", json!([{"name": "front"}])))
        .await?;
    answers(&ns, "visitor", "http://web/", 200).await?;
    let told = told_at(&ns, "httproute", &["front", "web"]).await?;
    let of_grpc = told_at(&ns, "grpcroute", &["front"]).await?;
    let at_service = &told[1]["conditions"];
    for at_gateway in [&told[0]["conditions"], &of_grpc[0]["conditions"]] {
        let named = verdict(at_gateway, "ResolvedRefs");
        anyhow::ensure!(named == ("False", "RefNotPermitted"), "{at_gateway}");
        let refused = verdict(at_gateway, "Accepted");
        anyhow::ensure!(refused == ("False", "UnsupportedValue"), "{at_gateway}");
    }
    for r#type in ["Accepted", "ResolvedRefs"] {
        let holds = verdict(at_service, r#type).0 == "True";
        anyhow::ensure!(holds, "{at_service}");
    }
    // So do the Gateway and its class, and nobody else's.
    for (kind, name, reason) in [
        ("gatewayclass", &*class, "Unsupported"),
        ("gateway", "front", "Invalid"),
    ] {
        until(
            &format!("{kind} is told that it is not served"),
            async || {
                let object = ns.object(kind, name).await?;
                let accepted = verdict(&object["status"]["conditions"], "Accepted");
                Ok(match accepted == ("False", reason) {
                    true => Fact::Is(()),
                    false => Fact::NotYet(object["status"].to_string()),
                })
            },
        )
        .await?;
    }
    for (kind, name) in [("gatewayclass", &*others), ("gateway", "theirs")] {
        let object = ns.object(kind, name).await?;
        let accepted = verdict(&object["status"]["conditions"], "Accepted");
        anyhow::ensure!(accepted.0 == "Unknown", "{object}");
    }

    // Granted, the reference is resolved; the Service's part was in force all along.
    let grant = json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": {"name": "from-front"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": ns.name}],
            "to": [{"group": "", "kind": "Service", "name": "other"}],
        },
    });
    elsewhere.apply(&grant.to_string()).await?;
    until("the grant is heard of", async || {
        let told = told_at(&ns, "httproute", &["front", "web"]).await?;
        let resolved = verdict(&told[0]["conditions"], "ResolvedRefs");
        Ok(match resolved.0 {
            "True" => Fact::Is(()),
            _ => Fact::NotYet(told[0].to_string()),
        })
    })
    .await?;
    answers(&ns, "visitor", "http://web/", 200).await?;
    for class in [&class, &others] {
        ns.delete("gatewayclass", class).await?;
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
