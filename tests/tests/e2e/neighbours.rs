//! What one client does on connections that it shares with others, the others do not notice.

use std::time::Duration;

use anyhow::Context;
use weft_local::info::ExecRequest;
use weft_tests::fixture::{Fixture, TestMesh, program};
use weft_tests::load::{Report, STOP_FILE};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::mesh::shop_yaml;
use crate::shop;

/// Requests a second that a neighbour makes.
const RATE: u32 = 50;
/// Requests that it has made at least while it was disturbed.
const LEAST: u64 = 200;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(alone nobody_notices_a_client_that_leaves_with_256_streams, meshed),
        test!(alone nobody_notices_a_reader_that_stalls, meshed),
        test!(alone nobody_notices_an_endless_upload, meshed),
    ]
}

fn meshed() -> anyhow::Result<Fixture> {
    Ok(Fixture::new()
        .file("shop.yaml", shop_yaml()?)
        .file("strict.yaml", shop::strict("shop")))
}

/// Runs `script` in the client pod while another program of that pod, on the same proxy and the
/// same hops, goes on with its requests. The script's own requests that reach the application are
/// `requests` at least.
async fn disturb(mesh: &TestMesh, script: &str, requests: u64) -> anyhow::Result<()> {
    mesh.settled().await?;
    let before = served(mesh).await?;
    let pod = mesh.pod("shop", "client").await?;
    let argv = [
        &program("weft-load")?,
        "--url",
        "http://web/",
        "--rate",
        &RATE.to_string(),
    ];
    let request = ExecRequest {
        pod: Some(("shop".to_owned(), pod.name.clone())),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        ..ExecRequest::default()
    };
    let neighbour = mesh.start(&request).await?;
    let script = format!("{script}; true");
    let argv = ["bash", "-c", &script];
    let disturbance = mesh.exec("shop", &pod.name, &argv);
    let long_enough = tokio::time::sleep(Duration::from_secs(LEAST / u64::from(RATE) + 2));
    let (done, ()) = tokio::join!(disturbance, long_enough);
    done?;
    mesh.exec("shop", &pod.name, &["touch", STOP_FILE]).await?;
    let output = neighbour.output().await?;
    let report: Report = serde_json::from_slice(&output.stdout)?;
    anyhow::ensure!(
        report.failures.is_empty() && report.good == report.sent && report.sent >= LEAST,
        "{} of {} good: {:#?}",
        report.good,
        report.sent,
        report.failures.iter().take(5).collect::<Vec<_>>()
    );
    let disturbing = served(mesh).await? - before - report.sent;
    anyhow::ensure!(
        disturbing > requests,
        "only {disturbing} requests disturbed"
    );
    Ok(())
}

/// How many requests the application has seen.
async fn served(mesh: &TestMesh) -> anyhow::Result<u64> {
    let answer = mesh.echo("shop/client", &["http://web/"]).await?;
    answer["number"].as_u64().context("the echo does not count")
}

async fn nobody_notices_a_client_that_leaves_with_256_streams(
    mesh: &TestMesh,
) -> anyhow::Result<()> {
    let leave = "timeout -s KILL 1 h2load -c1 -m256 -n100000 http://web/delay/3000 >/dev/null 2>&1";
    disturb(mesh, &[leave; 4].join("; "), 4 * 256).await
}

async fn nobody_notices_a_reader_that_stalls(mesh: &TestMesh) -> anyhow::Result<()> {
    let stall = "(exec 3<>/dev/tcp/web/80; \
                 printf 'GET /bytes/50000000 HTTP/1.1\\r\\nhost: web\\r\\n\\r\\n' >&3; sleep 6) &";
    disturb(mesh, &format!("{} wait", [stall; 8].join(" ")), 8).await
}

async fn nobody_notices_an_endless_upload(mesh: &TestMesh) -> anyhow::Result<()> {
    let upload = "(timeout 6 curl -sS -T - http://web/upload </dev/zero >/dev/null 2>&1) &";
    disturb(mesh, &format!("{} wait", [upload; 2].join(" ")), 2).await
}
