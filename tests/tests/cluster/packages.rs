//! The chart and the base for kustomize, by Helm and kustomize themselves: they make what `weft install` prints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::process::Command;
use weft_tests::cluster::{ApiServer, Kubectl, Trial, weft};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(independent helm_makes_of_the_chart_what_weft_install_prints),
        cluster_test!(independent helm_refuses_values_that_cannot_be),
        cluster_test!(independent helm_uninstalls_and_leaves_what_people_wrote),
        cluster_test!(independent kustomize_makes_of_the_base_what_weft_install_prints),
    ]
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Helm, built if this machine has not got it yet.
async fn helm(args: &[&str]) -> anyhow::Result<Output> {
    helm_at(None, args).await
}

/// Helm, at the cluster of this file.
async fn helm_at(kubeconfig: Option<&Path>, args: &[&str]) -> anyhow::Result<Output> {
    let built = Command::new(project("tests/cluster/binaries"))
        .output()
        .await?;
    anyhow::ensure!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    let program = Path::new(String::from_utf8(built.stdout)?.trim_end()).join("helm");
    let home = tempfile::tempdir()?;
    let output = Command::new(program)
        .args(args)
        .env_clear()
        .env("HOME", home.path())
        .envs(kubeconfig.map(|path| ("KUBECONFIG", path)))
        .output();
    output.await.context("running helm")
}

/// `helm template` of the chart with these values.
async fn template(values: &Value) -> anyhow::Result<Output> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("values.json");
    std::fs::write(&file, values.to_string())?;
    let (chart, file) = (
        project("manifests/chart").display().to_string(),
        file.display().to_string(),
    );
    helm(&[
        "template",
        "weft",
        &chart,
        "--kube-version",
        "1.34",
        "--values",
        &file,
    ])
    .await
}

/// The objects of a stream, by kind, namespace and name.
fn objects(yaml: &str) -> anyhow::Result<BTreeMap<String, Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    let documents = documents.into_iter().filter(Value::is_object);
    let named = documents.map(|mut object| {
        same_numbers(&mut object);
        let metadata = &object["metadata"];
        (
            format!(
                "{} {} {}",
                object["kind"], metadata["namespace"], metadata["name"]
            ),
            object,
        )
    });
    Ok(named.collect())
}

/// `1.0` is `1`: kustomize writes numbers anew.
fn same_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => *value = json!(number.as_f64()),
        Value::Object(map) => map.values_mut().for_each(same_numbers),
        Value::Array(items) => items.iter_mut().for_each(same_numbers),
        _ => {}
    }
}

fn assert_same(made: &str, installed: &str) -> anyhow::Result<()> {
    let (made, installed) = (objects(made)?, objects(installed)?);
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&made), names(&installed));
    for (name, object) in &installed {
        assert_eq!(&made[name], object, "{name}");
    }
    Ok(())
}

/// `a.b` → `{"a": {"b": value}}`, for each.
fn nested(chosen: &[(&str, Value)]) -> Value {
    let mut all = json!({});
    for (key, value) in chosen {
        let mut at = &mut all;
        for step in key.split('.') {
            at = &mut at[step];
        }
        *at = value.clone();
    }
    all
}

/// As `--set` takes it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

