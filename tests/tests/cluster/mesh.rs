//! Weft in a real cluster, installed and used as its users do: workloads of any tutorial, unchanged,
//! in a namespace that is in the mesh.

use anyhow::Context;
use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Namespace, TOOLS, Trial, client, condition, container, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

use crate::platform::NGINX;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(a_tutorials_nginx_is_meshed_and_under_policy),
        cluster_test!(strict_mode_lets_probes_in_and_no_stranger),
        cluster_test!(a_job_in_the_mesh_completes),
        cluster_test!(disruptive a_bundle_that_is_edited_comes_back),
        cluster_test!(disruptive traffic_goes_on_without_a_control_plane),
    ]
}

pub const PROXY: &str = "weft-proxy";

/// A pod that acts as `visitor`.
pub async fn visitor(ns: &Namespace) -> anyhow::Result<()> {
    ns.text(&["create", "serviceaccount", "visitor"]).await?;
    let mut pod: Value = serde_json::from_str(&client("visitor", None))?;
    pod["spec"]["serviceAccountName"] = "visitor".into();
    ns.apply(&pod.to_string()).await?;
    let pod = ns.ready("visitor").await?;
    has_proxy(&pod)
}

/// Asserts that the pod came out of the webhook, and that its proxy serves.
pub fn has_proxy(pod: &Value) -> anyhow::Result<()> {
    let proxy = container(pod, PROXY);
    anyhow::ensure!(
        pod["metadata"]["annotations"]["mesh.weft.dev/status"] == "injected"
            && proxy["ready"] == true
            && proxy["started"] == true,
        "{}: {}",
        pod["metadata"],
        pod["status"]
    );
    Ok(())
}

/// Status and headers of the answer to a GET; 0 where there is none.
pub async fn get(ns: &Namespace, from: &str, url: &str) -> anyhow::Result<(u16, String)> {
    let args = ["-o", "/dev/null", "-D", "/dev/stderr", "-w", "%{http_code}"];
    let answer = ns.curl(from, &[&args[..], &[url]].concat()).await?;
    Ok((answer.out().trim().parse()?, answer.err()))
}

/// Waits until the answer has this status, and gives its headers.
pub async fn answers(ns: &Namespace, from: &str, url: &str, status: u16) -> anyhow::Result<String> {
    until(&format!("{url} answers {status} to {from}"), async || {
        let (found, headers) = get(ns, from, url).await?;
        Ok(match found == status {
            true => Fact::Is(headers),
            false => Fact::NotYet(format!("{found} {headers}")),
        })
    })
    .await
}

/// The lines of the access logs of these pods' proxies.
async fn access_logs(ns: &Namespace, pods: &[Value]) -> anyhow::Result<Vec<Value>> {
    let mut lines = Vec::new();
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().context("no name")?;
        let log = ns.logs(name, PROXY).await?;
        let json = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines.extend(json);
    }
    Ok(lines)
}

/// An AuthorizationPolicy for nginx.
pub fn policy(name: &str, action: &str, rules: &Value) -> String {
    json!({
        "apiVersion": "mesh.weft.dev/v1alpha1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name},
        "spec": {
            "targetRefs": [{"kind": "Service", "name": "nginx"}],
            "action": action,
            "rules": rules,
        },
    })
    .to_string()
}

async fn a_tutorials_nginx_is_meshed_and_under_policy(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.meshed("tutorial").await?;
    ns.apply(NGINX).await?;
    visitor(&ns).await?;
    ns.rolled_out("nginx-deployment").await?;
    let pods = ns.list("pods", "app=nginx").await?;
    assert_eq!(pods.len(), 3);
    for pod in &pods {
        has_proxy(pod)?;
        assert_eq!(container(pod, "nginx")["ready"], true);
    }
    let welcome = ns.curl("visitor", &["http://nginx/"]).await?;
    assert!(
        welcome.out().contains("Welcome to nginx!"),
        "{}",
        welcome.err()
    );

    // The server's proxy knows by the certificate who it was.
    let id = format!("spiffe://cluster.local/ns/{}/sa/visitor", ns.name);
    until("the servers' access log tells the client", async || {
        let lines = access_logs(&ns, &pods).await?;
        let told = lines.iter().any(|line| {
            line["direction"] == "inbound"
                && line["mtls"] == true
                && line["source"] == *id
                && line["status"] == 200
        });
        Ok(Fact::when(told, Value::from(lines)))
    })
    .await?;

    let from = json!([{"from": [{"serviceAccounts": ["visitor"]}]}]);
    ns.apply(&policy("no-visitors", "DENY", &from)).await?;
    let refusal = answers(&ns, "visitor", "http://nginx/", 403).await?;
    let decision = format!("weft-decision: {}/no-visitors#", ns.name);
    assert!(
        refusal.to_ascii_lowercase().contains(&decision),
        "{refusal}"
    );
    ns.delete("authorizationpolicy", "no-visitors").await?;
    ns.apply(&policy("visitors", "ALLOW", &from)).await?;
    answers(&ns, "visitor", "http://nginx/", 200).await?;
    Ok(())
}

pub const STRICT: &str = "
apiVersion: mesh.weft.dev/v1alpha1
kind: PeerAuthentication
metadata: {name: default}
spec: {mtls: {mode: STRICT}}
";

/// Every kind of probe that there is, each of them needed to be ready.
fn probed() -> String {
    let labels = json!({"app": "probed"});
    json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "probed"},
                "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080, "appProtocol": "http"}]},
            },
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "probed", "labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [probe_of("http", 8080, json!({"httpGet": {"path": "/ready", "port": 8080}})),
                        probe_of("tcp", 8081, json!({"tcpSocket": {"port": 8081}})),
                        probe_of("grpc", 8082, json!({"grpc": {"port": 8082}}))],
                },
            },
        ],
    })
    .to_string()
}

