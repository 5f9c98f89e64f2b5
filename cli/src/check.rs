//! `weft check`: what is wrong with a cluster or the mesh in it, and what to do about it.
//!
//! `gather` asks; `facts` is what it brings home; `catalogue` names every check, each a pure function over the facts.

mod access;
mod catalogue;
mod clocks;
mod control_plane;
mod facts;
mod gather;
mod identity;
mod kubernetes;
mod objects;
mod proxies;
mod webhook;
mod workloads;

use std::process::ExitCode;

use anyhow::Result;
use serde_json::{Value, json};

use crate::Output;
use crate::cluster::{Cluster, ClusterFlags};
use crate::output::{Format, counted, print, print_json};
use catalogue::{CHECKS, Check, Fault, Severity, Stage};
use facts::Facts;

/// Checks the cluster and the mesh in it, and says for each fault what to do. Exits with 1 if there is an error; warnings do
/// not count. Nothing is changed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Before an installation: what it needs.
    #[arg(long, conflicts_with = "proxy")]
    pre: bool,
    /// Ask every proxy, too.
    #[arg(long)]
    proxy: bool,
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    output: Output,
}

impl Arguments {
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        let stage = match (self.pre, self.proxy) {
            (true, _) => Stage::Before,
            (false, true) => Stage::Proxies,
            (false, false) => Stage::After,
        };
        let facts = gather::facts(&self.cluster.connect().await?, stage).await?;
        let results = results(&facts, stage);
        let fails = count(&results, Severity::Error) > 0;
        match self.output.output {
            Format::Json => print_json(&to_json(&results))?,
            Format::Table => print(&to_text(&results))?,
        }
        Ok(if fails {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// What `weft check --proxy -o json` says.
pub(crate) async fn report(cluster: &Cluster) -> Result<Value> {
    let facts = gather::facts(cluster, Stage::Proxies).await?;
    Ok(to_json(&results(&facts, Stage::Proxies)))
}

fn results(facts: &Facts, stage: Stage) -> Vec<Outcome<'static>> {
    let checks = CHECKS.iter().filter(|check| check.stages.contains(&stage));
    checks.map(|check| (check, (check.faults)(facts))).collect()
}

type Outcome<'a> = (&'a Check, Vec<Fault>);

fn count(results: &[Outcome<'_>], severity: Severity) -> usize {
    let faults = results.iter().flat_map(|(_, faults)| faults);
    faults.filter(|fault| fault.severity == severity).count()
}

fn to_json(results: &[Outcome<'_>]) -> Value {
    let checks: Vec<Value> = results
        .iter()
        .map(|(check, faults)| {
            json!({
                "id": check.id, "category": check.category, "title": check.title, "page": check.page(),
                "passed": faults.is_empty(), "faults": faults,
            })
        })
        .collect();
    json!({
        "errors": count(results, Severity::Error), "warnings": count(results, Severity::Warning), "checks": checks,
    })
}

fn to_text(results: &[Outcome<'_>]) -> String {
    let mut out = String::new();
    let mut category = "";
    for (check, faults) in results {
        if check.category != category {
            category = check.category;
            out += &format!("{}{category}\n", if out.is_empty() { "" } else { "\n" });
        }
        let sign = match faults.iter().map(|fault| fault.severity).max() {
            None => "ok  ",
            Some(Severity::Warning) => "warn",
            Some(Severity::Error) => "FAIL",
        };
        out += &format!("  {sign}  {}\n", check.title);
        for fault in faults {
            out += &format!("        {}\n        do:  {}\n", fault.message, fault.hint);
        }
        if !faults.is_empty() {
            out += &format!("        see: {}\n", check.page());
        }
    }
    let of = |severity, one, many| counted(count(results, severity), one, many);
    let (errors, warnings) = (
        of(Severity::Error, "error", "errors"),
        of(Severity::Warning, "warning", "warnings"),
    );
    out + &format!(
        "\n{}: {errors}, {warnings}\n",
        counted(results.len(), "check", "checks")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_under_what_should_hold() {
        let named = |id: &str| CHECKS.iter().find(|check| check.id == id).unwrap();
        let results = [
            (named("facts"), Vec::new()),
            (
                named("root"),
                vec![Fault::error("root CN=a has expired", "rotate it")],
            ),
            (
                named("proxy-version"),
                vec![Fault::warning("pod a is old", "restart it")],
            ),
        ];
        assert_eq!(
            to_text(&results),
            "Kubernetes\n\
             \x20 ok    everything that is asked for is answered\n\
             \n\
             Identity\n\
             \x20 FAIL  roots and issuer are valid\n\
             \x20       root CN=a has expired\n\
             \x20       do:  rotate it\n\
             \x20       see: docs/check.md#root\n\
             \n\
             Proxies\n\
             \x20 warn  proxies have the version of the control plane\n\
             \x20       pod a is old\n\
             \x20       do:  restart it\n\
             \x20       see: docs/check.md#proxy-version\n\
             \n\
             3 checks: 1 error, 1 warning\n"
        );
        let json = to_json(&results);
        assert_eq!(
            (&json["errors"], &json["checks"][1]["faults"][0]["severity"]),
            (&json!(1), &json!("error"))
        );
    }
}
