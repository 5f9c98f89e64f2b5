//! The control plane with a clock that is `WEFT_TEST_CLOCK` seconds off. The clock is a parameter of
//! the library; the program that is shipped knows the machine's alone.

use std::time::{Duration, SystemTime};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use weft_certs::Clock;
use weft_control_plane::ControlPlane;
use weft_control_plane::settings::{Command, CommandLine};

/// How far the machine's clock is off, as this program sees it.
#[derive(Clone, Copy, Debug)]
struct Skewed {
    ahead: bool,
    by: Duration,
}

impl Clock for Skewed {
    fn now(&self) -> SystemTime {
        match self.ahead {
            true => SystemTime::now() + self.by,
            false => SystemTime::now() - self.by,
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Command::Run(settings) = CommandLine::parse().command;
    let seconds: i64 = std::env::var("WEFT_TEST_CLOCK")?.parse()?;
    let clock = Skewed {
        ahead: seconds > 0,
        by: Duration::from_secs(seconds.unsigned_abs()),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let control_plane = ControlPlane::start_at(*settings, std::sync::Arc::new(clock)).await?;
    control_plane
        .run_until(async {
            terminate.recv().await;
        })
        .await
}
