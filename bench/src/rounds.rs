//! The run: checks, then rounds in which the contenders take turns, then the report.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::RunFlags;
use crate::case::{Case, Target};
use crate::check;
use crate::cluster::Cluster;
use crate::contender::Contender;
use crate::cpu::Processes;
use crate::load::{Load, Turn};
use crate::machine::{Machine, versions};
use crate::memory::Resident;
use crate::report;

/// Everything that a run found out.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// When it began, RFC 3339.
    pub began: String,
    /// Where.
    pub machine: Machine,
    /// What.
    pub versions: BTreeMap<String, String>,
    /// Rounds.
    pub rounds: usize,
    /// Seconds that each turn was measured.
    pub seconds_per_case: f64,
    /// What the checks saw.
    pub checks: BTreeMap<Contender, Vec<String>>,
    /// How the peers' proxies were started, by pod; Weft's by `weft-local`.
    pub proxies: BTreeMap<String, Vec<String>>,
    /// The load's commands.
    pub commands: BTreeMap<Case, BTreeMap<Contender, String>>,
    /// All turns, in order.
    pub turns: BTreeMap<Case, BTreeMap<Contender, Vec<Turn>>>,
    /// Resident memory, KiB.
    pub memory: BTreeMap<Contender, Memory>,
}

/// Resident memory of a pair before and after all load.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Memory {
    /// After the checks' few requests.
    pub idle: Resident,
    /// After all rounds.
    pub loaded: Option<Resident>,
}

/// One contender, ready to be measured.
struct Entrant {
    contender: Contender,
    target: Target,
    proxies: Option<Processes>,
}

/// Runs the comparison.
///
/// # Errors
/// A contender that does not do its work, a load that fails, or requests that failed.
pub async fn run(flags: RunFlags) -> anyhow::Result<()> {
    let contenders = chosen(&flags.contenders, &Contender::ALL);
    let cases = chosen(&flags.cases, &Case::ALL);
    let cluster = Cluster::start(&flags, &contenders).await?;
    let result = measure(&flags, &cluster, &contenders, &cases).await;
    cluster.stop().await?;
    let Some(outcome) = result? else {
        return Ok(());
    };
    print!("{}", report::table(&outcome));
    if let Some(directory) = &flags.results {
        println!("\n{}", report::save(&outcome, directory)?.display());
    }
    let failed = report::failed_requests(&outcome);
    anyhow::ensure!(failed == 0, "{failed} requests failed");
    Ok(())
}

fn chosen<T: Copy>(some: &[T], all: &[T]) -> Vec<T> {
    if some.is_empty() {
        all.to_vec()
    } else {
        some.to_vec()
    }
}

async fn measure(
    flags: &RunFlags,
    cluster: &Cluster,
    contenders: &[Contender],
    cases: &[Case],
) -> anyhow::Result<Option<Outcome>> {
    let mut outcome = Outcome {
        began: now(),
        machine: Machine::this(),
        versions: versions(&cluster.programs().envoy, cluster.weft_proxy()),
        rounds: flags.rounds,
        seconds_per_case: flags.seconds_per_case,
        checks: BTreeMap::new(),
        proxies: cluster.commands(),
        commands: BTreeMap::new(),
        turns: BTreeMap::new(),
        memory: BTreeMap::new(),
    };
    let mut entrants = Vec::new();
    for contender in contenders {
        let findings = check::check(cluster, *contender).await?;
        eprintln!("{contender}: {}", findings.seen.join("; "));
        outcome.checks.insert(*contender, findings.seen);
        let proxies = cluster.proxies(*contender).await?;
        if let Some(proxies) = &proxies {
            let idle = Resident::of(proxies.pids())?;
            outcome
                .memory
                .insert(*contender, Memory { idle, loaded: None });
        }
        let target = cluster.target(*contender).await?;
        entrants.push(Entrant {
            contender: *contender,
            target,
            proxies,
        });
    }
    if flags.hold {
        eprintln!("run directory {}", cluster.run_dir().display());
        for Entrant {
            contender,
            target,
            proxies,
        } in &entrants
        {
            eprintln!("{contender}: {target:?} {proxies:?}");
        }
        tokio::signal::ctrl_c().await?;
        return Ok(None);
    }
    if flags.check_only {
        return Ok(None);
    }
    for round in 1..=flags.rounds {
        for case in cases {
            eprintln!("round {round} of {}: {}", flags.rounds, case.title());
            for entrant in entrants
                .iter()
                .filter(|entrant| case.takes(entrant.contender))
            {
                turn(flags, cluster, entrant, *case, &mut outcome).await?;
            }
        }
    }
    for Entrant {
        contender, proxies, ..
    } in &entrants
    {
        if let (Some(proxies), Some(memory)) = (proxies, outcome.memory.get_mut(contender)) {
            memory.loaded = Some(Resident::of(proxies.pids())?);
        }
    }
    Ok(Some(outcome))
}

async fn turn(
    flags: &RunFlags,
    cluster: &Cluster,
    entrant: &Entrant,
    case: Case,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let load = Load {
        mesh: cluster.mesh(),
        files: cluster.files(),
        contender: entrant.contender,
        target: &entrant.target,
        proxies: entrant.proxies.as_ref(),
        seconds: flags.seconds_per_case,
    };
    let turn = load.turn(case).await?;
    eprintln!(
        "  {:<9} {}",
        entrant.contender.name(),
        report::one_line(&turn)
    );
    let command = case
        .command(&entrant.target, flags.seconds_per_case, cluster.files())
        .join(" ");
    outcome
        .commands
        .entry(case)
        .or_default()
        .insert(entrant.contender, command);
    let turns = outcome.turns.entry(case).or_default();
    turns.entry(entrant.contender).or_default().push(turn);
    Ok(())
}

fn now() -> String {
    let now = time::OffsetDateTime::now_utc();
    now.format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default()
}
