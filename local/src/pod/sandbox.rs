//! The supervisor's end of a pod's namespaces: creates them around a pause process, starts commands
//! in them, and ends whatever is left in them.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::pause;
use crate::network;

/// Where commands are looked for when a container sets no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command to run in a pod.
#[derive(Clone, Debug)]
pub struct Run {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment; `PATH` is added when missing.
    pub env: Vec<(String, String)>,
    /// Working directory, `/` when `None`.
    pub cwd: Option<String>,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A pod's namespaces.
#[derive(Debug)]
pub struct Sandbox {
    pause: Child,
    pid: u32,
    /// What `/proc/PID/ns/net` links to for every process of this pod.
    network_namespace: PathBuf,
    _stdin: ChildStdin,
}

impl Sandbox {
    /// Creates the namespaces and everything in `spec`; `veth` is the link's name outside, `log`
    /// takes what goes wrong inside.
    pub async fn start(
        local_binary: &PathBuf,
        spec: &pause::Spec,
        veth: &str,
        log: std::fs::File,
    ) -> anyhow::Result<Self> {
        let mut child = Command::new("unshare")
            .args(["--net", "--mount", "--uts", "--ipc", "--"])
            .arg(local_binary)
            .arg(pause::COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("starting unshare")?;
        let pid = child.id().context("the pause process ended at once")?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        expect_line(&mut lines, "entered").await?;
        network::attach(veth, pid).await?;
        stdin
            .write_all((serde_json::to_string(spec)? + "\n").as_bytes())
            .await?;
        expect_line(&mut lines, "ready").await?;
        let network_namespace = std::fs::read_link(format!("/proc/{pid}/ns/net"))?;
        Ok(Self {
            pause: child,
            pid,
            network_namespace,
            _stdin: stdin,
        })
    }

    /// The command that runs `run` in this pod, ready to be spawned as a process group of its own.
    pub fn command(&self, run: &Run) -> Command {
        command(self.pid, run)
    }

    /// The pause process, whose `/proc/PID/ns` others enter.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends every process of the pod and its namespaces.
    pub async fn destroy(mut self) {
        // A process may fork while the list is read; a second look finds its children.
        while self.kill_members() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        let _ = self.pause.kill().await;
    }

    fn kill_members(&self) -> usize {
        members(&self.network_namespace)
            .filter(|pid| *pid != self.pid)
            .filter(|pid| !is_zombie(*pid))
            .filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
            .filter(|pid| kill_process(*pid, Signal::KILL).is_ok())
            .count()
    }
}

/// The command that runs `run` in the namespaces of process `pid`.
pub fn command(pid: u32, run: &Run) -> Command {
    let mut command = Command::new("nsenter");
    command.args([
        "--target",
        &pid.to_string(),
        "--net",
        "--mount",
        "--uts",
        "--ipc",
        "--",
    ]);
    if let Some(cwd) = &run.cwd {
        command.args(["env", "-C", cwd]);
    }
    if (run.uid, run.gid) != (0, 0) {
        command.args(["setpriv", "--reuid", &run.uid.to_string()]);
        command.args(["--regid", &run.gid.to_string(), "--clear-groups", "--"]);
    }
    command.args(&run.argv);
    command.env_clear();
    command.env("PATH", DEFAULT_PATH);
    command.envs(run.env.iter().map(|(name, value)| (name, value)));
    command.process_group(0);
    command
}

async fn expect_line(
    lines: &mut Lines<BufReader<ChildStdout>>,
    expected: &str,
) -> anyhow::Result<()> {
    match lines.next_line().await? {
        Some(line) if line == expected => Ok(()),
        Some(line) => anyhow::bail!("the pause process said {line:?} instead of {expected:?}"),
        None => {
            anyhow::bail!("the pause process ended before it was {expected}; see the pod's log")
        }
    }
}

/// The processes whose network namespace is `namespace`.
fn members(namespace: &PathBuf) -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(move |pid| {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|link| link == *namespace)
        })
}

fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| Some(stat.rsplit_once(") ")?.1.starts_with('Z')))
        .unwrap_or(true)
}
