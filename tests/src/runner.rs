//! Runs the tests of a suite: at most two at once, each in the company that it bears, and at the end a
//! look at what was left behind. What a test is given (a mesh, a part of a cluster) is its own business.
//!
//! It speaks libtest's language as far as the scripts need it: `NAME… [--exact] [--list]
//! [--test-threads N]`, and one line `test result: …` at the end.

use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::FutureExt;
use weft_local::leak::Snapshot;

use crate::fixture::run_root;

/// Longer than any test takes, also where others have the cores: the longest takes a minute and a half beside three busy loops.
const LIMIT: Duration = Duration::from_secs(480);

/// How a test ends.
pub type Outcome = anyhow::Result<()>;
/// A test that runs, from its name.
pub type Run = fn(&'static str) -> Pin<Box<dyn Future<Output = Outcome>>>;

/// One test.
#[derive(Clone, Debug)]
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// Beside what it may run.
    pub company: Company,
    /// Why it cannot run here, where that is so: it says so and counts neither as passed nor as failed.
    pub possible: Check,
    /// What it does.
    pub run: Run,
}

/// Beside what a test runs. In a suite whose tests share nothing (each has a mesh of its own) all but
/// [`Company::Nobody`] are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Others that share what it uses (the cluster), and any that do not.
    Any,
    /// Any: it uses nothing of what is shared.
    Apart,
    /// Those apart only: it changes what is shared under everybody's feet.
    OnlyApart,
    /// Nobody: load, kill and roll-over tests.
    Nobody,
}

/// What is done or looked at outside the tests.
pub type Check = fn() -> Outcome;

/// The [`Test::possible`] of most.
pub fn anywhere() -> Outcome {
    Ok(())
}

/// What is done around the tests of a suite.
#[derive(Clone, Debug)]
pub struct Suite {
    /// What the command lines of the suite's processes on this machine contain. `None` where it has
    /// none: there is no looking for leaks.
    pub marker: Option<String>,
    /// Before the first test.
    pub start: Check,
    /// After all tests, if none was left out: what they must have shown together, by its name.
    pub whole: Option<(&'static str, Check)>,
    /// After the last one, even if the start failed.
    pub stop: Check,
}

/// Names a test, its fixture and its body: `test!(alone name, fixture, body)`.
#[macro_export]
macro_rules! test {
    ($name:ident, $fixture:expr) => {
        $crate::runner::Test {
            name: stringify!($name),
            company: $crate::runner::Company::Any,
            possible: $crate::runner::anywhere,
            run: |name| {
                Box::pin($crate::fixture::in_mesh(name, $fixture, |mesh| {
                    Box::pin($name(mesh))
                }))
            },
        }
    };
    (alone $name:ident, $fixture:expr) => {
        $crate::runner::Test {
            company: $crate::runner::Company::Nobody,
            ..$crate::test!($name, $fixture)
        }
    };
}

/// Names a test in the cluster: `cluster_test!(only_apart name)` (a [`Company`]), `cluster_test!(own nobody
/// name)` where it needs the cluster that the suite starts itself.
#[macro_export]
macro_rules! cluster_test {
    ($name:ident) => {
        $crate::runner::Test {
            name: stringify!($name),
            company: $crate::runner::Company::Any,
            possible: $crate::runner::anywhere,
            run: |name| {
                Box::pin($crate::cluster::in_cluster(name, |trial| {
                    Box::pin($name(trial))
                }))
            },
        }
    };
    (apart $name:ident) => {
        $crate::runner::Test {
            company: $crate::runner::Company::Apart,
            ..$crate::cluster_test!($name)
        }
    };
    (only_apart $name:ident) => {
        $crate::runner::Test {
            company: $crate::runner::Company::OnlyApart,
            ..$crate::cluster_test!($name)
        }
    };
    (nobody $name:ident) => {
        $crate::runner::Test {
            company: $crate::runner::Company::Nobody,
            ..$crate::cluster_test!($name)
        }
    };
    (own $($rest:ident)+) => {
        $crate::runner::Test {
            possible: $crate::cluster::is_own,
            ..$crate::cluster_test!($($rest)+)
        }
    };
}

#[derive(Debug, Default)]
struct Arguments {
    names: Vec<String>,
    exact: bool,
    list: bool,
    threads: usize,
}

impl Arguments {
    fn read() -> anyhow::Result<Self> {
        let mut arguments = Self {
            threads: 2,
            ..Self::default()
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--exact" => arguments.exact = true,
                "--list" => arguments.list = true,
                "--test-threads" => {
                    arguments.threads = words
                        .next()
                        .context("--test-threads has no number")?
                        .parse()?;
                }
                _ => match word.strip_prefix("--test-threads=") {
                    Some(number) => arguments.threads = number.parse()?,
                    None if word.starts_with('-') => anyhow::bail!("unknown flag {word}"),
                    None => arguments.names.push(word),
                },
            }
        }
        arguments.threads = arguments.threads.clamp(1, 2);
        Ok(arguments)
    }

