//! Hidden subcommands. A runtime's threads cannot enter namespaces, so the binary is executed again
//! under `unshare`, and what has to happen inside happens in a fresh single-threaded process:
//! `local-init` is PID 1 of a mesh, `local-supervisor` runs it, `local-pause` holds one pod.

use std::path::PathBuf;

use crate::pod::pause;
use crate::{init, supervisor};

/// If this process was started as one of this crate's inner processes, runs it and exits. A binary
/// that starts meshes calls it before anything else in `main`, before any thread exists.
pub fn main_if_requested() {
    let mut args = std::env::args_os().skip(1);
    let Some(command) = args.next() else { return };
    let mut path = || args.next().map(PathBuf::from).unwrap_or_default();
    let result = match command.to_str() {
        Some(init::COMMAND) => init::run(path()),
        Some(supervisor::COMMAND) => supervisor::run(&path()),
        Some(pause::COMMAND) => pause::run(),
        _ => return,
    };
    if let Err(error) = result {
        eprintln!("{}: {error:#}", command.to_string_lossy());
        std::process::exit(1);
    }
    std::process::exit(0);
}
