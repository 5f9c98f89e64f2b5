//! Two releases side by side, as during every upgrade: proxies of the release before with this control
//! plane, and the other way round. `tests/previous-release` says which one that is.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use weft_local::info::ControlPlaneOrder;
use weft_tests::fixture::{Fixture, LIMIT, TestMesh, program};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::mesh::two_versions;
use crate::shop;
use crate::under_load::{judge, load, weights};

const CONTROL_PLANE: &str = "weft-control-plane";
const PROXY: &str = "weft-proxy";

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(this_control_plane_leads_older_proxies, older_proxies),
        test!(
            these_proxies_follow_an_older_control_plane,
            older_control_plane
        ),
        test!(alone nothing_fails_while_the_control_plane_is_upgraded_and_rolled_back, upgrade),
    ]
}

/// The folder with the programs of the release before; built if they have never been.
fn before() -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/previous-release");
    let output = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .context("running tests/scripts/previous-release")?;
    anyhow::ensure!(
        output.status.success(),
        "tests/scripts/previous-release failed"
    );
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

fn shop() -> anyhow::Result<Fixture> {
    let yaml = two_versions()? + &shop::client("shop", "client", 4);
    Ok(Fixture::new()
        .file("shop.yaml", yaml)
        .file("route.yaml", weights(100, 0))
        .file("strict.yaml", shop::strict("shop")))
}

fn older_proxies() -> anyhow::Result<Fixture> {
    Ok(shop()?.proxy(before()?.join(PROXY)))
}

fn older_control_plane() -> anyhow::Result<Fixture> {
    Ok(shop()?.control_plane(before()?.join(CONTROL_PLANE)))
}

async fn this_control_plane_leads_older_proxies(mesh: &TestMesh) -> anyhow::Result<()> {
    works(mesh).await
}

async fn these_proxies_follow_an_older_control_plane(mesh: &TestMesh) -> anyhow::Result<()> {
    works(mesh).await
}

/// Identity, routing and authorization, each of them changed while proxies run.
async fn works(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let answer = mesh.echo("shop/client", &["http://web/"]).await?;
    assert_eq!(answer["version"], "v1");
    mesh.save("route.yaml", &weights(0, 100), "HTTPRoute", "shop", "web")
        .await?;
    let answer = mesh.echo("shop/client", &["http://web/"]).await?;
    assert_eq!(answer["version"], "v2");
    let deny = "
apiVersion: mesh.weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: no-clients, namespace: shop}
spec:
  action: DENY
  rules: [{from: [{serviceAccounts: [client]}], to: [{paths: [/closed]}]}]
";
    mesh.save(
        "deny.yaml",
        deny,
        "AuthorizationPolicy",
        "shop",
        "no-clients",
    )
    .await?;
    let status = async |path: &str| {
        let url = format!("http://web{path}");
        mesh.status_of("shop/client", &[&url]).await
    };
    assert_eq!(status("/closed").await?, 403);
    assert_eq!(status("/open").await?, 200);
    Ok(())
}

/// The link that the control plane is started by.
fn installed() -> PathBuf {
    std::env::temp_dir().join(format!("weft-e2e-skew-{}", std::process::id()))
}

/// Puts another program behind the link, in one step.
fn install(program: &Path) -> anyhow::Result<()> {
    let link = installed();
    let new = link.with_extension("new");
    symlink(program, &new)?;
    Ok(std::fs::rename(new, link)?)
}

fn upgrade() -> anyhow::Result<Fixture> {
    let before = before()?;
    install(&before.join(CONTROL_PLANE))?;
    Ok(shop()?.control_plane(installed()).proxy(before.join(PROXY)))
}

async fn nothing_fails_while_the_control_plane_is_upgraded_and_rolled_back(
    mesh: &TestMesh,
) -> anyhow::Result<()> {
    let outcome = upgrade_and_roll_back(mesh).await;
    std::fs::remove_file(installed())?;
    outcome
}

async fn upgrade_and_roll_back(mesh: &TestMesh) -> anyhow::Result<()> {
    let load = load(mesh).await?;
    let before = before()?.join(CONTROL_PLANE);
    let this = PathBuf::from(program(CONTROL_PLANE)?);
    for (release, share) in [(&this, 100), (&before, 0)] {
        install(release)?;
        restart(mesh).await?;
        let route = weights(100 - share, share);
        mesh.save("route.yaml", &route, "HTTPRoute", "shop", "web")
            .await?;
    }
    let report = judge(load).await?;
    assert_eq!(report.by_version.len(), 2, "{:?}", report.by_version);
    Ok(())
}

/// Another control plane, of the release behind the link, that all proxies stream from.
async fn restart(mesh: &TestMesh) -> anyhow::Result<()> {
    let old = mesh.status().await?.control_plane_pid;
    mesh.control_plane(ControlPlaneOrder::Kill).await?;
    mesh.wait_for(LIMIT, "running another control plane", |status| {
        status.control_plane_pid.is_some() && status.control_plane_pid != old
    })
    .await?;
    mesh.connected().await
}
