//! What one client does on connections that it shares with others, the others do not notice.

use serde_json::json;
use weft_local::Running;
use weft_tests::fixture::{Fixture, TestMesh, program};
use weft_tests::load::{Report, STOP_FILE};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::streams::{self, memory_is_bounded, speaks, start, stats};

/// Requests a second that the neighbour with HTTP/1.1 makes.
const RATE: &str = "50";
/// Requests that it has made at least while it was disturbed.
const LEAST: u64 = 100;
/// Requests of the neighbour with HTTP/2.
const MULTIPLEXED: &str = "1000";
/// Requests a second of each of its two connections.
const MULTIPLEXED_RATE: &str = "--rps=150";
/// Streams that one client opens.
const STREAMS: u64 = 256;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(alone nobody_notices_a_client_that_leaves_with_256_streams, meshed),
        test!(alone nobody_notices_readers_that_stall, meshed),
        test!(alone nobody_notices_an_endless_upload, meshed),
    ]
}

fn meshed() -> anyhow::Result<Fixture> {
    Ok(Fixture::new().file("shop.yaml", streams::shop_yaml()?))
}

/// Other programs of the client's pod: they share its proxy and its hops.
struct Neighbours {
    steady: Running,
}

impl Neighbours {
    async fn start(mesh: &TestMesh) -> anyhow::Result<Self> {
        let load = program("weft-load")?;
        let url = "http://streams/stats";
        let argv = [&load, "--url", url, "--rate", RATE];
        Ok(Self {
            steady: start(mesh, &argv).await?,
        })
    }

    /// Many requests on HTTP/2 connections, and the end of the steady ones: all were answered.
    async fn were_undisturbed(self, mesh: &TestMesh) -> anyhow::Result<()> {
        let argv = ["h2load", "-n", MULTIPLEXED, "-c2", "-m8", MULTIPLEXED_RATE];
        let argv = [&argv[..], &["http://streams/stats"]].concat();
        let output = mesh.run_in("shop/client", &argv).await?;
        let good = format!("status codes: {MULTIPLEXED} 2xx");
        anyhow::ensure!(output.out().contains(&good), "{}", output.out());
        mesh.run_in("shop/client", &["touch", STOP_FILE]).await?;
        let output = self.steady.output().await?;
        let report: Report = serde_json::from_slice(&output.stdout)?;
        anyhow::ensure!(
            report.failures.is_empty() && report.good == report.sent && report.sent >= LEAST,
            "{} of {} good: {:#?}",
            report.good,
            report.sent,
            report.failures.iter().take(5).collect::<Vec<_>>()
        );
        memory_is_bounded(mesh, &["client", "streams"]).await
    }
}

async fn nobody_notices_a_client_that_leaves_with_256_streams(
    mesh: &TestMesh,
) -> anyhow::Result<()> {
    mesh.settled().await?;
    let neighbours = Neighbours::start(mesh).await?;
    let mut left = 0;
    for how in ["reset", "leave", "reset", "leave"] {
        let count = STREAMS.to_string();
        let args = ["abandon", "streams:80", "/hold", &count, how];
        let said = streams::caller(mesh, &args).await?;
        assert_eq!(said[0], json!({"opened": STREAMS}), "{how}");
        if how == "reset" {
            assert_eq!(said[1], json!({"after": 200}), "the connection goes on");
        }
        left += STREAMS;
        // The application is told, of each stream.
        let told = async || {
            let stats = stats(mesh, "streams").await?;
            Ok(stats["open"] == 0 && stats["abandoned"] == left)
        };
        mesh.until("the application knows who left", told).await?;
    }
    // They were streams, not connections.
    let hops = hops(mesh).await?;
    assert!((1..=16).contains(&hops), "{hops} connections to the peer");
    neighbours.were_undisturbed(mesh).await
}

/// Connections of the client's pod to the application's pod.
async fn hops(mesh: &TestMesh) -> anyhow::Result<usize> {
    let server = mesh.pod("shop", "streams").await?;
    let mut count = 0;
    for ip in &server.ips {
        let ip = ip.to_string();
        let argv = ["ss", "-Htn", "state", "established", "dst", &ip];
        count += mesh
            .run_in("shop/client", &argv)
            .await?
            .out()
            .lines()
            .count();
    }
    Ok(count)
}

async fn nobody_notices_readers_that_stall(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let neighbours = Neighbours::start(mesh).await?;
    let caller = program("weft-caller")?;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let script = "exec 3<>/dev/tcp/streams/80; \
                      printf 'GET /endless HTTP/1.1\\r\\nhost: streams\\r\\n\\r\\n' >&3; \
                      head -c 12 <&3; exec sleep infinity";
        let http1 = start(mesh, &["bash", "-c", script]).await?;
        let http2 = start(mesh, &[&caller, "stall", "streams:80", "/endless"]).await?;
        stalled.extend([http1, http2]);
    }
    for one in &mut stalled {
        let said = speaks(one).await?;
        assert!(said.contains("200") || said.contains("HTTP/1.1"), "{said}");
    }
    assert_eq!(stats(mesh, "streams").await?["open"], stalled.len());
    neighbours.were_undisturbed(mesh).await?;
    // All that time nobody has given up.
    let seen = stats(mesh, "streams").await?;
    assert_eq!((&seen["open"], &seen["abandoned"]), (&16.into(), &0.into()));
    drop(stalled);
    let told = async || Ok(stats(mesh, "streams").await?["open"] == 0);
    mesh.until("the application knows who left", told).await
}

async fn nobody_notices_an_endless_upload(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let neighbours = Neighbours::start(mesh).await?;
    let mut uploads = Vec::new();
    // The application never reads a byte of the last.
    for (path, version) in [
        ("upload", "--http1.1"),
        ("upload", "--http2-prior-knowledge"),
        ("hold", "--http2-prior-knowledge"),
    ] {
        let script =
            format!("exec curl -sS {version} --limit-rate 20M -T - http://streams/{path} < <(yes)");
        uploads.push(start(mesh, &["bash", "-c", &script]).await?);
    }
    let much = async |more: u64| {
        let before = stats(mesh, "streams").await?["received"].as_u64();
        let goes_on = async || {
            let now = stats(mesh, "streams").await?["received"].as_u64();
            Ok(now >= before.map(|before| before + more))
        };
        mesh.until("the upload goes on", goes_on).await
    };
    much(8 << 20).await?;
    neighbours.were_undisturbed(mesh).await?;
    much(8 << 20).await?;
    assert_eq!(stats(mesh, "streams").await?["cutUploads"], 0);
    drop(uploads);
    // What was cut off does not look as if it had ended.
    let told = async || {
        let stats = stats(mesh, "streams").await?;
        Ok(stats["cutUploads"] == 2 && stats["open"] == 0)
    };
    mesh.until("the application knows of the end", told).await
}
