//! What the control plane may do, and does: all that the other tests of the suite give it no occasion
//! for. At the end the suite compares the API server's audit log with what is granted.

use anyhow::Context;
use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Mesh, Namespace, Trial, until, weft};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(objects_of_every_kind_are_told_what_became_of_them),
        cluster_test!(disruptive what_the_mesh_keeps_is_kept),
    ]
}

fn objects(namespace: &str) -> [(&'static str, Value); 6] {
    let service = json!({"group": "", "kind": "Service", "name": "web"});
    let object = |group: &str, kind: &str, name: &str, spec: Value| json!({"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec});
    let gateway = "gateway.networking.k8s.io/v1";
    let weft = "mesh.weft.dev/v1alpha1";
    let rules = json!([{"backendRefs": [{"name": "web", "port": 80}]}]);
    let route = json!({"parentRefs": [service], "rules": rules});
    [
        (
            "httproute",
            object(gateway, "HTTPRoute", "web", route.clone()),
        ),
        ("grpcroute", object(gateway, "GRPCRoute", "web", route)),
        (
            "authorizationpolicy",
            object(
                weft,
                "AuthorizationPolicy",
                "web",
                json!({"targetRefs": [{"name": "web"}], "rules": [{}]}),
            ),
        ),
        (
            "peerauthentication",
            object(
                weft,
                "PeerAuthentication",
                "web",
                json!({"mtls": {"mode": "PERMISSIVE"}}),
            ),
        ),
        (
            "trafficpolicy",
            object(
                weft,
                "TrafficPolicy",
                "web",
                json!({"targetRefs": [{"name": "web"}], "loadBalancing": {"algorithm": "RoundRobin"}}),
            ),
        ),
        (
            "xmesh",
            object(
                "gateway.networking.x-k8s.io/v1alpha1",
                "XMesh",
                namespace,
                json!({"controllerName": "mesh.weft.dev/controller"}),
            ),
        ),
    ]
}

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{name: http, port: 80}]}
";

async fn objects_of_every_kind_are_told_what_became_of_them(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.meshed("told").await?;
    ns.apply(WEB).await?;
    for (kind, object) in objects(&ns.name) {
        ns.apply(&object.to_string()).await?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        has_status(&ns, kind, name).await?;
    }
    ns.delete("xmesh", &ns.name).await?;
    let config = json!({
        "apiVersion": "mesh.weft.dev/v1alpha1", "kind": "MeshConfig",
        "metadata": {"name": "default"}, "spec": {},
    });
    ns.apply(&config.to_string()).await?;
    let told = has_status(&ns, "meshconfig", "default").await;
    ns.delete("meshconfig", "default").await?;
    told
}

async fn has_status(ns: &Namespace, kind: &str, name: &str) -> anyhow::Result<()> {
    until(&format!("{kind} has a status"), async || {
        let object = ns.object(kind, name).await?;
        let status = &object["status"];
        let told = status.to_string().contains("\"Accepted\"");
        // The API server itself says of a new object that it waits for a controller.
        Ok(Fact::when(
            told && !status.to_string().contains("Pending"),
            status,
        ))
    })
    .await
}

async fn what_the_mesh_keeps_is_kept(trial: &Trial) -> anyhow::Result<()> {
    let mesh = trial.mesh().await?;
    serving_ca_is_repaired(mesh).await?;
    root_is_rotated(mesh).await?;
    let ns = trial.meshed("leaving").await?;
    let label = ["label", "namespace", &ns.name, "mesh.weft.dev/inject-"];
    ns.text(&label).await?;
    until("the trust anchors have gone", async || {
        let anchors = ns.find("configmap", "weft-trust").await?;
        Ok(Fact::when(anchors.is_none(), "they are there"))
    })
    .await
}

async fn serving_ca_is_repaired(mesh: &Mesh) -> anyhow::Result<()> {
    let data = async || {
        let secret = mesh.system.object("secret", "weft-webhook").await?;
        anyhow::Ok(secret["data"].clone())
    };
    let before = data().await?;
    let entries = before.as_object().context("no data")?;
    let (key, _) = entries.iter().next().context("nothing in it")?;
    let patch = json!({"data": {key: "eA=="}}).to_string();
    let args = [
        "patch",
        "secret",
        "weft-webhook",
        "--type=merge",
        "-p",
        &patch,
    ];
    mesh.system.text(&args).await?;
    until("the Secret is as it was", async || {
        let now = data().await?;
        Ok(Fact::when(now == before, "it is not"))
    })
    .await
}

async fn root_is_rotated(mesh: &Mesh) -> anyhow::Result<()> {
    let ca = async || {
        let secret = mesh.system.object("secret", "weft-ca").await?;
        anyhow::Ok(secret["data"].clone())
    };
    let before = ca().await?;
    let kubeconfig = mesh.system.kubeconfig().display().to_string();
    weft(&["root", "rotate", "--kubeconfig", &kubeconfig], "").await?;
    until("the rotation is in the Secret", async || {
        Ok(Fact::when(ca().await? != before, "it is as it was"))
    })
    .await
}
