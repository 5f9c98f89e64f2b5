//! Resident memory of the proxies.

use anyhow::Context;
use serde::Serialize;

/// Resident memory of a pair, KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Resident {
    /// The proxy beside the client.
    pub client: u64,
    /// The proxy beside the server.
    pub server: u64,
}

impl Resident {
    /// Of the two processes, client's first.
    pub fn of(pids: &[u32]) -> anyhow::Result<Self> {
        let [client, server] = *pids else {
            anyhow::bail!("not a pair: {pids:?}")
        };
        Ok(Self {
            client: resident(client)?,
            server: resident(server)?,
        })
    }

    /// The larger one.
    pub fn larger(self) -> u64 {
        self.client.max(self.server)
    }
}

fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    vm_rss(&status).with_context(|| format!("no VmRSS of process {pid}"))
}

fn vm_rss(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_resident_memory_is_read() {
        assert_eq!(
            vm_rss("Name:\tx\nVmHWM:\t 9 kB\nVmRSS:\t    8124 kB\n"),
            Some(8124)
        );
        assert_eq!(vm_rss("Name:\tx\n"), None);
    }
}
