//! PID 1 of a mesh's outer namespace: starts the supervisor and reaps whatever is orphaned. It ends
//! when the supervisor ends or when the host closes its standard input, also by dying; the kernel
//! then kills everything in the namespace, and with the last process the namespaces, mounts, links
//! and nft tables go.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context;
use rustix::process::{WaitOptions, wait};

/// The hidden subcommand.
pub const COMMAND: &str = "local-init";

/// Runs until the supervisor ends.
pub fn run(run_dir: PathBuf) -> anyhow::Result<()> {
    let supervisor = Command::new("/proc/self/exe")
        .arg(crate::supervisor::COMMAND)
        .arg(&run_dir)
        .stdin(Stdio::null())
        .spawn()
        .context("starting the supervisor")?;
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        // Whatever comes, an error too, means that nobody needs this mesh any more.
        let _ = std::io::stdin().read_to_end(&mut rest);
        std::process::exit(0);
    });
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == supervisor.id() as i32 => {
                anyhow::ensure!(
                    status.exit_status() == Some(0),
                    "the supervisor ended unexpectedly: {status:?}"
                );
                return Ok(());
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for children"),
        }
    }
}
