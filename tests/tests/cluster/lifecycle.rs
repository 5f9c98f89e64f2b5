//! A mesh that is changed, looked into and taken away again by the person's tool.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::process::Command;
use weft_tests::cluster::{Fact, Kubectl, Mesh, TOOLS, Trial, client, run_weft, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(disruptive an_upgrade_keeps_what_was_chosen_and_says_what_it_changes),
        cluster_test!(a_diagnosis_has_everything_but_secrets),
        cluster_test!(disruptive what_was_installed_and_made_goes_with_the_mesh),
    ]
}

const VERSION: &str = "app.kubernetes.io/version";

/// `weft` for the cluster: exit code, output and errors as one text.
async fn tool(kubectl: &Kubectl, args: &[&str]) -> anyhow::Result<(i32, String)> {
    let kubeconfig = kubectl.kubeconfig().display().to_string();
    let output = run_weft(&[args, &["--kubeconfig", &kubeconfig]].concat(), "").await?;
    Ok((output.code, output.out() + &output.err()))
}

async fn deployment(system: &Kubectl) -> anyhow::Result<Value> {
    let args = [
        "get",
        "deployment",
        "weft-control-plane",
        "--show-managed-fields",
    ];
    system.json(&args).await
}

async fn an_upgrade_keeps_what_was_chosen_and_says_what_it_changes(
    trial: &Trial,
) -> anyhow::Result<()> {
    let mesh = trial.mesh().await?;
    let kubectl = trial.cluster.kubectl();
    let before = deployment(&mesh.system).await?;

    let (code, said) = tool(
        kubectl,
        &[
            "upgrade",
            "--dry-run",
            "--set",
            "controlPlane.memoryRequest=100Mi",
        ],
    )
    .await?;
    assert_eq!(code, 0, "{said}");
    let change = "~ spec.template.spec.containers[control-plane].resources.requests.memory: \"128Mi\" → \"100Mi\"";
    assert!(
        said.contains(change) && said.contains("1 object would change"),
        "{said}"
    );
    assert_eq!(
        deployment(&mesh.system).await?["metadata"]["generation"],
        before["metadata"]["generation"]
    );

    // The suite has chosen one replica, which is not what an installation has by itself.
    let (code, said) = tool(kubectl, &["upgrade"]).await?;
    assert_eq!(code, 0, "{said}");
    let after = deployment(&mesh.system).await?;
    assert_eq!(after["spec"], before["spec"], "{said}");
    assert_eq!(after["spec"]["replicas"], 1);
    let owners = after["metadata"]["managedFields"]
        .as_array()
        .context("no owners")?;
    assert!(
        owners
            .iter()
            .any(|one| one["manager"] == "weft" && one["operation"] == "Apply"),
        "{owners:?}"
    );
    assert!(
        !owners
            .iter()
            .any(|one| one["manager"] == "kubectl-client-side-apply"),
        "{owners:?}"
    );
    // The bundle that the control plane wrote is not the installation's to take away.
    mesh.serves().await?;

    let (code, said) = far_from_the_tool(kubectl, &mesh.system).await?;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("more than a minor version away"), "{said}");
    Ok(())
}

/// What an upgrade says to a control plane of another age.
async fn far_from_the_tool(kubectl: &Kubectl, system: &Kubectl) -> anyhow::Result<(i32, String)> {
    let label = async |version: &str| {
        let label = format!("{VERSION}={version}");
        let args = [
            "label",
            "--overwrite",
            "deployment",
            "weft-control-plane",
            &label,
        ];
        system.text(&args).await.map(drop)
    };
    label("9.9.0").await?;
    let skipped = tool(kubectl, &["upgrade"]).await;
    label(env!("CARGO_PKG_VERSION")).await?;
    skipped
}

