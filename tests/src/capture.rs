//! Packets on the bridge, for the claim "encrypted".

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use weft_local::info::{Channel, ExecRequest};
use weft_local::{Client, Running};

/// How long tcpdump may take to start and to write what it saw.
const LIMIT: Duration = Duration::from_secs(20);
/// Sent last: what came before it has been written when it is in the file.
const LAST: &str = "weft-capture-ends-here";

/// A capture that runs.
#[derive(Debug)]
pub struct Capture {
    /// Dropping it ends tcpdump.
    _tcpdump: Running,
    client: Client,
    file: PathBuf,
}

impl Capture {
    /// Captures what matches `filter` on the bridge, into `file`; returns when it is listening.
    pub async fn start(client: &Client, file: &Path, filter: &str) -> anyhow::Result<Self> {
        let path = file.display().to_string();
        let filter = format!("({filter}) or udp port 9");
        let argv = [
            "tcpdump",
            "-i",
            "weft0",
            "-U",
            "--immediate-mode",
            "-s",
            "0",
            "-Z",
            "root",
            "-w",
            &path,
            &filter,
        ];
        let request = ExecRequest {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            ..ExecRequest::default()
        };
        let mut tcpdump = client.start(&request).await?;
        let mut said = String::new();
        let listening = async {
            while let Some((channel, bytes)) = tcpdump.next().await? {
                anyhow::ensure!(channel != Channel::Exit, "tcpdump ended: {said}");
                said.push_str(&String::from_utf8_lossy(&bytes));
                if said.contains("listening on") {
                    return Ok(());
                }
            }
            anyhow::bail!("the supervisor went away")
        };
        tokio::time::timeout(LIMIT, listening)
            .await
            .context("tcpdump does not start")??;
        Ok(Self {
            _tcpdump: tcpdump,
            client: client.clone(),
            file: file.to_owned(),
        })
    }

    /// Stops and returns all bytes of all packets. `pod` is the address of any pod.
    pub async fn stop(self, pod: std::net::IpAddr) -> anyhow::Result<Vec<u8>> {
        let send = format!("echo {LAST} > /dev/udp/{pod}/9");
        let sent = self.client.exec_outside(&["bash", "-c", &send]).await?;
        anyhow::ensure!(sent.code == 0, "sending the last packet: {}", sent.err());
        let written = async {
            loop {
                let bytes = std::fs::read(&self.file)?;
                if contains(&bytes, LAST) {
                    return anyhow::Ok(bytes);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, written)
            .await
            .context("tcpdump does not write")?
    }
}

/// Whether `needle` is somewhere in `bytes`.
pub fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}
