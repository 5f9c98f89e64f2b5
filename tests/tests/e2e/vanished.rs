//! Clients that are gone without a word, as a machine is that lost its power: what they held is given back.

use anyhow::Context;
use weft_local::Running;
use weft_local::info::ExecRequest;
use weft_tests::fixture::{Fixture, TestMesh};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::shop;
use crate::streams::{self, speaks, start, stats};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(
            an_uploader_that_vanished_is_let_go_though_nobody_reads,
            mixed
        ),
        test!(a_proxy_that_vanished_is_let_go, mixed),
    ]
}

/// One client in the mesh and one outside; silence is asked about soon.
fn mixed() -> anyhow::Result<Fixture> {
    let yaml = shop::namespace("shop", true)
        + &streams::deployment("streams", 1)?
        + &streams::service("streams", "streams")
        + &shop::client("shop", "client", 1)
        + &shop::namespace("outside", false)
        + &shop::client("outside", "client", 1);
    let fixture = Fixture::new().file("shop.yaml", yaml);
    Ok(fixture.proxy_args(&["--keepalive", "2"]))
}

async fn open(mesh: &TestMesh) -> anyhow::Result<u64> {
    Ok(stats(mesh, "streams").await?["open"].as_u64().unwrap_or(0))
}

/// From here on no packet comes to the pod of the client in this namespace, and none leaves it.
async fn vanish(mesh: &TestMesh, namespace: &str) -> anyhow::Result<()> {
    let rules = "nft 'add table inet gone; add chain inet gone in { type filter hook input priority -300; }; \
                 add chain inet gone out { type filter hook output priority -300; }; \
                 add rule inet gone in iif != lo drop; add rule inet gone out oif != lo drop'";
    let from = format!("{namespace}/client");
    let output = mesh.run_in(&from, &["sh", "-c", rules]).await?;
    anyhow::ensure!(output.code == 0, "{}", output.err());
    Ok(())
}

/// Connections to the pod of the application that its proxy has open.
async fn connections(mesh: &TestMesh) -> anyhow::Result<u64> {
    let argv = [
        "curl",
        "-sS",
        "--max-time",
        "20",
        "http://127.0.0.1:15020/metrics",
    ];
    let metrics = mesh.run_in("shop/streams", &argv).await?.out();
    let name = "weft_connections_open{direction=\"inbound\"} ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.context("no such series")?.parse()?)
}

async fn let_go(mesh: &TestMesh, wanted: u64) -> anyhow::Result<()> {
    let gone = async || Ok(open(mesh).await? == wanted);
    mesh.until("the application is told who is gone", gone)
        .await
}

async fn an_uploader_that_vanished_is_let_go_though_nobody_reads(
    mesh: &TestMesh,
) -> anyhow::Result<()> {
    mesh.settled().await?;
    let poll = &["curl", "-sSN", "http://streams/hold"];
    let mut waiting = start(mesh, poll).await?;
    assert_eq!(speaks(&mut waiting).await?, "begun\n");
    let pod = mesh.pod("outside", "client").await?;
    let script = "exec curl -sSN -T - http://streams.shop/hold < <(yes)";
    let upload: Running = mesh
        .start(&ExecRequest {
            pod: Some(("outside".to_owned(), pod.name)),
            argv: ["bash", "-c", script].map(str::to_owned).to_vec(),
            ..ExecRequest::default()
        })
        .await?;
    let both = async || Ok(open(mesh).await? == 2 && connections(mesh).await? == 2);
    mesh.until("both are there", both).await?;
    vanish(mesh, "outside").await?;
    // The application, which does not read, cannot know: its proxy does.
    let one = async || Ok(connections(mesh).await? == 1);
    mesh.until("its connection is gone", one).await?;
    // Who is silent and there, is not let go: the long poll goes on.
    assert_eq!(
        mesh.status_of("shop/client", &["http://streams/"]).await?,
        200
    );
    assert_eq!(stats(mesh, "streams").await?["abandoned"], 0);
    drop(upload);
    drop(waiting);
    Ok(())
}

async fn a_proxy_that_vanished_is_let_go(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let mut held = Vec::new();
    // One is quiet, and to the other bytes are on their way.
    for path in ["hold", "endless"] {
        let url = format!("http://streams/{path}");
        let mut one = start(mesh, &["curl", "-sSN", "--limit-rate", "1M", &url]).await?;
        speaks(&mut one).await?;
        held.push(one);
    }
    assert_eq!(open(mesh).await?, 2);
    vanish(mesh, "shop").await?;
    let_go(mesh, 0).await
}
