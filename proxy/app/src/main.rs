//! `weft-proxy`: `run` carries a pod's traffic, `init` leads it there.

use std::process::ExitCode;

use clap::Parser;
use weft_proxy::settings::{Command, CommandLine, InitFlags};
use weft_proxy::{pod_network, run};

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
    // While this is the only thread there is.
    if let Some(path) = &flags.netns {
        pod_network::enter(path)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        pod_network::refuse_nodes(&flags.pod_ips, &flags.host_ips).await?;
        interception.install().await
    })?;
    eprintln!("weft-proxy: the pod's TCP is led through the proxy (nftables table inet weft)");
    Ok(())
}
