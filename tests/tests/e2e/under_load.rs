//! Nothing failed: replicas roll over, the control plane dies, certificates and the root rotate, a
//! route changes its weights, all while requests go on at a fixed rate.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;
use weft_local::info::ControlPlaneOrder;
use weft_tests::fixture::{Fixture, LIMIT, TestMesh};
use weft_tests::load::{Load, LocalPods, Report, Target};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::mesh::two_versions;
use crate::shop;

/// Requests a second, all clients together.
const RATE: u32 = 400;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(alone nothing_fails_while_replicas_roll_over, shop),
        test!(alone nothing_fails_while_the_control_plane_is_killed, shop),
        test!(alone nothing_fails_while_weights_change_twenty_times, versions),
        test!(alone nothing_fails_while_certificates_and_the_root_rotate, short_lived),
    ]
}

fn shop() -> anyhow::Result<Fixture> {
    let yaml = shop::namespace("shop", true)
        + &shop::echo("shop", "web", "v1", 3)?
        + &shop::client("shop", "client", 4);
    Ok(Fixture::new()
        .file("shop.yaml", yaml)
        .file("strict.yaml", shop::strict("shop")))
}

fn versions() -> anyhow::Result<Fixture> {
    let yaml = two_versions()? + &shop::client("shop", "client", 4);
    Ok(Fixture::new()
        .file("shop.yaml", yaml)
        .file("route.yaml", weights(100, 0)))
}

fn short_lived() -> anyhow::Result<Fixture> {
    Ok(shop()?.control_plane_args(&["--leaf-lifetime", "20s"]))
}

/// Load on `http://web/` from all client pods.
pub async fn load(mesh: &TestMesh) -> anyhow::Result<Load<LocalPods>> {
    mesh.settled().await?;
    let pods: Vec<String> = mesh
        .pods_of("shop", "client")
        .await?
        .into_iter()
        .map(|pod| pod.name)
        .collect();
    let place = LocalPods {
        client: weft_local::Client::clone(mesh),
        namespace: "shop".to_owned(),
    };
    let target = Target {
        url: "http://web/",
        rate: RATE,
        expect: None,
    };
    Load::start(place, &pods, target).await
}

pub async fn judge(load: Load<LocalPods>) -> anyhow::Result<Report> {
    let report = load.finish().await?;
    report.nothing_failed()?;
    Ok(report)
}

async fn nothing_fails_while_replicas_roll_over(mesh: &TestMesh) -> anyhow::Result<()> {
    let load = load(mesh).await?;
    let addresses = |pods: Vec<weft_local::info::PodInfo>| -> BTreeSet<_> {
        pods.into_iter().flat_map(|pod| pod.ips).collect()
    };
    let before = addresses(mesh.pods_of("shop", "web").await?);
    mesh.restart("shop", "web").await?;
    mesh.wait_for(3 * LIMIT, "rolled over", |status| {
        let web = status
            .pods
            .iter()
            .filter(|pod| pod.deployment.as_deref() == Some("web"));
        status.settled && web.flat_map(|pod| &pod.ips).all(|ip| !before.contains(ip))
    })
    .await?;
    let after = addresses(mesh.pods_of("shop", "web").await?);
    assert!(
        before.is_disjoint(&after) && after.len() == 6,
        "{before:?} {after:?}"
    );
    let report = judge(load).await?;
    assert_eq!(
        report.by_pod.len(),
        6,
        "old and new pods answered: {:?}",
        report.by_pod
    );
    Ok(())
}

async fn nothing_fails_while_the_control_plane_is_killed(mesh: &TestMesh) -> anyhow::Result<()> {
    let load = load(mesh).await?;
    let before = mesh.status().await?.control_plane_pid;
    mesh.control_plane(ControlPlaneOrder::Kill).await?;
    let after = mesh
        .wait_for(LIMIT, "running another control plane", |status| {
            status.control_plane_pid.is_some() && status.control_plane_pid != before
        })
        .await?;
    assert_ne!(after.control_plane_pid, before);
    mesh.connected().await?;
    judge(load).await?;
    Ok(())
}

pub fn weights(v1: u32, v2: u32) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: web, port: 80}}]
  rules:
  - backendRefs:
    - {{name: web-v1, port: 80, weight: {v1}}}
    - {{name: web-v2, port: 80, weight: {v2}}}
"
    )
}

async fn nothing_fails_while_weights_change_twenty_times(mesh: &TestMesh) -> anyhow::Result<()> {
    let load = load(mesh).await?;
    for step in 1..=20u32 {
        let share = step * 5;
        mesh.save(
            "route.yaml",
            &weights(100 - share, share),
            "HTTPRoute",
            "shop",
            "web",
        )
        .await?;
        let got = share_of_v2(mesh, 200).await?;
        let tolerance = 15.0;
        assert!(
            (got - f64::from(share)).abs() <= tolerance,
            "step {step}: {got} % instead of {share} %"
        );
    }
    let report = judge(load).await?;
    assert_eq!(report.by_version.len(), 2, "{:?}", report.by_version);
    Ok(())
}

/// Percent of so many calls from one client that version v2 answered.
async fn share_of_v2(mesh: &TestMesh, count: u32) -> anyhow::Result<f64> {
    let url = format!("http://web/[1-{count}]");
    let output = mesh
        .curl("shop/client", &["--max-time", "60", &url])
        .await?;
    let v2 = output
        .out()
        .lines()
        .filter(|line| line.contains("\"version\":\"v2\""))
        .count();
    Ok(100.0 * f64::from(u32::try_from(v2)?) / f64::from(count))
}

async fn nothing_fails_while_certificates_and_the_root_rotate(
    mesh: &TestMesh,
) -> anyhow::Result<()> {
    let load = load(mesh).await?;
    let pods: Vec<_> = mesh
        .status()
        .await?
        .pods
        .into_iter()
        .filter(|pod| pod.meshed)
        .collect();
    let mut serials: Vec<BTreeSet<String>> = vec![BTreeSet::new(); pods.len()];
    let deadline = Instant::now() + 2 * LIMIT;
    let mut rotation = None;
    while serials.iter().any(|seen| seen.len() < 3) || rotation.as_deref() != Some("done") {
        for (pod, seen) in pods.iter().zip(&mut serials) {
            let (_, body) = mesh
                .proxy_admin(&pod.namespace, &pod.name, Method::GET, "/config")
                .await?;
            let config: serde_json::Value = serde_json::from_slice(&body)?;
            seen.extend(config["certificate"]["serial"].as_str().map(str::to_owned));
        }
        let method = if rotation.is_none() {
            Method::POST
        } else {
            Method::GET
        };
        let (status, body) = mesh
            .control_plane_admin_request(method, "/v1/rotate-root")
            .await?;
        anyhow::ensure!(
            (200..300).contains(&status),
            "rotating the root: {status} {body}"
        );
        let answer: serde_json::Value = serde_json::from_str(&body)?;
        let stable = answer["phase"] == "stable";
        rotation = Some(
            if rotation.is_some() && stable {
                "done"
            } else {
                "going on"
            }
            .to_owned(),
        );
        anyhow::ensure!(
            Instant::now() < deadline,
            "serials {serials:?}, rotation {body}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    judge(load).await?;
    Ok(())
}