async fn a_diagnosis_has_everything_but_secrets(trial: &Trial) -> anyhow::Result<()> {
    const SECRET: &str = "correct-horse-battery-staple";
    let ns = trial.meshed("diagnosed").await?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"}, "stringData": {"it": SECRET},
    });
    ns.apply(&secret.to_string()).await?;
    let environment = json!([{"name": "PASSWORD", "value": SECRET}]);
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "careless"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "it", "image": TOOLS, "command": ["sleep", "infinity"], "env": environment}],
        },
    });
    // As people do it, which keeps all of it in an annotation once more.
    let applied = ns.run(&["apply", "-f", "-"], &pod.to_string()).await?;
    assert_eq!(applied.code, 0, "{}", applied.err());
    ns.ready("careless").await?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bundle.tar.gz");
    let path = file.display().to_string();
    let (code, said) = tool(trial.cluster.kubectl(), &["diagnose", "--file", &path]).await?;
    assert_eq!(code, 0, "{said}");
    let names = tar(&file, "-tzf").await?;
    for expected in [
        "weft-diagnose/check.json",
        "weft-diagnose/objects/pods.json",
        "weft-diagnose/control-plane/weft-control-plane-",
        &format!("weft-diagnose/proxies/{}.careless.config.json", ns.name),
        &format!("weft-diagnose/proxies/{}.careless.weft-proxy.log", ns.name),
    ] {
        assert!(names.contains(expected), "{expected} is not in\n{names}");
    }
    let content = tar(&file, "-xOzf").await?;
    // Named, and yet without its content, plain or encoded.
    assert!(
        content.contains("\"name\": \"password\"") && content.contains("\"name\": \"PASSWORD\"")
    );
    let encoded = ns
        .text(&["get", "secret", "password", "-o", "jsonpath={.data.it}"])
        .await?;
    let system = trial.mesh().await?.system.clone();
    let authority = system
        .text(&[
            "get",
            "secret",
            "weft-ca",
            "-o",
            "jsonpath={.data.ca\\.json}",
        ])
        .await?;
    assert!(encoded.len() > 20 && authority.len() > 100);
    for hidden in [
        SECRET,
        encoded.as_str(),
        authority.as_str(),
        "PRIVATE KEY-----",
    ] {
        assert!(!content.contains(hidden), "{hidden}");
    }
    assert!(!content.contains("eyJhbGciOi"), "a token");
    Ok(())
}

/// What `tar` says of the file.
async fn tar(file: &Path, what: &str) -> anyhow::Result<String> {
    let output = Command::new("tar").arg(what).arg(file).output().await?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

async fn what_was_installed_and_made_goes_with_the_mesh(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.meshed("leaving").await?;
    ns.apply(&client("meshed", None)).await?;
    ns.ready("meshed").await?;
    let kubectl = trial.cluster.kubectl();
    let (code, said) = tool(kubectl, &["uninstall"]).await?;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("{}/meshed", ns.name)), "{said}");

    ns.delete("pod", "meshed").await?;
    let mesh = trial.mesh().await?;
    let gone = uninstalled(kubectl).await;
    // Others need it after this test, whatever came of it.
    Mesh::apply(kubectl).await?;
    mesh.serves().await?;
    gone?;
    until("the namespace has trust anchors again", async || {
        let anchors = ns.find("configmap", "weft-trust").await?;
        Ok(Fact::when(anchors.is_some(), "it has none"))
    })
    .await?;
    // The nodes learn of the new Service's address a moment later.
    until("a pod is let in by the new webhook", async || {
        let made = ns
            .run(&["apply", "-f", "-"], &client("again", None))
            .await?;
        Ok(Fact::when(made.code == 0, made.err()))
    })
    .await?;
    ns.ready("again").await.map(drop)
}

async fn uninstalled(kubectl: &Kubectl) -> anyhow::Result<()> {
    // Pods of tests before this one may still be on their way.
    let listed = until("no pod has a proxy", async || {
        let (code, said) = tool(kubectl, &["uninstall", "--dry-run"]).await?;
        Ok(match code {
            0 => Fact::Is(said),
            _ => Fact::NotYet(said),
        })
    })
    .await?;
    assert!(
        listed.contains("would delete Secret weft-system/weft-ca\n"),
        "{listed}"
    );
    let webhook = kubectl
        .find("mutatingwebhookconfiguration", "weft-injector")
        .await?;
    anyhow::ensure!(webhook.is_some(), "a dry run deletes nothing");

    let (code, said) = tool(kubectl, &["uninstall"]).await?;
    anyhow::ensure!(code == 0, "{said}");
    until("the namespace is gone", async || {
        let found = kubectl.find("namespace", "weft-system").await?;
        Ok(Fact::when(found.is_none(), format!("{found:?}")))
    })
    .await?;
    for kind in [
        "mutatingwebhookconfiguration",
        "clusterrole",
        "clusterrolebinding",
    ] {
        let left = kubectl.list(kind, "app.kubernetes.io/part-of=weft").await?;
        anyhow::ensure!(left.is_empty(), "{left:?}");
    }
    let maps = kubectl
        .json(&[
            "get",
            "configmap",
            "-A",
            "--field-selector=metadata.name=weft-trust",
        ])
        .await?;
    anyhow::ensure!(maps["items"] == json!([]), "{maps}");
    let crd = kubectl.find("crd", "trafficpolicies.mesh.weft.dev").await?;
    anyhow::ensure!(crd.is_some(), "CRDs stay");
    Ok(())
}
