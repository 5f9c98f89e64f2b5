//! `weft root`: the mesh's root certificate and its rotation, which the control plane carries out.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use clap::Subcommand;
use serde_json::Value;

use crate::admin::Refused;
use crate::cluster::Cluster;
use crate::mesh::{Mesh, Place};
use crate::output::{Format, print, print_json};
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
    mesh: Mesh,
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        let (target, begins) = match &self.command {
            Command::Status(target) => (target, false),
            Command::Rotate(target) => (target, true),
        };
        let answer = match (target.mesh.place().await?, begins) {
            (Place::Machine(run_dir), false) => run_dir.control_plane().get(PATH).await?,
            (Place::Machine(run_dir), true) => {
                let begun = run_dir.control_plane().post(PATH).await;
                begun.map_err(refused)?
            }
            (Place::Cluster(cluster), false) => asked(&cluster).await?,
            (Place::Cluster(cluster), true) => begun(&cluster).await?,
        };
        match target.output.output {
            Format::Json => print_json(&answer)?,
            Format::Table => print(&describe(&answer, SystemTime::now()))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

const PATH: &str = "/v1/rotate-root";

fn refused(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Refused>() {
        Some(refused) => anyhow!("{refused}; see `weft root status`"),
        None => error,
    }
}

/// What any replica knows: the phase is stored, and all of them follow it.
async fn asked(cluster: &Cluster) -> Result<Value> {
    let mut answer = Err(anyhow!("no replica"));
    for replica in cluster.replicas().await? {
        answer = replica.admin.get(PATH).await;
        if answer.is_ok() {
            break;
        }
    }
    answer
}

/// Only the replica that leads begins a rotation.
async fn begun(cluster: &Cluster) -> Result<Value> {
    let mut answer = Err(anyhow!("no replica"));
    for replica in cluster.replicas().await? {
        let begun = replica.admin.post(PATH).await;
        answer = begun
            .map_err(refused)
            .with_context(|| format!("replica {}", replica.pod));
        if answer.is_ok() {
            break;
        }
    }
    answer
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
