//! One process of a pod, application or proxy: started, probed, started again when it ends, and
//! ended in order.

use std::fs::File;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Child;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::Backoff;
use super::probe::{Action, Hook, Probe, Probes};
use super::sandbox::{Run, Sandbox};
use crate::supervisor::cluster::PodReport;
use crate::workload::template::{PreStop, Restart};

/// What is run and how it is watched.
#[derive(Debug)]
pub struct Process {
    /// The container's name.
    pub name: String,
    /// The command.
    pub run: Run,
    /// Its probes, as they are asked from outside the pod.
    pub probes: Probes,
    /// When to start it again.
    pub restart: Restart,
    /// Before it is asked to end.
    pub pre_stop: Option<PreStop>,
    /// How it is asked to end.
    pub stop_signal: Signal,
    /// How long it may take.
    pub grace: Duration,
}

/// Where a process runs and who hears of it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The pod's namespaces.
    pub sandbox: Arc<Sandbox>,
    /// The pod's IPv4 address, where probes go.
    pub ip: IpAddr,
    /// Hears of starts, ends and readiness.
    pub report: PodReport,
    /// The process's output.
    pub log: Arc<File>,
}

/// Why a run came to its end.
enum End {
    Exited(std::io::Result<std::process::ExitStatus>),
    Stopped,
    Unhealthy,
}

impl Process {
    /// Keeps the process running until `stop`, then ends it.
    pub async fn keep_running(self, at: Surroundings, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let end = self.run_once(&at, &stop).await;
            at.report.ended(&self.name);
            let failed = match end {
                Ok(End::Stopped) => return,
                Ok(End::Unhealthy) => true,
                Ok(End::Exited(Ok(status))) => {
                    info!(pod = %at.report, container = self.name, %status, "ended");
                    !status.success()
                }
                Ok(End::Exited(Err(error))) => {
                    warn!(pod = %at.report, container = self.name, %error, "cannot be waited for");
                    true
                }
                Err(error) => {
                    warn!(pod = %at.report, container = self.name, "not started: {error:#}");
                    true
                }
            };
            let again = match self.restart {
                Restart::Always => true,
                Restart::OnFailure => failed,
                Restart::Never => false,
            };
            if !again {
                return stop.cancelled().await;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.after(started.elapsed())) => {}
                () = stop.cancelled() => return,
            }
            at.report.restarting(&self.name);
        }
    }

    async fn run_once(&self, at: &Surroundings, stop: &CancellationToken) -> anyhow::Result<End> {
        let mut child = spawn(&at.sandbox, &self.run, &at.log)?;
        let pid = child.id().context("ended at once")?;
        at.report.started(&self.name, pid);
        let unhealthy = CancellationToken::new();
        let mut watches = JoinSet::new();
        self.watch(&mut watches, at, &unhealthy);
        let end = tokio::select! {
            status = child.wait() => End::Exited(status),
            () = stop.cancelled() => End::Stopped,
            () = unhealthy.cancelled() => End::Unhealthy,
        };
        watches.shutdown().await;
        match &end {
            End::Exited(_) => {}
            End::Stopped => {
                self.pre_stop(at).await;
                end_child(&mut child, pid, self.stop_signal, self.grace).await;
            }
            End::Unhealthy => {
                warn!(pod = %at.report, container = self.name, "failed its liveness probe");
                end_child(&mut child, pid, self.stop_signal, self.grace).await;
            }
        }
        // What it left behind belongs to its run and not to the next one.
        signal_group(pid, Signal::KILL);
        Ok(end)
    }

    async fn pre_stop(&self, at: &Surroundings) {
        let hook = async {
            match &self.pre_stop {
                None => {}
                Some(PreStop::Sleep(seconds)) => {
                    tokio::time::sleep(Duration::from_secs(*seconds)).await;
                }
                Some(PreStop::Exec(argv)) => {
                    let run = Run {
                        argv: argv.clone(),
                        ..self.run.clone()
                    };
                    if let Ok(mut child) = spawn(&at.sandbox, &run, &at.log) {
                        let _ = child.wait().await;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(self.grace, hook).await;
    }

    /// Starts the probes; each ends with `watches`.
    fn watch(&self, watches: &mut JoinSet<()>, at: &Surroundings, unhealthy: &CancellationToken) {
        let (at, unhealthy) = (at.clone(), unhealthy.clone());
        let (name, run, probes) = (self.name.clone(), self.run.clone(), self.probes.clone());
        watches.spawn(async move {
            if let Some(startup) = &probes.startup {
                let up = CancellationToken::new();
                let watch = startup.watch(
                    || ask(&startup.action, &at, &run),
                    |good| {
                        if good {
                            up.cancel()
                        } else {
                            unhealthy.cancel()
                        }
                    },
                );
                tokio::select! {
                    () = watch => {}
                    () = up.cancelled() => {}
                }
            }
            if probes.readiness.is_none() {
                at.report.ready(&name, true);
            }
            let readiness = async {
                if let Some(probe) = &probes.readiness {
                    let changed = |good| at.report.ready(&name, good);
                    probe.watch(|| ask(&probe.action, &at, &run), changed).await;
                }
            };
            let liveness = async {
                if let Some(probe) = &probes.liveness {
                    let changed = |good: bool| {
                        if !good {
                            unhealthy.cancel()
                        }
                    };
                    probe.watch(|| ask(&probe.action, &at, &run), changed).await;
                }
            };
            tokio::join!(readiness, liveness);
        });
    }
}

/// The application's probes as they are asked when a proxy is in front of it.
pub fn through_proxy(probes: &Probes, container: &str) -> Probes {
    let rewrite = |probe: &Option<Probe>, hook| {
        probe.clone().map(|probe| Probe {
            action: probe.action.through_proxy(container, hook),
            ..probe
        })
    };
    Probes {
        startup: rewrite(&probes.startup, Hook::Startup),
        readiness: rewrite(&probes.readiness, Hook::Readiness),
        liveness: rewrite(&probes.liveness, Hook::Liveness),
    }
}

async fn ask(action: &Action, at: &Surroundings, run: &Run) -> bool {
    let Action::Exec(argv) = action else {
        return action.ask(at.ip).await;
    };
    let run = Run {
        argv: argv.clone(),
        ..run.clone()
    };
    let Ok(mut child) = spawn(&at.sandbox, &run, &at.log) else {
        return false;
    };
    child.wait().await.is_ok_and(|status| status.success())
}

fn spawn(sandbox: &Sandbox, run: &Run, log: &File) -> anyhow::Result<Child> {
    let mut command = sandbox.command(run);
    command.stdin(std::process::Stdio::null());
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    command.kill_on_drop(true);
    command
        .spawn()
        .with_context(|| format!("starting {:?}", run.argv))
}

/// Asks the child to end, and makes it after `grace`.
async fn end_child(child: &mut Child, pid: u32, signal: Signal, grace: Duration) {
    if let Some(pid) = raw(pid) {
        let _ = kill_process(pid, signal);
    }
    if tokio::time::timeout(grace, child.wait()).await.is_err() {
        signal_group(pid, Signal::KILL);
        let _ = child.wait().await;
    }
}

fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = raw(pid) {
        // Gone already is as good.
        let _ = kill_process_group(pid, signal);
    }
}

fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}
