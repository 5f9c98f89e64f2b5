//! What the leader tells objects in their status, with an API server of the test's own.

use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Kubectl, Trial, gateway_api, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::identity::Setting;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![cluster_test!(
        objects_say_what_became_of_them_and_others_entries_stay
    )]
}

const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: "", kind: Service, name: web}]
  rules:
    - backendRefs: [{name: web, port: 80}, {name: later, port: 80}]
---
apiVersion: mesh.weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: elsewhere}
spec:
  targetRefs: [{name: absent}]
  loadBalancing: {algorithm: RoundRobin}
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XMesh
metadata: {name: weft}
spec: {controllerName: mesh.weft.dev/controller}
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XMesh
metadata: {name: theirs}
spec: {controllerName: example.com/mesh}
"#;

const LATER: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: later}
spec: {ports: [{name: http, port: 80}]}
"#;

/// A policy that is told at once that its target is not there.
fn probe(name: &str) -> String {
    json!({
        "apiVersion": "mesh.weft.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"name": name},
        "spec": {"targetRefs": [{"name": name}], "loadBalancing": {"algorithm": "RoundRobin"}},
    })
    .to_string()
}

async fn objects_say_what_became_of_them_and_others_entries_stay(_: &Trial) -> anyhow::Result<()> {
    let setting = Setting::new().await?;
    let shop = setting.kubectl.in_namespace("shop");
    shop.apply_folder(&gateway_api()?).await?;
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/crds");
    shop.text(&["apply", "--server-side", "-f", crds]).await?;
    shop.text(&["wait", "--for=condition=Established", "crd", "--all"])
        .await?;
    shop.apply(OBJECTS).await?;
    let foreign = json!({
        "controllerName": "example.com/gateways",
        "parentRef": {"group": "", "kind": "Service", "name": "web"},
        "conditions": [{
            "type": "Accepted",
            "status": "Unknown",
            "reason": "Pending",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    });
    let patch = json!({"status": {"parents": [foreign]}}).to_string();
    let args = ["patch", "httproute", "web", "--subresource=status"];
    shop.text(&[&args[..], &["--type=merge", "-p", &patch]].concat())
        .await?;

    let first = setting.start("first")?;
    setting.led_by("first").await?;
    let path = "/status/parents/1/conditions";
    let bad = told(
        &shop,
        "httproute/web",
        path,
        "ResolvedRefs",
        "BackendNotFound",
    )
    .await?;
    let absent = "/status/ancestors/0/conditions";
    told(
        &shop,
        "trafficpolicy/elsewhere",
        absent,
        "Accepted",
        "TargetNotFound",
    )
    .await?;

    let mesh = told(
        &shop,
        "xmesh/weft",
        "/status/conditions",
        "Accepted",
        "Accepted",
    )
    .await?;
    let features = mesh["status"]["supportedFeatures"].to_string();
    anyhow::ensure!(features.contains("MeshConsumerRoute"), "{mesh}");
    let theirs = shop.json(&["get", "xmesh/theirs"]).await?;
    let untouched = theirs["status"]["conditions"][0]["reason"] == "Pending"
        && theirs["status"]["supportedFeatures"].is_null();
    anyhow::ensure!(untouched, "{theirs}");

    shop.apply(LATER).await?;
    let good = told(&shop, "httproute/web", path, "ResolvedRefs", "ResolvedRefs").await?;
    for route in [&bad, &good] {
        anyhow::ensure!(route["status"]["parents"][0] == foreign, "{route}");
    }
    let accepted = good.pointer(&format!("{path}/0"));
    anyhow::ensure!(accepted == bad.pointer(&format!("{path}/0")), "{good}");

    // What says the right thing is not written again: not with another change, nor by a new leader.
    shop.apply(&probe("second")).await?;
    told(
        &shop,
        "trafficpolicy/second",
        absent,
        "Accepted",
        "TargetNotFound",
    )
    .await?;
    first.stop().await?;
    let _second = setting.start("second")?;
    setting.led_by("second").await?;
    shop.apply(&probe("third")).await?;
    told(
        &shop,
        "trafficpolicy/third",
        absent,
        "Accepted",
        "TargetNotFound",
    )
    .await?;
    let now = shop.json(&["get", "httproute", "web"]).await?;
    anyhow::ensure!(now == good, "{now}\nwas\n{good}");
    Ok(())
}

/// Waits until the object has the condition with that reason among those at `path`.
pub async fn told(
    kubectl: &Kubectl,
    object: &str,
    path: &str,
    condition: &str,
    reason: &str,
) -> anyhow::Result<Value> {
    until(&format!("{object} says {reason}"), async || {
        let found = kubectl.json(&["get", object]).await?;
        let conditions = found.pointer(path).and_then(Value::as_array);
        let is = conditions.is_some_and(|conditions| {
            let mut all = conditions.iter();
            all.any(|one| one["type"] == condition && one["reason"] == reason)
        });
        Ok(match is {
            true => Fact::Is(found),
            false => Fact::NotYet(found["status"].to_string()),
        })
    })
    .await
}
