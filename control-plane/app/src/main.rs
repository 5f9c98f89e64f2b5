//! `weft-control-plane`: reads the command line and environment, sets logging up, runs.

use std::io::IsTerminal;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use weft_control_plane::ControlPlane;
use weft_control_plane::settings::{Command, CommandLine, Run};

fn main() -> anyhow::Result<()> {
    let Command::Run(settings) = CommandLine::parse().command;
    log(&settings)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(*settings))
}

async fn run(settings: Run) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let control_plane = ControlPlane::start(settings).await?;
    control_plane
        .run_until(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
}

fn log(settings: &Run) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log).context("--log cannot be read")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    if settings.log_json {
        builder.json().init();
    } else {
        builder.init();
    }
    Ok(())
}
