//! The cluster as programs on this machine: starting and stopping it, and taking away one of its
//! programs for a while. What it consists of is `tests/cluster/up`'s business.

use std::fs::DirEntry;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use weft_local::Output;

use super::{Fact, child, folder, until};
use crate::artifacts::artifacts;
use crate::fixture::bin_dir;

/// How the folders of runs begin, which all their processes name.
pub const RUNS: &str = "/var/tmp/weft-cluster-";
/// The nodes that `up` starts.
const NODES: [u8; 2] = [1, 2];
/// The nft table of what is cut off.
const CUT: &str = "weft-test-cut";
/// A folder with images of Weft's as people get them (manifests/images/build); what is not there is made
/// of the programs beside this suite.
const IMAGES: &str = "WEFT_IMAGES";
/// What `up` prints once the cluster is ready, before the path.
const READY: &str = "export KUBECONFIG=";

/// The cluster that the suite has started. It ends with this process, however that ends.
#[derive(Debug)]
pub struct Local {
    up: Mutex<Option<Child>>,
    dir: PathBuf,
}

impl Local {
    /// Writes the images from the programs as they were built, lets `more` scripts (called with the
    /// folder) add theirs, and starts two nodes with all of them.
    pub fn start(more: &[PathBuf]) -> anyhow::Result<Self> {
        let images = artifacts("cluster")?.join("images");
        let mut ours = Command::new(folder().join("images"));
        ours.arg(&images).arg(bin_dir()?);
        written(ours.args(std::env::var_os(IMAGES)))?;
        for script in more {
            written(Command::new(script).arg(&images))?;
        }
        let mut up = Command::new(folder().join("up"))
            .arg(&images)
            .env("WEFT_CLUSTER_LOGS", artifacts("cluster")?.join("logs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("running tests/cluster/up")?;
        let output = up.stdout.take().context("up has no standard output")?;
        for line in BufReader::new(output).lines() {
            let line = line?;
            if let Some(path) = line.strip_prefix(READY) {
                let dir = Path::new(path).parent().context("no folder")?;
                return Ok(Self {
                    dir: dir.to_owned(),
                    up: Mutex::new(Some(up)),
                });
            }
        }
        anyhow::bail!("tests/cluster/up: {}", up.wait()?)
    }

    /// The folder of the run: programs' logs are under `nodeN/log`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// An administrator's, that works on this machine.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// Ends the cluster and waits until nothing of it is left.
    pub fn stop(&self) -> anyhow::Result<()> {
        let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut up) = up.take() else {
            return Ok(());
        };
        drop(up.stdin.take());
        let status = up.wait()?;
        anyhow::ensure!(
            status.success(),
            "the cluster did not stay up: {status}; its logs are in {}",
            artifacts("cluster")?.join("logs").display()
        );
        Ok(())
    }

    /// Kills a program of a node (`kube-apiserver`, `kubelet`, `etcd` ...) and keeps it down until
    /// the guard is dropped, when it starts again as it was. Returns when it is down.
    pub async fn hold(&self, node: u8, program: &str) -> anyhow::Result<Held> {
        let file = self.dir.join(format!("hold/node{node}.{program}"));
        let pid = pid(&file, program)?;
        std::fs::write(&file, "")?;
        let held = Held { file };
        let down = held.file.with_added_extension("down");
        kill_process(pid, Signal::KILL)?;
        // The guard must not go before its keeper has seen it: the end would be taken for the program's own.
        until("the program is kept down", async || {
            Ok(Fact::when(down.exists(), format!("no {}", down.display())))
        })
        .await?;
        Ok(held)
    }
}

impl Local {
    /// Runs a program of this machine in the network of a node, whatever the API server does.
    pub async fn in_node(&self, node: u8, argv: &[&str]) -> anyhow::Result<Output> {
        let kubelet = pid(
            &self.dir.join(format!("hold/node{node}.kubelet")),
            "kubelet",
        )?;
        in_network(kubelet, argv, "").await
    }

