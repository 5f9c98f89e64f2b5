//! What `weft inject` and `weft install` print, before a real API server and a real kubelet.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Context;
use serde_json::{Value, json};
use weft_certs::{AuthoritySettings, CertificateAuthority};
use weft_identity::TrustDomain;
use weft_tests::cluster::{Fact, Namespace, Trial, container, until, weft};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(the_api_server_takes_what_is_installed_and_injected),
        cluster_test!(an_application_does_not_start_before_its_proxy),
        cluster_test!(init_refuses_the_network_of_a_node),
    ]
}

async fn dry_run(ns: &Namespace, yaml: &str) -> anyhow::Result<()> {
    let strict = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ];
    let output = ns.run(&strict, yaml).await?;
    anyhow::ensure!(output.code == 0, "{}\n{yaml}", output.err());
    Ok(())
}

async fn the_api_server_takes_what_is_installed_and_injected(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.namespace("manifests", &[]).await?;
    let namespace = format!("namespace={}", ns.name);
    let manifests = weft(&["install", "--set", &namespace], "").await?;
    assert!(manifests.contains("kind: MutatingWebhookConfiguration"));
    // In no namespace of its own: some of these objects have one, some none.
    let kubectl = trial.cluster.kubectl();
    let args = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ];
    let output = kubectl.run(&args, &manifests).await?;
    assert_eq!(output.code, 0, "{}", output.err());

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../control-plane/inject/tests/golden");
    let mut seen = 0;
    for entry in std::fs::read_dir(golden)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".injected.yaml") {
            continue;
        }
        // Its namespace is that of a test here.
        let text = std::fs::read_to_string(&path)?.replace("  namespace: shop\n", "");
        let injected = weft(&["inject", "-f", "-"], &text).await?;
        assert!(injected.contains("weft-proxy"), "{}", path.display());
        dry_run(&ns, &injected).await?;
        dry_run(&ns, &weft(&["uninject", "-f", "-"], &injected).await?).await?;
        seen += 1;
    }
    assert!(seen >= 5, "{seen} workloads");
    Ok(())
}

/// A Deployment with everything that is rewritten.
const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: nginx:1.27
        ports: [{name: http, containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: http}}
";

/// Roots of a mesh that nobody runs.
fn roots() -> anyhow::Result<String> {
    let state = tempfile::tempdir()?;
    let settings = AuthoritySettings::new(TrustDomain::default());
    let authority = CertificateAuthority::open(state.path(), settings, SystemTime::now())?;
    Ok(authority.bundle().to_pem())
}

async fn an_application_does_not_start_before_its_proxy(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.namespace("waiting", &[]).await?;
    // Of a mesh that has no control plane: the proxy has no certificate, and is never ready.
    let trust = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "weft-trust"},
        "data": {"bundle.pem": roots()?},
    });
    ns.apply(&trust.to_string()).await?;
    let elsewhere = ["inject", "--set", "namespace=nowhere", "-f", "-"];
    ns.apply(&weft(&elsewhere, WEB).await?).await?;
    let pod = until(
        "the pod's traffic is led to a proxy that runs",
        async || {
            let pods = ns.list("pods", "app=web").await?;
            let [pod] = &pods[..] else {
                return Ok(Fact::NotYet(format!("{} pods", pods.len())));
            };
            let init = container(pod, "weft-init");
            let proxy = container(pod, "weft-proxy");
            let runs = init["state"]["terminated"]["exitCode"] == 0
                && proxy["state"]["running"].is_object();
            Ok(match runs {
                true => Fact::Is(pod.clone()),
                false => Fact::NotYet(pod["status"].to_string()),
            })
        },
    )
    .await?;
    assert_ne!(container(&pod, "weft-proxy")["started"], true);
    let web = container(&pod, "web");
    assert_eq!(
        web["state"]["waiting"]["reason"], "PodInitializing",
        "{web}"
    );
    let name = pod["metadata"]["name"].as_str().context("no name")?;
    until("the proxy says that redirection is in force", async || {
        let log = ns.logs(name, "weft-proxy").await?;
        Ok(Fact::when(
            log.contains("the pod's traffic is led here"),
            log,
        ))
    })
    .await?;
    // What it was given could be used: it is alone in want of a control plane.
    let pod = ns.object("pod", name).await?;
    let proxy = container(&pod, "weft-proxy");
    assert_eq!(proxy["restartCount"], 0, "{proxy}");
    Ok(())
}

async fn init_refuses_the_network_of_a_node(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.namespace("node", &[]).await?;
    let injected: Value = serde_saphyr::from_str(&weft(&["inject", "-f", "-"], WEB).await?)?;
    let template = &injected["spec"]["template"]["spec"];
    let mut init = template["initContainers"][0].clone();
    assert_eq!(init["name"], "weft-init");
    // Whatever it decides, it must not be able to change this node.
    let capabilities = init["securityContext"]["capabilities"].as_object_mut();
    capabilities.context("no capabilities")?.remove("add");
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "init"},
        "spec": {"hostNetwork": true, "restartPolicy": "Never", "containers": [init]},
    });
    ns.apply(&pod.to_string()).await?;
    let ended = until("init ends", async || {
        let pod = ns.object("pod", "init").await?;
        let ended = container(&pod, "weft-init")["state"]["terminated"].clone();
        Ok(match ended.is_object() {
            true => Fact::Is(ended),
            false => Fact::NotYet(pod["status"].to_string()),
        })
    })
    .await?;
    assert_eq!(ended["exitCode"], 1, "{ended}");
    let said = ended["message"].as_str().unwrap_or_default();
    assert!(said.contains("an address of the node"), "{said}");
    Ok(())
}