async fn helm_makes_of_the_chart_what_weft_install_prints(_: &Trial) -> anyhow::Result<()> {
    let sets: [&[(&str, Value)]; 4] = [
        &[],
        &[
            ("namespace", json!("mesh")),
            ("createNamespace", json!(false)),
            ("crds", json!(false)),
            ("networkPolicies", json!(false)),
        ],
        &[
            ("image.registry", json!("registry.example:5000/weft")),
            ("image.tag", json!("1.2.3")),
            ("image.pullPolicy", json!("IfNotPresent")),
            ("controlPlane.replicas", json!(1)),
            ("controlPlane.log", json!("info,weft_xds=debug")),
            ("controlPlane.leafLifetime", json!("1h30m")),
            ("controlPlane.memoryLimit", json!("1Gi")),
            ("proxy.cpuLimit", json!("1")),
            ("proxy.memoryLimit", json!("")),
            ("proxy.log", json!("warn,weft_proxy=100%$HOME")),
            ("trustDomain", json!("example.org")),
        ],
        &[
            ("webhook.failurePolicy", json!("Ignore")),
            ("webhook.timeoutSeconds", json!(3)),
            (
                "webhook.apiServerCidrs",
                json!(["10.0.0.1/32", "fd00::1/128"]),
            ),
        ],
    ];
    for chosen in sets {
        let assignments: Vec<String> = chosen
            .iter()
            .map(|(key, value)| format!("{key}={}", text(value)))
            .collect();
        let flags = assignments.iter().flat_map(|one| ["--set", one.as_str()]);
        let args: Vec<&str> = ["install"].into_iter().chain(flags).collect();
        let installed = weft(&args, "").await?;
        let made = template(&nested(chosen)).await?;
        anyhow::ensure!(
            made.status.success(),
            "{assignments:?}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        assert_same(&String::from_utf8(made.stdout)?, &installed)?;
    }
    Ok(())
}

async fn helm_refuses_values_that_cannot_be(_: &Trial) -> anyhow::Result<()> {
    for (key, value) in [
        ("namespace", json!("Mesh")),
        ("controlPlane.replicas", json!(0)),
        ("controlPlane.leafLifetime", json!("1d")),
        ("image.pullPolicy", json!("Sometimes")),
        ("proxy.memoryLimit", json!("1 GB")),
        ("webhook.timeoutSeconds", json!(31)),
        ("webhook.failurePolicy", json!("fail")),
    ] {
        let refused = template(&nested(&[(key, value)])).await?;
        let said = String::from_utf8(refused.stderr)?;
        assert!(!refused.status.success(), "{key}");
        assert!(
            said.contains(&format!("at '/{}'", key.replace('.', "/"))),
            "{said}"
        );
    }
    let unknown = template(&json!({"controlPlane": {"replica": 1}})).await?;
    let said = String::from_utf8(unknown.stderr)?;
    assert!(
        said.contains("additional properties 'replica' not allowed"),
        "{said}"
    );
    Ok(())
}

/// What there is of the mesh, by kind and name: its objects and its CRDs.
async fn installed(kubectl: &Kubectl) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let kinds = "clusterrole,clusterrolebinding,mutatingwebhookconfiguration,\
        serviceaccount,role,rolebinding,service,deployment,networkpolicy,poddisruptionbudget";
    let names = async |kinds: &str, among: &str| {
        let found = kubectl.text(&["get", kinds, "-A", "-o", "name"]).await?;
        let names = found.lines().filter(|name| name.contains(among));
        anyhow::Ok(names.map(str::to_owned).collect::<Vec<_>>())
    };
    Ok((
        names(kinds, "/weft").await?,
        names("crd", "mesh.weft.dev").await?,
    ))
}

/// With an API server of its own: the suite's mesh has the same names.
async fn helm_uninstalls_and_leaves_what_people_wrote(_: &Trial) -> anyhow::Result<()> {
    let api = ApiServer::start().await?;
    let kubectl = api.kubectl();
    let release = async |args: &[&str]| {
        let output = helm_at(Some(kubectl.kubeconfig()), args).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "helm {args:?}: {said}");
        anyhow::Ok(())
    };
    let chart = project("manifests/chart").display().to_string();
    let own_namespace = ["--namespace=weft-system", "--create-namespace"];
    let install = [
        &["install", "weft", &chart, "--set=createNamespace=false"][..],
        &own_namespace,
    ]
    .concat();
    release(&install).await?;
    let (objects, crds) = installed(kubectl).await?;
    assert!(
        objects.len() >= 8 && crds.len() == 4,
        "{objects:?} {crds:?}"
    );

    let policy = json!({
        "apiVersion": "mesh.weft.dev/v1alpha1", "kind": "PeerAuthentication",
        "metadata": {"name": "ours"}, "spec": {"mtls": {"mode": "STRICT"}},
    });
    kubectl.text(&["create", "namespace", "shop"]).await?;
    let shop = kubectl.in_namespace("shop");
    shop.apply(&policy.to_string()).await?;
    let ours = async || {
        let ours = shop.object("peerauthentication", "ours").await?;
        anyhow::Ok((ours["metadata"]["uid"].clone(), ours["spec"].clone()))
    };
    let before = ours().await?;

    release(&["uninstall", "weft", own_namespace[0]]).await?;
    assert_eq!(installed(kubectl).await?, (Vec::new(), crds.clone()));
    assert_eq!(ours().await?, before);

    // And who comes back finds it there.
    release(&install).await?;
    assert_eq!(installed(kubectl).await?, (objects, crds));
    assert_eq!(ours().await?, before);
    Ok(())
}

async fn kustomize_makes_of_the_base_what_weft_install_prints(trial: &Trial) -> anyhow::Result<()> {
    let base = project("manifests/kustomize").display().to_string();
    let made = trial.cluster.kubectl().text(&["kustomize", &base]).await?;
    assert_same(&made, &weft(&["install"], "").await?)
}