    /// Runs a program of this machine in the network of a pod.
    pub async fn in_pod(&self, pod: &Value, argv: &[&str]) -> anyhow::Result<Output> {
        let uid = pod["metadata"]["uid"]
            .as_str()
            .context("a pod has no UID")?;
        let place = format!("/pod{uid}/");
        let is_in_it = |entry: &DirEntry| {
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            groups.contains(&place)
        };
        let mut processes = std::fs::read_dir("/proc")?.flatten();
        let found = processes.find(is_in_it);
        let found = found.and_then(|entry| entry.file_name().to_string_lossy().parse().ok());
        let process = found.and_then(Pid::from_raw);
        in_network(
            process.with_context(|| format!("no process in {place}"))?,
            argv,
            "",
        )
        .await
    }

    /// Drops what this pod's address sends to the API server, until that is healed.
    pub async fn cut_off(&self, address: &str) -> anyhow::Result<CutOff<'_>> {
        let rules = format!(
            "table ip {CUT} {{\n chain pods {{\n type filter hook prerouting priority raw;
             ip saddr {address} ip daddr {{ 10.96.0.1, 198.18.0.1 }} tcp dport {{ 443, 6443 }} drop\n }}\n }}\n"
        );
        for node in NODES {
            let kubelet = pid(
                &self.dir.join(format!("hold/node{node}.kubelet")),
                "kubelet",
            )?;
            let output = in_network(kubelet, &["nft", "-f", "-"], &rules).await?;
            anyhow::ensure!(output.code == 0, "nft: {}", output.err());
        }
        Ok(CutOff { local: self })
    }
}

/// A pod that does not reach the API server.
#[derive(Debug)]
pub struct CutOff<'a> {
    local: &'a Local,
}

impl CutOff<'_> {
    /// Lets it again. (Who forgets it leaves it to the end of the cluster.)
    pub async fn heal(self) -> anyhow::Result<()> {
        for node in NODES {
            let argv = ["nft", "delete", "table", "ip", CUT];
            let output = self.local.in_node(node, &argv).await?;
            anyhow::ensure!(output.code == 0, "nft: {}", output.err());
        }
        Ok(())
    }
}

/// Runs a program of this machine, which sees this process's network.
async fn in_network(process: Pid, argv: &[&str], input: &str) -> anyhow::Result<Output> {
    let network = format!("--net=/proc/{}/ns/net", process.as_raw_nonzero());
    let mut nsenter = tokio::process::Command::new("nsenter");
    nsenter.arg(network).args(argv);
    child::output(nsenter, input).await
}

fn written(script: &mut Command) -> anyhow::Result<()> {
    let status = script.status();
    let status = status.with_context(|| format!("running {script:?}"))?;
    anyhow::ensure!(status.success(), "{script:?}: {status}");
    Ok(())
}

/// The process, as the host counts, of the program that this file would keep down (tests/cluster/node).
fn pid(hold: &Path, program: &str) -> anyhow::Result<Pid> {
    let wanted = format!("WEFT_HOLD={}", hold.display());
    let has = |file: PathBuf, wanted: &str, place: Option<usize>| {
        // A process that ends meanwhile is not it.
        let text = std::fs::read(file).unwrap_or_default();
        let mut words = text.split(|byte| *byte == 0);
        match place {
            Some(place) => words.nth(place) == Some(wanted.as_bytes()),
            None => words.any(|word| word == wanted.as_bytes()),
        }
    };
    let mut processes = std::fs::read_dir("/proc")?.flatten();
    let found = processes.find(|entry| {
        has(entry.path().join("cmdline"), program, Some(0))
            && has(entry.path().join("environ"), &wanted, None)
    });
    found
        .and_then(|entry| entry.file_name().to_string_lossy().parse().ok())
        .and_then(Pid::from_raw)
        .with_context(|| format!("{program} does not run: nothing has {wanted}"))
}

/// A program that is down.
#[derive(Debug)]
pub struct Held {
    file: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        // The run's folder may be gone, and with it the program.
        let _ = std::fs::remove_file(&self.file);
    }
}
