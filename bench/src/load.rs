//! One turn of one contender: the load runs in its client pod; CPU time is read at two instants
//! within the load, and the requests are counted that ended between them.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::Serialize;
use weft_local::Client;
use weft_local::info::ExecRequest;

use crate::case::{Case, MARGIN, Target, WARM_UP};
use crate::contender::Contender;
use crate::cpu::Processes;
use crate::statistics::percentile;

/// The load generator's user: anybody but the proxy's.
const LOAD_UID: u32 = 0;

/// What one turn gave.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Turn {
    /// Microseconds of CPU time of the pair for each request; none without a proxy. For a body:
    /// for each MiB.
    pub cpu_us: Option<f64>,
    /// Requests per second; for a body MiB per second.
    pub rate: f64,
    /// 99th percentile of the time for a request, milliseconds; none for a body.
    pub p99_ms: Option<f64>,
    /// Requests that ended within the window.
    pub requests: u64,
    /// Of them, those without a 2xx.
    pub failed: u64,
}

/// What a turn needs.
#[derive(Debug)]
pub struct Load<'a> {
    /// The mesh.
    pub mesh: &'a Client,
    /// Shared with the pods: h2load's log, the gRPC message.
    pub files: &'a Path,
    /// Whose turn.
    pub contender: Contender,
    /// Where the load goes.
    pub target: &'a Target,
    /// Its proxies; none without.
    pub proxies: Option<&'a Processes>,
    /// Seconds of measuring.
    pub seconds: f64,
}

impl Load<'_> {
    /// Makes the load once.
    ///
    /// # Errors
    /// The load generator failed, or its load did not cover the window.
    pub async fn turn(&self, case: Case) -> anyhow::Result<Turn> {
        let request = ExecRequest {
            pod: Some(("bench".to_owned(), self.contender.client_pod())),
            argv: case.command(self.target, self.seconds, self.files),
            env: Vec::new(),
            uid: LOAD_UID,
        };
        match case {
            Case::Body => self.body(&request).await,
            _ => self.requests(&request).await,
        }
        .with_context(|| format!("{} in {case}: {}", self.contender, request.argv.join(" ")))
    }

    async fn requests(&self, request: &ExecRequest) -> anyhow::Result<Turn> {
        let log = self.files.join("h2load.log");
        let _ = std::fs::remove_file(&log);
        let running = self.mesh.start(request).await?;
        let measured = async {
            tokio::time::sleep(Duration::from_secs_f64(WARM_UP + MARGIN)).await;
            let before = self.sample()?;
            tokio::time::sleep(Duration::from_secs_f64(self.seconds)).await;
            anyhow::Ok((before, self.sample()?))
        };
        let (measured, output) = tokio::join!(measured, running.output());
        let ((from, cpu_before), (to, cpu_after)) = measured?;
        let output = output?;
        anyhow::ensure!(
            output.code == 0,
            "exit code {}: {}",
            output.code,
            output.err()
        );
        let text = std::fs::read_to_string(&log)?;
        let window = Window::read(&text, micros(from), micros(to))
            .with_context(|| format!("h2load said:\n{}", output.out()))?;
        let cpu = cpu_after
            .zip(cpu_before)
            .map(|(after, before)| after - before);
        let requests = window.durations.len() as u64;
        Ok(Turn {
            cpu_us: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / requests as f64),
            rate: requests as f64 / to.duration_since(from)?.as_secs_f64(),
            p99_ms: percentile(&window.durations, 0.99).map(|micros| micros as f64 / 1e3),
            requests,
            failed: window.failed,
        })
    }

    async fn body(&self, request: &ExecRequest) -> anyhow::Result<Turn> {
        let (_, before) = self.sample()?;
        let output = self.mesh.start(request).await?.output().await?;
        let (_, after) = self.sample()?;
        anyhow::ensure!(
            output.code == 0,
            "exit code {}: {}",
            output.code,
            output.err()
        );
        let out = output.out();
        let mut words = out.split_whitespace();
        let mut next = || words.next().context("curl said too little");
        let (status, size, time) = (next()?, next()?.parse::<f64>()?, next()?.parse::<f64>()?);
        anyhow::ensure!(
            size == (1_u64 << 30) as f64,
            "{size} bytes came, status {status}"
        );
        let mebibytes = size / f64::from(1 << 20);
        let cpu = after.zip(before).map(|(after, before)| after - before);
        Ok(Turn {
            cpu_us: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / mebibytes),
            rate: mebibytes / time,
            p99_ms: None,
            requests: 1,
            failed: u64::from(status != "200"),
        })
    }

    /// The instant and the proxies' CPU time at it.
    fn sample(&self) -> anyhow::Result<(SystemTime, Option<Duration>)> {
        match self.proxies {
            Some(proxies) => proxies.sample().map(|sample| (sample.at, Some(sample.cpu))),
            None => Ok((SystemTime::now(), None)),
        }
    }
}

fn micros(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The requests that ended between two instants.
#[derive(Debug)]
struct Window {
    /// Microseconds each, sorted.
    durations: Vec<u64>,
    failed: u64,
}

impl Window {
    /// Reads h2load's log: start (microseconds since 1970), HTTP status, duration (microseconds).
    fn read(log: &str, from: u64, to: u64) -> anyhow::Result<Self> {
        let (mut durations, mut failed) = (Vec::new(), 0);
        let (mut first, mut last) = (u64::MAX, 0);
        for line in log.lines() {
            let mut fields = line.split('\t');
            let mut field = || fields.next().context("a short line in the log");
            let (start, status) = (field()?.parse::<u64>()?, field()?.parse::<i32>()?);
            let duration = field()?.parse::<u64>()?;
            let end = start + duration;
            (first, last) = (first.min(end), last.max(end));
            if (from..to).contains(&end) {
                durations.push(duration);
                failed += u64::from(!(200..300).contains(&status));
            }
        }
        anyhow::ensure!(!durations.is_empty(), "no request ended while measuring");
        let slack = 100_000;
        anyhow::ensure!(
            first < from + slack && last + slack > to,
            "the load ran from {first} to {last}, measured was from {from} to {to}"
        );
        durations.sort_unstable();
        Ok(Self { durations, failed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ended_in_the_window_counts() {
        let log =
            "900000\t200\t50000\n1000000\t200\t200\n1000100\t503\t100\n1900000\t200\t300000\n";
        let window = Window::read(log, 1_000_000, 2_000_000).unwrap();
        assert_eq!(window.durations, [100, 200]);
        assert_eq!(window.failed, 1);
    }

    #[test]
    fn a_load_that_ended_early_is_no_measurement() {
        let log = "1000000\t200\t200\n";
        let error = Window::read(log, 1_000_000, 2_000_000)
            .unwrap_err()
            .to_string();
        assert!(error.contains("the load ran from"), "{error}");
        assert!(Window::read("", 1, 2).is_err());
    }
}