fn probe_of(name: &str, port: u16, mut probe: Value) -> Value {
    probe["periodSeconds"] = 1.into();
    json!({
        "name": name,
        "image": TOOLS,
        "command": ["weft-echo", "--http", port.to_string()],
        "readinessProbe": probe,
        "livenessProbe": probe,
    })
}

async fn strict_mode_lets_probes_in_and_no_stranger(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.meshed("strict").await?;
    ns.apply(STRICT).await?;
    ns.apply(&probed()).await?;
    visitor(&ns).await?;
    let pod = ns.ready("probed").await?;
    has_proxy(&pod)?;
    answers(&ns, "visitor", "http://probed/", 200).await?;

    let outside = trial.namespace("outside", &[]).await?;
    outside.apply(&client("stranger", None)).await?;
    outside.ready("stranger").await?;
    let url = format!("http://probed.{}/", ns.name);
    answers(&outside, "stranger", &url, 0).await?;

    // Ready, that is three kinds of probes answered, and never found dead.
    let pod = ns.object("pod", "probed").await?;
    assert_eq!(condition(&pod, "Ready").context("none")?["status"], "True");
    for name in ["http", "tcp", "grpc", PROXY] {
        assert_eq!(container(&pod, name)["restartCount"], 0, "{pod}");
    }
    Ok(())
}

async fn a_job_in_the_mesh_completes(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.meshed("job").await?;
    ns.apply(STRICT).await?;
    ns.apply(NGINX).await?;
    ns.rolled_out("nginx-deployment").await?;
    // In strict mode only a proxy gets an answer for it.
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "fetch"},
        "spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "fetch", "image": TOOLS, "command": ["curl", "-sSf", "http://nginx/"]}],
        }}},
    });
    ns.apply(&job.to_string()).await?;
    until("the Job is complete", async || {
        let job = ns.object("job", "fetch").await?;
        let logs = ns.logs("job/fetch", "fetch").await.unwrap_or_default();
        anyhow::ensure!(
            condition(&job, "Failed").is_none(),
            "{} {logs}",
            job["status"]
        );
        Ok(Fact::when(
            condition(&job, "Complete").is_some(),
            &job["status"],
        ))
    })
    .await?;
    let said = ns.logs("job/fetch", "fetch").await?;
    assert!(said.contains("Welcome to nginx!"), "{said}");
    Ok(())
}

async fn a_bundle_that_is_edited_comes_back(trial: &Trial) -> anyhow::Result<()> {
    let mesh = trial.mesh().await?;
    let kind = "mutatingwebhookconfiguration";
    let bundles = async || {
        let found = mesh.system.object(kind, "weft-injector").await?;
        let bundle = |i: usize| found["webhooks"][i]["clientConfig"]["caBundle"].clone();
        anyhow::Ok([bundle(0), bundle(1)])
    };
    let before = bundles().await?;
    assert!(before[0].is_string() && before[0] == before[1]);
    let patch = json!([{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]).to_string();
    let args = ["patch", kind, "weft-injector", "--type=json", "-p", &patch];
    mesh.system.text(&args).await?;
    until("the bundle is back", async || {
        let now = bundles().await?;
        Ok(Fact::when(now == before, format!("{now:?}")))
    })
    .await?;
    // Without its Secret, the CA in memory stays: nobody has to learn of another one.
    mesh.system.delete("secret", "weft-webhook").await?;
    until("the Secret is back", async || {
        let secret = mesh.system.find("secret", "weft-webhook").await?;
        Ok(Fact::when(secret.is_some(), "there is none"))
    })
    .await?;
    assert_eq!(bundles().await?, before);
    mesh.serves().await
}

/// A meshed pod whose application can see, and end, its proxy's process.
pub const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  shareProcessNamespace: true
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: 'nginx:1.27', ports: [{containerPort: 80}]}]
";

/// Makes the namespace strict, with `web` in it, and waits until a visitor is answered.
pub async fn strict_web(ns: &Namespace) -> anyhow::Result<()> {
    ns.apply(STRICT).await?;
    ns.apply(WEB).await?;
    visitor(ns).await?;
    ns.ready("web").await?;
    answers(ns, "visitor", "http://web/", 200).await.map(drop)
}

async fn traffic_goes_on_without_a_control_plane(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.meshed("headless").await?;
    strict_web(&ns).await?;

    let mesh = trial.mesh().await?;
    mesh.scale(0).await?;
    let without = restarted_proxy_serves(&ns).await;
    mesh.scale(1).await?;
    mesh.serves().await?;
    without?;

    // The one that is back is the same mesh: what it makes is believed by what was there before.
    ns.delete("pod", "visitor").await?;
    ns.delete("serviceaccount", "visitor").await?;
    visitor(&ns).await?;
    answers(&ns, "visitor", "http://web/", 200).await?;
    Ok(())
}

async fn restarted_proxy_serves(ns: &Namespace) -> anyhow::Result<()> {
    let (status, headers) = get(ns, "visitor", "http://web/").await?;
    anyhow::ensure!(status == 200, "{status} {headers}");
    let kill = format!("kill -9 $(pidof {PROXY})");
    let killed = ns.exec("web", "web", &["sh", "-c", &kill]).await?;
    anyhow::ensure!(killed.code == 0, "{}", killed.err());
    until("the proxy has been started again", async || {
        let pod = ns.object("pod", "web").await?;
        let proxy = container(&pod, PROXY);
        let again = proxy["restartCount"] == 1 && proxy["ready"] == true;
        Ok(Fact::when(again, proxy))
    })
    .await?;
    answers(ns, "visitor", "http://web/", 200).await.map(drop)
}
