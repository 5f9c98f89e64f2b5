//! `weft root`: the mesh's root certificate and its rotation, which the control plane carries out.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use clap::Subcommand;
use serde_json::Value;

use crate::admin::Refused;
use crate::output::{Format, print, print_json};
use crate::run_dir::RunDir;
use crate::{Output, duration};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Where a rotation stands.
    Status(Target),
    /// Begin to replace the root. Nothing restarts and no request fails: both roots are trusted until every proxy has the new one
    /// and a certificate under it.
    Rotate(Target),
}

#[derive(clap::Args)]
struct Target {
    #[command(flatten)]
    mesh: RunDir,
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        const PATH: &str = "/v1/rotate-root";
        let (target, answer) = match &self.command {
            Command::Status(target) => (target, target.mesh.control_plane().get(PATH).await?),
            Command::Rotate(target) => {
                let begun = target.mesh.control_plane().post(PATH).await;
                let answer = begun.map_err(|error| match error.downcast_ref::<Refused>() {
                    Some(refused) => anyhow!("{refused}; see `weft root status`"),
                    None => error,
                })?;
                (target, answer)
            }
        };
        match target.output.output {
            Format::Json => print_json(&answer)?,
            Format::Table => print(&describe(&answer, SystemTime::now()))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A phase in a sentence, and what comes next.
fn describe(answer: &Value, now: SystemTime) -> String {
    let phase = answer["phase"].as_str().unwrap_or_default();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let within = answer["untilAtLatest"]
        .as_u64()
        .unwrap_or(now)
        .saturating_sub(now);
    let within = duration::rough(std::time::Duration::from_secs(within));
    match phase {
        "stable" => "stable: one root is trusted; no rotation is under way\n".to_owned(),
        "announced" => format!(
            "announced: the new root is trusted beside the old one; it begins to issue when every proxy has confirmed that, \
             in {within} at the latest\n"
        ),
        "switched" => format!(
            "switched: the new root issues; the old one is dropped when every proxy has a certificate under the new one, in \
             {within} at the latest\n"
        ),
        other => format!("{other}\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_phase_says_what_comes_next_and_when() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let at = |phase: &str, until: Value| {
            describe(&json!({ "phase": phase, "untilAtLatest": until }), now)
        };
        assert!(at("stable", Value::Null).starts_with("stable: one root"));
        assert!(at("announced", json!(1_090)).ends_with("in 1m30s at the latest\n"));
        assert!(at("switched", json!(87_400)).ends_with("in 24h0m at the latest\n"));
    }
}