    fn chosen(&self, test: &Test) -> bool {
        let matches = |name: &String| match self.exact {
            true => test.name == name,
            false => test.name.contains(name.as_str()),
        };
        self.names.is_empty() || self.names.iter().any(matches)
    }
}

/// Runs a suite of meshes. Where this machine permits no namespaces every test fails and says so.
pub fn main(tests: &[Test]) -> ExitCode {
    let suite = Suite {
        marker: Some(run_root()),
        start: || Ok(()),
        whole: None,
        stop: || Ok(()),
    };
    main_in(&suite, tests)
}

/// Runs a suite.
pub fn main_in(suite: &Suite, tests: &[Test]) -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let chosen: Vec<Test> = tests
        .iter()
        .filter(|test| arguments.chosen(test))
        .cloned()
        .collect();
    if arguments.list {
        for test in &chosen {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    let before = suite.marker.as_deref().map(Snapshot::take);
    let mut failed = 0;
    let mut check = |name: &str, outcome: Outcome| {
        if let Err(error) = &outcome {
            println!("test {name} ... FAILED (0.0 s)\n{error:#}\n");
            failed += 1;
        }
        outcome.is_ok()
    };
    let mut counts = Counts::default();
    if check("the_suite_starts", (suite.start)()) {
        counts = run_all(&chosen, arguments.threads);
        if let Some((name, whole)) = suite.whole
            && chosen.len() == tests.len()
        {
            match counts.not_run {
                0 => drop(check(name, whole())),
                not_run => println!("test {name} ... NOT RUN: {not_run} of the tests were not"),
            }
        }
    }
    check("the_suite_stops", (suite.stop)());
    if let (Some(marker), Some(before)) = (&suite.marker, before) {
        let left = before.and_then(|before| nothing_left(marker, &before));
        check("nothing_is_left_behind", left);
    }
    let failed = counts.failed + failed;
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let not_run = match counts.not_run {
        0 => String::new(),
        not_run => format!("; {not_run} not run"),
    };
    let passed = counts.passed;
    println!("test result: {verdict}. {passed} passed; {failed} failed{not_run}");
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn nothing_left(marker: &str, before: &Snapshot) -> Outcome {
    let after = Snapshot::take(marker)?;
    let left: Vec<String> = after
        .since(before)
        .iter()
        .map(ToString::to_string)
        .collect();
    anyhow::ensure!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    Ok(())
}

/// What keeps tests out of each other's way: whoever may have company holds `machine` for reading, and
/// whoever shares (the cluster) `shared`; who bears no other holds it for writing.
#[derive(Debug, Default)]
struct Turn {
    machine: RwLock<()>,
    shared: RwLock<()>,
}

impl Turn {
    /// Waits for it, and holds it until what is returned goes.
    fn take(&self, company: Company) -> impl Sized {
        let Self { machine, shared } = self;
        match company {
            Company::Any => (Some(read(machine)), Some(read(shared)), None),
            Company::Apart => (Some(read(machine)), None, None),
            Company::OnlyApart => (Some(read(machine)), None, Some(write(shared))),
            Company::Nobody => (None, None, Some(write(machine))),
        }
    }
}

fn read(lock: &RwLock<()>) -> RwLockReadGuard<'_, ()> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(lock: &RwLock<()>) -> RwLockWriteGuard<'_, ()> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Counts {
    passed: usize,
    failed: usize,
    not_run: usize,
}

/// The tests that wait, in their order.
#[derive(Debug)]
struct Queue(Mutex<VecDeque<Test>>);

impl Queue {
    /// The next one for a thread that takes companies in this order.
    fn next(&self, order: &[Company]) -> Option<Test> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = order
            .iter()
            .find_map(|company| waiting.iter().position(|test| test.company == *company));
        waiting.remove(found?)
    }
}

/// While one thread takes what bears no other in the cluster, the other has what needs none.
const ORDERS: [[Company; 4]; 2] = {
    use Company::{Any, Apart, Nobody, OnlyApart};
    [
        [Any, OnlyApart, Apart, Nobody],
        [Any, Apart, OnlyApart, Nobody],
    ]
};

fn run_all(tests: &[Test], threads: usize) -> Counts {
    let queue = Queue(Mutex::new(tests.iter().cloned().collect()));
    let counts = Mutex::new(Counts::default());
    let turn = Turn::default();
    let (queue, turn, counts_of) = (&queue, &turn, &counts);
    std::thread::scope(|scope| {
        for order in ORDERS.iter().take(threads) {
            scope.spawn(move || {
                while let Some(test) = queue.next(order) {
                    let verdict = take_turn(&test, turn);
                    let mut counts = counts_of.lock().unwrap_or_else(PoisonError::into_inner);
                    match verdict {
                        Some(true) => counts.passed += 1,
                        Some(false) => counts.failed += 1,
                        None => counts.not_run += 1,
                    }
                }
            });
        }
    });
    counts.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Whether it passed; nothing where it cannot run.
fn take_turn(test: &Test, turn: &Turn) -> Option<bool> {
    if let Err(reason) = (test.possible)() {
        println!("test {} ... NOT RUN: {reason:#}", test.name);
        return None;
    }
    let _turn = turn.take(test.company);
    Some(run_one(test))
}

fn run_one(test: &Test) -> bool {
    let start = Instant::now();
    let run = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on((test.run)(test.name))
    };
    let result = std::panic::catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(anyhow::anyhow!("it panicked: {}", said(&*panic))));
    let seconds = start.elapsed().as_secs_f32();
    match &result {
        Ok(()) => println!("test {} ... ok ({seconds:.1} s)", test.name),
        Err(error) => println!(
            "test {} ... FAILED ({seconds:.1} s)\n{error:#}\n",
            test.name
        ),
    }
    result.is_ok()
}

