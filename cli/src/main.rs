//! `weft`: the person's tool. Runs a mesh on this machine, checks YAML offline, and asks a running mesh what it does.
//!
//! Everything prints a table for people, or JSON with `-o json`; errors say what to do next.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod check;
mod cluster;
mod diagnose;
mod duration;
mod exec;
mod inject;
mod install;
mod installed;
mod mesh;
mod metrics;
mod output;
mod proxy;
mod root;
mod run_dir;
mod table;
mod top;
mod uninstall;
mod upgrade;
mod validate;
mod version;
mod wait;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output::Format;

const EXAMPLES: &str = "\
Begin here:
  weft validate FOLDER                         what is wrong with the YAML, by line
  weft up -f FOLDER --publish 8080=NS/SVC:80   run it on this machine
  weft wait                                    until every pod is ready
  weft top                                     who calls whom
  weft wait HTTPRoute/NAME -n NS               after an edit: until every proxy runs it
In a cluster:
  weft check --pre                             does it have what the mesh needs
  weft install | kubectl apply -f -            install it
  weft check                                   what is wrong, and what to do";

/// Weft: a service mesh that needs no changes in applications.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a folder of Kubernetes YAML on this machine, each pod in a network namespace of its own with a sidecar beside
    /// it where the mesh is on, until Ctrl-C. Needs root.
    Up(weft_local::UpArgs),
    /// Check YAML offline, by the control plane's own rules.
    Validate(validate::Arguments),
    /// Print everything that a cluster needs for the mesh, for `kubectl apply -f -`.
    Install(install::Arguments),
    /// Bring the mesh in a cluster to the version of this tool.
    Upgrade(upgrade::Arguments),
    /// Take the mesh out of a cluster.
    Uninstall(uninstall::Arguments),
    /// What is wrong with a cluster or the mesh in it, and what to do about it.
    Check(check::Arguments),
    /// Everything that explains how the mesh in a cluster is, as one file without secrets.
    Diagnose(diagnose::Arguments),
    /// Put the sidecar into workloads of a file, as the cluster's webhook does it.
    Inject(inject::Inject),
    /// Take the sidecar out of workloads of a file again.
    Uninject(inject::Uninject),
    /// Wait until an object as it is now is in force in every proxy; without a name, until the whole mesh is ready.
    Wait(wait::Arguments),
    /// What single proxies know and do.
    Proxy(proxy::Arguments),
    /// Run a command in a pod; what it calls goes through the pod's proxy.
    Exec(exec::Arguments),
    /// The mesh's root certificate and its rotation.
    Root(root::Arguments),
    /// Who calls whom, how fast and how well.
    Top(top::Arguments),
}

/// How results are printed.
#[derive(clap::Args, Clone, Copy)]
struct Output {
    /// A table for people or JSON for programs.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

fn main() -> ExitCode {
    // Before any thread exists: this binary is also what runs inside the namespaces of a mesh.
    weft_local::reexec::main_if_requested();

    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) if output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    };
    match command {
        Command::Up(up) => weft_local::up(up).map(|()| ExitCode::SUCCESS),
        Command::Validate(validate) => validate.run(),
        Command::Install(install) => install.run(),
        Command::Inject(inject) => inject.run(),
        Command::Uninject(uninject) => uninject.run(),
        Command::Upgrade(upgrade) => runtime()?.block_on(upgrade.run()),
        Command::Uninstall(uninstall) => runtime()?.block_on(uninstall.run()),
        Command::Diagnose(diagnose) => runtime()?.block_on(diagnose.run()),
        Command::Check(check) => runtime()?.block_on(check.run()),
        Command::Wait(wait) => runtime()?.block_on(wait.run()),
        Command::Proxy(proxy) => runtime()?.block_on(proxy.run()),
        Command::Exec(exec) => runtime()?.block_on(exec.run()),
        Command::Root(root) => runtime()?.block_on(root.run()),
        Command::Top(top) => runtime()?.block_on(top.run()),
    }
}
