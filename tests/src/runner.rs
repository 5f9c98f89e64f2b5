//! Runs the tests of a suite: at most two at once, each beside what it may run beside, and at the end a
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
    pub concurrency: Concurrency,
    /// Why it cannot run here, where that is so: it says so and counts neither as passed nor as failed.
    pub possible: Check,
    /// What it does.
    pub run: Run,
}

/// Beside what a test may run. In a suite whose tests share nothing (each has a mesh of its own) all but
/// [`Concurrency::Alone`] are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// Shares the cluster with other tests.
    Shared,
    /// Does not use the cluster: beside any but those that run alone.
    Independent,
    /// Changes the cluster for everybody in it: beside independent tests only.
    Disruptive,
    /// Alone on the machine: what is measured, or needs both cores.
    Alone,
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

/// Names a test, whose body is the function of that name, and its fixture: `test!(alone name, fixture)`.
#[macro_export]
macro_rules! test {
    ($name:ident, $fixture:expr) => {
        $crate::runner::Test {
            name: stringify!($name),
            concurrency: $crate::runner::Concurrency::Shared,
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
            concurrency: $crate::runner::Concurrency::Alone,
            ..$crate::test!($name, $fixture)
        }
    };
}

/// Names a test in the cluster: `cluster_test!(disruptive name)` (a [`Concurrency`]), `cluster_test!(own alone
/// name)` where it needs the cluster that the suite starts itself.
#[macro_export]
macro_rules! cluster_test {
    ($name:ident) => {
        $crate::runner::Test {
            name: stringify!($name),
            concurrency: $crate::runner::Concurrency::Shared,
            possible: $crate::runner::anywhere,
            run: |name| {
                Box::pin($crate::cluster::in_cluster(name, |trial| {
                    Box::pin($name(trial))
                }))
            },
        }
    };
    (independent $name:ident) => {
        $crate::runner::Test {
            concurrency: $crate::runner::Concurrency::Independent,
            ..$crate::cluster_test!($name)
        }
    };
    (disruptive $name:ident) => {
        $crate::runner::Test {
            concurrency: $crate::runner::Concurrency::Disruptive,
            ..$crate::cluster_test!($name)
        }
    };
    (alone $name:ident) => {
        $crate::runner::Test {
            concurrency: $crate::runner::Concurrency::Alone,
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

/// Locks between tests: `machine` is held for writing by who runs alone and for reading by all others,
/// `shared` (the cluster) for writing by who disrupts it and for reading by who shares it.
#[derive(Debug, Default)]
struct Turn {
    machine: RwLock<()>,
    shared: RwLock<()>,
}

impl Turn {
    /// Waits for it, and holds it until what is returned goes.
    fn take(&self, concurrency: Concurrency) -> impl Sized {
        let Self { machine, shared } = self;
        match concurrency {
            Concurrency::Shared => (Some(read(machine)), Some(read(shared)), None),
            Concurrency::Independent => (Some(read(machine)), None, None),
            Concurrency::Disruptive => (Some(read(machine)), None, Some(write(shared))),
            Concurrency::Alone => (None, None, Some(write(machine))),
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
    /// The next one for a thread that takes them in this order of kinds.
    fn next(&self, order: &[Concurrency]) -> Option<Test> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = order.iter().find_map(|concurrency| {
            waiting
                .iter()
                .position(|test| test.concurrency == *concurrency)
        });
        waiting.remove(found?)
    }
}

/// While one thread runs tests that need the cluster to themselves, the other runs those that do not use it.
const ORDERS: [[Concurrency; 4]; 2] = {
    use Concurrency::{Alone, Disruptive, Independent, Shared};
    [
        [Shared, Disruptive, Independent, Alone],
        [Shared, Independent, Disruptive, Alone],
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
    let _turn = turn.take(test.concurrency);
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

    fn named(name: &'static str, concurrency: Concurrency) -> Test {
        Test {
            name,
            concurrency,
            possible: anywhere,
            run: |_| Box::pin(async { Ok(()) }),
        }
    }

    #[test]
    fn what_is_independent_runs_beside_what_disrupts() {
        let queue = Queue(Mutex::new(VecDeque::from([
            named("load", Concurrency::Alone),
            named("outage", Concurrency::Disruptive),
            named("chart", Concurrency::Independent),
            named("status", Concurrency::Shared),
            named("upgrade", Concurrency::Disruptive),
        ])));
        let [one, other] = &ORDERS;
        let mut taken = Vec::new();
        for order in [one, other, one, other, one, other] {
            taken.extend(queue.next(order).map(|test| test.name));
        }
        assert_eq!(taken, ["status", "chart", "outage", "upgrade", "load"]);
    }

    #[test]
    fn alone_on_the_machine_and_one_disruptive_in_the_cluster() {
        let turn = Turn::default();
        let held = (
            turn.take(Concurrency::Disruptive),
            turn.take(Concurrency::Independent),
        );
        assert!(turn.shared.try_read().is_err());
        assert!(turn.machine.try_write().is_err());
        drop(held);
        let held = turn.take(Concurrency::Alone);
        assert!(turn.machine.try_read().is_err());
        drop(held);
        let _held = (
            turn.take(Concurrency::Shared),
            turn.take(Concurrency::Shared),
        );
        assert!(turn.shared.try_write().is_err());
    }
}
