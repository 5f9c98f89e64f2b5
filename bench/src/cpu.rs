//! CPU time of processes, to the nanosecond: what the scheduler charged to all their threads.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use weft_local::Client;

/// Processes of one contender, by their PIDs here.
#[derive(Debug, Clone)]
pub struct Processes(Vec<u32>);

/// CPU time at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When.
    pub at: SystemTime,
    /// User and system time of all threads since they started.
    pub cpu: Duration,
}

impl Processes {
    /// The processes that the mesh knows under `inner` PIDs: in its own PID namespace, which is below
    /// ours.
    pub async fn of_mesh(mesh: &Client, inner: &[u32]) -> anyhow::Result<Self> {
        let namespace = mesh
            .exec_outside(&["readlink", "/proc/self/ns/pid"])
            .await?
            .out();
        let mut found = vec![None; inner.len()];
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            if let Some(place) = inner_pid(pid, namespace.trim())
                .and_then(|known| inner.iter().position(|wanted| *wanted == known))
            {
                found[place] = Some(pid);
            }
        }
        let all: Option<Vec<u32>> = found.into_iter().collect();
        Ok(Self(all.with_context(|| {
            format!("not all of {inner:?} run in {namespace}")
        })?))
    }

    /// Their PIDs here.
    pub fn pids(&self) -> &[u32] {
        &self.0
    }

    /// Their CPU time now.
    pub fn sample(&self) -> anyhow::Result<Sample> {
        let mut total = 0;
        for pid in &self.0 {
            for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
                // A thread that ends while the list is read is an error: its time would be missing. Proxies keep theirs.
                let path = task?.path().join("schedstat");
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("{} (a kernel with schedstats)", path.display()))?;
                total += parse_schedstat(&text).context("schedstat")?;
            }
        }
        Ok(Sample {
            at: SystemTime::now(),
            cpu: Duration::from_nanos(total),
        })
    }
}

/// The PID that process `pid` has in `namespace`, if it lives there.
fn inner_pid(pid: u32, namespace: &str) -> Option<u32> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    if link.to_str()? != namespace {
        return None;
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// Nanoseconds on a CPU, the first of three numbers.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_on_a_cpu_grows_with_work() {
        // Not this process: its threads come and go with the tests.
        let mut busy = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let busy_only = Processes(vec![busy.id()]);
        let before = busy_only.sample().unwrap();
        while busy_only.sample().unwrap().cpu <= before.cpu {
            std::thread::yield_now();
        }
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert_eq!(parse_schedstat("2508240 17 1\n"), Some(2_508_240));
    }
}
