//! `weft-bench`: Weft beside Envoy and HAProxy on this machine, doing the same work.
//!
//! Owns the comparison: who is compared ([`contender`]), where they run ([`cluster`], on
//! `weft-local`), that each really does mutual TLS before anything is measured ([`check`]), the load
//! ([`load`]), what is read from /proc ([`cpu`], [`memory`]), and the table ([`report`]). Does not
//! own starting pods or anything of a mesh.
//!
//! YAML and configurations in `peers/` → pods → rounds of load → table on standard output, JSON
//! under `results/`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
mod case;
mod check;
mod cluster;
mod contender;
mod cpu;
mod credentials;
mod load;
mod machine;
mod manifests;
mod memory;
mod report;
mod rounds;
mod statistics;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use tokio::net::TcpListener;

/// Compares Weft with Envoy and HAProxy on this machine.
#[derive(Debug, Parser)]
#[command(name = "weft-bench", version, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the comparison.
    Run(RunFlags),
    /// The gRPC application behind every contender: answers any call with 1 KiB.
    GrpcBackend {
        /// Where it listens.
        #[arg(long, default_value = "0.0.0.0:50051")]
        listen: SocketAddr,
    },
    /// One gRPC call; fails unless message and trailers come back whole.
    GrpcCall {
        /// `host:port`.
        target: String,
    },
}

/// What is run and for how long.
#[derive(Debug, Clone, clap::Args)]
pub struct RunFlags {
    /// How often each contender's turn comes; they take turns within a round.
    #[arg(long, env = "ROUNDS", default_value_t = 5)]
    pub rounds: usize,
    /// How long one contender is measured in one case, in seconds.
    #[arg(long, env = "SECONDS_PER_CASE", default_value_t = 3.0)]
    pub seconds_per_case: f64,
    /// Only these contenders.
    #[arg(long, env = "CONTENDERS", value_delimiter = ',')]
    pub contenders: Vec<contender::Contender>,
    /// Only these cases.
    #[arg(long, env = "CASES", value_delimiter = ',')]
    pub cases: Vec<case::Case>,
    /// The Envoy binary.
    #[arg(long, env = "ENVOY", default_value = "envoy")]
    pub envoy: PathBuf,
    /// Where weft-proxy and weft-control-plane are [default: beside this program].
    #[arg(long, env = "WEFT_BIN_DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Where the JSON goes; nowhere when left out.
    #[arg(long)]
    pub results: Option<PathBuf>,
    /// Check that every contender does its work, and measure nothing.
    #[arg(long)]
    pub check_only: bool,
    /// After the checks, print where the mesh is and wait for Ctrl-C instead of measuring.
    #[arg(long)]
    pub hold: bool,
}

fn main() -> anyhow::Result<()> {
    weft_local::reexec::main_if_requested();
    let line = CommandLine::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match line.command {
            Command::Run(flags) => rounds::run(flags).await,
            Command::GrpcBackend { listen } => {
                backend::serve(TcpListener::bind(listen).await?).await
            }
            Command::GrpcCall { target } => backend::call(&target).await,
        }
    })
}
