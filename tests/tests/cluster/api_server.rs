//! The API server as Weft meets it: it calls webhooks, writes down who asked for what, and is away
//! at times.

use std::process::Command;

use anyhow::Context;
use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Namespace, Trial, WAITING, client, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::platform::NGINX;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(the_api_server_calls_webhooks_at_a_service),
        cluster_test!(own the_audit_log_holds_what_weft_asks),
        cluster_test!(own disruptive traffic_goes_on_without_the_api_server),
    ]
}

/// A TLS server which answers every review alike, and so with a UID that no review has.
fn webhook_server(ns: &Namespace) -> anyhow::Result<(String, Value)> {
    let name = format!("subjectAltName=DNS:hook.{}.svc", ns.name);
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args([
            "-nodes", "-days", "1", "-subj", "/CN=hook", "-addext", &name,
        ])
        .args(["-keyout", "-", "-out", "-"])
        .output()
        .context("running openssl")?;
    let pem = String::from_utf8(output.stdout)?;
    let start = pem
        .find("-----BEGIN CERTIFICATE")
        .context("no certificate")?;
    let certificate = pem[start..].to_owned();
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "nobodys", "allowed": true},
    });
    let conf = format!(
        "server {{ listen 8443 ssl; ssl_certificate /etc/nginx/conf.d/pem; ssl_certificate_key /etc/nginx/conf.d/pem;
         location / {{ default_type application/json; return 200 '{answer}'; }} }}"
    );
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hook"}, "data": {"hook.conf": conf, "pem": pem}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"},
         "spec": {"selector": {"app": "hook"}, "ports": [{"port": 443, "targetPort": 8443}]}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hook", "labels": {"app": "hook"}}, "spec": {
            "containers": [{"name": "nginx", "image": "nginx:1.27",
                "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
                "volumeMounts": [{"name": "conf", "mountPath": "/etc/nginx/conf.d"}]}],
            "volumes": [{"name": "conf", "configMap": {"name": "hook"}}],
        }},
    ]});
    Ok((certificate, objects))
}

async fn the_api_server_calls_webhooks_at_a_service(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.namespace("hook", &[]).await?;
    let (certificate, server) = webhook_server(&ns)?;
    ns.apply(&server.to_string()).await?;
    ns.ready("hook").await?;
    let configuration = |bundle: &str| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": ns.name},
            "webhooks": [{
                "name": "hook.weft.test",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.name}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
                "clientConfig": {"caBundle": bundle, "service": {"name": "hook", "namespace": ns.name}},
            }],
        })
        .to_string()
    };
    let encoded = base64(&certificate)?;
    ns.apply(&configuration(&encoded)).await?;
    let reached = until("the webhook is asked", async || {
        let args = ["create", "configmap", "any", "--dry-run=server"];
        let answer = ns.run(&args, "").await?;
        let asked = answer.err().contains("nobodys");
        Ok(Fact::when(
            asked,
            format!("{}{}", answer.out(), answer.err()),
        ))
    })
    .await;
    ns.delete("validatingwebhookconfiguration", &ns.name)
        .await?;
    reached
}

fn base64(text: &str) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("text");
    std::fs::write(&file, text)?;
    let output = Command::new("base64").arg("-w0").arg(&file).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

async fn the_audit_log_holds_what_weft_asks(trial: &Trial) -> anyhow::Result<()> {
    trial.cluster.local()?;
    let kubectl = trial.cluster.kubectl().in_namespace("weft-system");
    kubectl
        .apply("{apiVersion: v1, kind: Namespace, metadata: {name: weft-system}}")
        .await?;
    kubectl
        .apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: audited}}")
        .await?;
    let mut pod: Value = serde_json::from_str(&client("audited", None))?;
    pod["spec"]["serviceAccountName"] = json!("audited");
    kubectl.apply(&pod.to_string()).await?;
    kubectl.ready("audited").await?;
    let script = "cd /var/run/secrets/kubernetes.io/serviceaccount && curl -sS --cacert ca.crt \
        -H \"Authorization: Bearer $(cat token)\" https://kubernetes.default.svc/api/v1/namespaces/default/secrets";
    let answer = until("the API server answers a pod", async || {
        let answer = kubectl
            .exec("audited", "client", &["sh", "-c", script])
            .await?;
        match serde_json::from_slice::<Value>(&answer.stdout) {
            Ok(status) => Ok(Fact::Is(status)),
            Err(_) => Ok(Fact::NotYet(answer.err())),
        }
    })
    .await?;
    assert_eq!(answer["reason"], "Forbidden", "{answer}");
    let log = trial.cluster.audit()?;
    let entry = log
        .iter()
        .find(|entry| entry["user"]["username"] == "system:serviceaccount:weft-system:audited")
        .context("the audit log has no such account")?;
    assert_eq!(entry["verb"], "list");
    assert_eq!(entry["objectRef"]["resource"], "secrets");
    assert_eq!(
        entry["annotations"]["authorization.k8s.io/decision"],
        "forbid"
    );
    kubectl.delete("pod", "audited").await?;
    kubectl.delete("serviceaccount", "audited").await
}

async fn traffic_goes_on_without_the_api_server(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.namespace("outage", &[]).await?;
    ns.apply(NGINX).await?;
    let waiting = serde_json::to_string(&WAITING)?;
    let calling =
        r#"["sh","-c","while sleep 0.2; do curl -sSo /dev/null http://nginx/ && echo good; done"]"#;
    ns.apply(&client("client", None).replace(&waiting, calling))
        .await?;
    ns.rolled_out("nginx-deployment").await?;
    ns.ready("client").await?;
    let good = async || anyhow::Ok(ns.logs("client", "client").await?.matches("good").count());
    until("the client is served", async || {
        Ok(Fact::when(good().await? > 0, "not yet"))
    })
    .await?;
    let held = trial.cluster.local()?.hold(1, "kube-apiserver").await?;
    until("the API server is gone", async || {
        let answer = ns.run(&["get", "--raw", "/readyz"], "").await?;
        Ok(Fact::when(answer.code != 0, answer.out()))
    })
    .await?;
    drop(held);
    until("the API server is back", async || {
        let answer = ns.run(&["get", "--raw", "/readyz"], "").await?;
        Ok(Fact::when(answer.code == 0, answer.err()))
    })
    .await?;
    let before = good().await?;
    until("the client is still served", async || {
        let now = good().await?;
        Ok(Fact::when(now > before, now))
    })
    .await
}
