//! One machine as a cluster, without a mesh: what `weft up` does for any Deployment.

use std::collections::BTreeSet;

use weft_tests::fixture::{Fixture, LIMIT, TestMesh};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::shop;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(services_have_names_addresses_and_endpoints, plain),
        test!(a_service_is_published_on_the_hosts_loopback, published),
        test!(a_deployment_is_rolled_over_and_scaled, plain),
        test!(a_crashed_container_is_started_again, plain),
        test!(nginx_runs_as_any_tutorial_has_it, nginx),
    ]
}

fn plain() -> anyhow::Result<Fixture> {
    let yaml = shop::namespace("shop", false)
        + &shop::echo("shop", "web", "v1", 3)?
        + &shop::client("shop", "client", 1);
    Ok(Fixture::new()
        .file("shop.yaml", yaml)
        .without_control_plane())
}

fn published() -> anyhow::Result<Fixture> {
    Ok(plain()?.publish("0=shop/web:80"))
}

async fn services_have_names_addresses_and_endpoints(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    for name in [
        "web",
        "web.shop",
        "web.shop.svc",
        "web.shop.svc.cluster.local",
    ] {
        let answer = mesh
            .echo("shop/client", &[&format!("http://{name}/")])
            .await?;
        assert_eq!(answer["version"], "v1", "{name}");
    }
    let answer = mesh.echo("shop/client", &["-6", "http://web/"]).await?;
    assert!(
        answer["peer"]
            .as_str()
            .unwrap_or_default()
            .starts_with("[fd00:10:244:"),
        "{answer}"
    );
    let mut seen = BTreeSet::new();
    for _ in 0..40 {
        let answer = mesh.echo("shop/client", &["http://web/"]).await?;
        seen.insert(answer["pod"].to_string());
    }
    assert_eq!(seen.len(), 3, "every pod gets its share: {seen:?}");
    let unknown = mesh.curl("shop/client", &["http://nobody/"]).await?;
    assert_eq!(
        unknown.code,
        6,
        "curl says that the name does not exist: {}",
        unknown.err()
    );
    // A pod reaches itself through its own Service, too.
    let own = mesh.pods_of("shop", "web").await?;
    for pod in &own {
        for _ in 0..10 {
            let output = mesh
                .exec("shop", &pod.name, &["curl", "-sS", "-m5", "http://web/"])
                .await?;
            assert_eq!(output.code, 0, "{}", output.err());
        }
    }
    Ok(())
}

async fn a_service_is_published_on_the_hosts_loopback(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let url = format!("http://{}/", mesh.published()[0]);
    let output = tokio::process::Command::new("curl")
        .args(["-sS", "-m5", &url])
        .output()
        .await?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(answer["version"], "v1");
    Ok(())
}

async fn a_deployment_is_rolled_over_and_scaled(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let before = addresses(mesh).await?;
    let yaml = |version, replicas| {
        anyhow::Ok(
            shop::namespace("shop", false)
                + &shop::echo("shop", "web", version, replicas)?
                + &shop::client("shop", "client", 1),
        )
    };
    mesh.write("shop.yaml", &yaml("v2", 3)?)?;
    mesh.wait_for(LIMIT, "rolled over", |status| {
        status.settled
            && status
                .pods
                .iter()
                .all(|pod| pod.labels.get("version") != Some(&"v1".to_owned()))
    })
    .await?;
    let after = addresses(mesh).await?;
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");
    mesh.write("shop.yaml", &yaml("v2", 1)?)?;
    mesh.wait_for(LIMIT, "scaled down", |status| {
        status.settled && status.pods.len() == 2
    })
    .await?;
    mesh.restart("shop", "web").await?;
    mesh.wait_for(LIMIT, "restarted", |status| {
        status.settled
            && status.pods.iter().all(|pod| {
                !after.contains(&pod.ips[0]) || pod.deployment.as_deref() == Some("client")
            })
    })
    .await?;
    assert_eq!(
        mesh.echo("shop/client", &["http://web/"]).await?["version"],
        "v2"
    );
    Ok(())
}

async fn addresses(mesh: &TestMesh) -> anyhow::Result<BTreeSet<std::net::IpAddr>> {
    Ok(mesh
        .pods_of("shop", "web")
        .await?
        .iter()
        .map(|pod| pod.ips[0])
        .collect())
}

async fn a_crashed_container_is_started_again(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let pod = mesh.pod("shop", "web").await?;
    let signal = weft_local::info::SignalName::Kill;
    mesh.signal("shop", &pod.name, "echo", signal).await?;
    mesh.wait_for(LIMIT, "started again", |status| {
        let same = status.pods.iter().find(|other| other.uid == pod.uid);
        status.settled && same.is_some_and(|same| same.containers["echo"].restarts == 1)
    })
    .await?;
    Ok(())
}

fn nginx() -> anyhow::Result<Fixture> {
    let yaml = shop::namespace("default", false)
        + &shop::client("default", "client", 1)
        + "
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: nginx-deployment
  labels: {app: nginx}
spec:
  replicas: 3
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      containers:
      - name: nginx
        image: nginx:1.14.2
        ports: [{containerPort: 80}]
        volumeMounts: [{name: page, mountPath: /usr/share/nginx/html}]
      volumes: [{name: page, configMap: {name: page}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: page}
data: {index.html: hello from a ConfigMap}
---
apiVersion: v1
kind: Service
metadata: {name: nginx}
spec:
  selector: {app: nginx}
  ports: [{port: 80}]
";
    Ok(Fixture::new()
        .file("nginx.yaml", yaml)
        .without_control_plane())
}

async fn nginx_runs_as_any_tutorial_has_it(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    // Without a readiness probe a pod is ready before nginx listens; curl says when it does.
    let output = mesh
        .curl(
            "default/client",
            &[
                "--retry",
                "20",
                "--retry-connrefused",
                "--retry-delay",
                "1",
                "http://nginx/",
            ],
        )
        .await?;
    assert_eq!(output.out(), "hello from a ConfigMap", "{}", output.err());
    Ok(())
}
