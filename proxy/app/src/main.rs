//! `weft-proxy`: `run` carries a pod's traffic, `init` leads it there.

use std::process::ExitCode;

use clap::Parser;
use weft_proxy::run;
use weft_proxy::settings::{Command, CommandLine, InitFlags};

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        Command::Init(flags) => init(&flags),
        Command::Run(flags) => flags.resolve().and_then(run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn init(flags: &InitFlags) -> anyhow::Result<()> {
    let interception = flags.interception();
    if flags.dry_run {
        print!("{}", interception.to_nft());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(interception.install())?;
    eprintln!("weft-proxy: the pod's TCP is led through the proxy (nftables table inet weft)");
    Ok(())
}