/// What a panic said: an assertion's message. Where, is printed where it happened.
fn said(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    let said = owned.or_else(|| panic.downcast_ref::<&str>().copied());
    said.unwrap_or("without a message")
}

/// Runs a test's body: not for ever, and a panic is a failure like another.
pub async fn bounded(body: impl Future<Output = Outcome>) -> Outcome {
    let body = AssertUnwindSafe(body).catch_unwind();
    match tokio::time::timeout(LIMIT, body).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(anyhow::anyhow!("it panicked: {}", said(&*panic))),
        Err(_) => Err(anyhow::anyhow!("not done within {LIMIT:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &'static str, company: Company) -> Test {
        Test {
            name,
            company,
            possible: anywhere,
            run: |_| Box::pin(async { Ok(()) }),
        }
    }

    #[test]
    fn what_shares_nothing_runs_beside_what_bears_no_other() {
        let queue = Queue(Mutex::new(VecDeque::from([
            named("load", Company::Nobody),
            named("outage", Company::OnlyApart),
            named("chart", Company::Apart),
            named("status", Company::Any),
            named("upgrade", Company::OnlyApart),
        ])));
        let [one, other] = &ORDERS;
        let mut taken = Vec::new();
        for order in [one, other, one, other, one, other] {
            taken.extend(queue.next(order).map(|test| test.name));
        }
        assert_eq!(taken, ["status", "chart", "outage", "upgrade", "load"]);
    }

    #[test]
    fn nobody_beside_the_machine_and_one_at_a_time_in_the_cluster() {
        let turn = Turn::default();
        let held = (turn.take(Company::OnlyApart), turn.take(Company::Apart));
        assert!(turn.shared.try_read().is_err());
        assert!(turn.machine.try_write().is_err());
        drop(held);
        let held = turn.take(Company::Nobody);
        assert!(turn.machine.try_read().is_err());
        drop(held);
        let _held = (turn.take(Company::Any), turn.take(Company::Any));
        assert!(turn.shared.try_write().is_err());
    }
}
