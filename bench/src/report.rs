//! What a run found out, for people and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::case::Case;
use crate::contender::Contender;
use crate::load::Turn;
use crate::rounds::Outcome;
use crate::statistics::Spread;

/// What Weft aims for beside Envoy's better configuration.
const AIM: f64 = 0.75;
/// What an idle proxy of Weft may hold, KiB.
const IDLE_AIM: u64 = 10 * 1024;

/// One contender in one case, over all rounds.
#[derive(Debug, Serialize)]
struct Row {
    cpu_us: Option<Spread>,
    rate: Option<Spread>,
    p99_ms: Option<Spread>,
    requests: u64,
    failed: u64,
    /// Median CPU beside the better Envoy's.
    of_better_envoy: Option<f64>,
}

/// The JSON: what was found out, and the summary of it.
#[derive(Serialize)]
struct Saved<'a> {
    summary: BTreeMap<Case, BTreeMap<Contender, Row>>,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// A turn in a few words.
pub fn one_line(turn: &Turn) -> String {
    let cpu = turn
        .cpu_us
        .map_or("-".to_owned(), |cpu| format!("{cpu:.1}"));
    let p99 = turn
        .p99_ms
        .map_or(String::new(), |p99| format!(", p99 {p99:.2} ms"));
    let failed = if turn.failed > 0 {
        format!(", {} FAILED", turn.failed)
    } else {
        String::new()
    };
    format!("{cpu} us, {:.0}/s{p99}{failed}", turn.rate)
}

/// Requests without a 2xx, over everything.
pub fn failed_requests(outcome: &Outcome) -> u64 {
    outcome
        .turns
        .values()
        .flat_map(BTreeMap::values)
        .flatten()
        .map(|turn| turn.failed)
        .sum()
}

/// Writes the JSON, named by its time, and returns its path.
pub fn save(outcome: &Outcome, directory: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(directory)?;
    let name: String = outcome
        .began
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(15)
        .collect();
    let path = directory.join(format!("{name}.json"));
    let saved = Saved {
        summary: summary(outcome),
        outcome,
    };
    std::fs::write(&path, serde_json::to_string_pretty(&saved)? + "\n")?;
    Ok(path)
}

/// The table.
pub fn table(outcome: &Outcome) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_table(&mut text, outcome);
    text
}

fn write_table(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(text, "\n{}", outcome.machine.summary())?;
    for (name, version) in &outcome.versions {
        writeln!(text, "{name:<12} {version}")?;
    }
    writeln!(
        text,
        "{} rounds of {} s each; medians (smallest - largest); CPU time is the pair's",
        outcome.rounds, outcome.seconds_per_case
    )?;
    for (case, rows) in summary(outcome) {
        let (cpu, rate) = match case {
            Case::Body => ("CPU us/MiB", "MiB/s"),
            _ => ("CPU us/request", "requests/s"),
        };
        writeln!(text, "\n{}", case.title())?;
        writeln!(
            text,
            "  {:<22}{cpu:>26}{:>9}{rate:>12}{:>10}{:>8}",
            "", "/Envoy", "p99 ms", "failed"
        )?;
        for (contender, row) in rows {
            let spread = |spread: &Spread| {
                format!(
                    "{:.1} ({:.1} - {:.1})",
                    spread.median, spread.min, spread.max
                )
            };
            writeln!(
                text,
                "  {:<22}{:>26}{:>9}{:>12}{:>10}{:>8}",
                contender.title(),
                row.cpu_us.as_ref().map_or("-".to_owned(), spread),
                row.of_better_envoy
                    .map_or("-".to_owned(), |share| format!("{share:.2}")),
                row.rate
                    .map_or("-".to_owned(), |rate| format!("{:.0}", rate.median)),
                row.p99_ms
                    .map_or("-".to_owned(), |p99| format!("{:.2}", p99.median)),
                row.failed,
            )?;
        }
    }
    write_memory(text, outcome)?;
    write_verdict(text, outcome)
}

