//! The cluster as programs on this machine: starting and stopping it, and taking away one of its
//! programs for a while. What it consists of is `tests/cluster/up`'s business.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use super::{Fact, folder, until};
use crate::artifacts::artifacts;
use crate::fixture::bin_dir;

/// How the folders of runs begin, which all their processes name.
pub const RUNS: &str = "/var/tmp/weft-cluster-";
/// What `up` prints once the cluster is ready, before the path.
const READY: &str = "export KUBECONFIG=";

/// The cluster that the suite has started. It ends with this process, however that ends.
#[derive(Debug)]
pub struct Local {
    up: Mutex<Option<Child>>,
    dir: PathBuf,
}

impl Local {
    /// Writes the images from the programs as they were built, and starts two nodes with them.
    pub fn start() -> anyhow::Result<Self> {
        let images = artifacts("cluster")?.join("images");
        let written = Command::new(folder().join("images"))
            .arg(&images)
            .arg(bin_dir()?)
            .status()
            .context("running tests/cluster/images")?;
        anyhow::ensure!(written.success(), "tests/cluster/images failed");
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