fn write_memory(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        text,
        "\nResident memory, MiB: beside the client + beside the server"
    )?;
    writeln!(text, "  {:<22}{:>16}{:>16}", "", "idle", "after load")?;
    let pair = |pair: &crate::memory::Resident| {
        format!(
            "{:.1} + {:.1}",
            pair.client as f64 / 1024.0,
            pair.server as f64 / 1024.0
        )
    };
    for (contender, memory) in &outcome.memory {
        let loaded = memory.loaded.as_ref().map_or("-".to_owned(), pair);
        writeln!(
            text,
            "  {:<22}{:>16}{loaded:>16}",
            contender.title(),
            pair(&memory.idle)
        )?;
    }
    Ok(())
}

fn write_verdict(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let said = |holds| if holds { "holds" } else { "FALLS SHORT" };
    writeln!(text)?;
    for (case, rows) in summary(outcome) {
        let weft = rows
            .get(&Contender::Weft)
            .and_then(|row| row.of_better_envoy);
        if let Some(share) = weft.filter(|_| case != Case::Body) {
            let title = case.title();
            writeln!(
                text,
                "{title}: {share:.2} of Envoy's CPU, aim {AIM}: {}",
                said(share <= AIM)
            )?;
        }
    }
    if let Some(memory) = outcome.memory.get(&Contender::Weft) {
        let larger = memory.idle.larger();
        let mebibytes = larger as f64 / 1024.0;
        writeln!(
            text,
            "idle proxy: {mebibytes:.1} MiB, aim under 10: {}",
            said(larger < IDLE_AIM)
        )?;
    }
    Ok(())
}

fn summary(outcome: &Outcome) -> BTreeMap<Case, BTreeMap<Contender, Row>> {
    let cases = outcome.turns.iter();
    cases
        .map(|(case, turns)| (*case, case_summary(turns)))
        .collect()
}

fn case_summary(turns: &BTreeMap<Contender, Vec<Turn>>) -> BTreeMap<Contender, Row> {
    let cpu = |turns: &[Turn]| Spread::of(turns.iter().filter_map(|turn| turn.cpu_us));
    let envoys = turns.iter().filter(|(contender, _)| contender.is_envoy());
    let better = envoys
        .filter_map(|(_, turns)| Some(cpu(turns)?.median))
        .reduce(f64::min);
    let row = |turns: &Vec<Turn>| {
        let cpu_us = cpu(turns);
        Row {
            cpu_us,
            rate: Spread::of(turns.iter().map(|turn| turn.rate)),
            p99_ms: Spread::of(turns.iter().filter_map(|turn| turn.p99_ms)),
            requests: turns.iter().map(|turn| turn.requests).sum(),
            failed: turns.iter().map(|turn| turn.failed).sum(),
            of_better_envoy: cpu_us.zip(better).map(|(cpu, better)| cpu.median / better),
        }
    };
    turns
        .iter()
        .map(|(contender, turns)| (*contender, row(turns)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(cpu_us: f64) -> Turn {
        Turn {
            cpu_us: Some(cpu_us),
            rate: 1.0,
            p99_ms: None,
            requests: 10,
            failed: 1,
        }
    }

    #[test]
    fn weft_stands_beside_the_better_envoy() {
        let turns = BTreeMap::from([
            (Contender::EnvoyH1, vec![turn(70.0), turn(60.0), turn(80.0)]),
            (Contender::EnvoyH2, vec![turn(50.0), turn(51.0), turn(49.0)]),
            (Contender::Weft, vec![turn(25.0), turn(30.0), turn(20.0)]),
        ]);
        let rows = case_summary(&turns);
        assert_eq!(rows[&Contender::Weft].of_better_envoy, Some(0.5));
        assert_eq!(rows[&Contender::EnvoyH1].of_better_envoy, Some(1.4));
        assert_eq!(
            (
                rows[&Contender::Weft].requests,
                rows[&Contender::Weft].failed
            ),
            (30, 3)
        );
    }
}
