//! Runs the tests of a suite: at most two at once, some tests alone, and at the end a look at what
//! was left behind. What a test is given (a mesh, a part of a cluster) is its own business.
//!
//! It speaks libtest's language as far as the scripts need it: `NAME… [--exact] [--list]
//! [--test-threads N]`, and one line `test result: …` at the end.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
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
    /// Whether it runs alone: load, kill and roll-over tests.
    pub alone: bool,
    /// Why it cannot run here, where that is so: it says so and counts neither as passed nor as failed.
    pub possible: Check,
    /// What it does.
    pub run: Run,
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
            alone: false,
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
            alone: true,
            ..$crate::test!($name, $fixture)
        }
    };
}

/// Names a test in the cluster: `cluster_test!(alone name)`, `cluster_test!(own alone name)` where it
/// needs the cluster that the suite starts itself.
#[macro_export]
macro_rules! cluster_test {
    ($name:ident) => {
        $crate::runner::Test {
            name: stringify!($name),
            alone: false,
            possible: $crate::runner::anywhere,
            run: |name| {
                Box::pin($crate::cluster::in_cluster(name, |trial| {
                    Box::pin($name(trial))
                }))
            },
        }
    };
    (alone $name:ident) => {
        $crate::runner::Test {
            alone: true,
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
            println!("test {name} ... FAILED\n{error:#}");
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

/// Shared tests hold it for reading, those that run alone for writing.
type Turn = RwLock<()>;

#[derive(Debug, Default)]
struct Counts {
    passed: usize,
    failed: usize,
    not_run: usize,
}

fn run_all(tests: &[Test], threads: usize) -> Counts {
    let (shared, alone): (Vec<Test>, Vec<Test>) =
        tests.iter().cloned().partition(|test| !test.alone);
    let queue = Arc::new(Mutex::new(VecDeque::from([shared, alone].concat())));
    let counts = Mutex::new(Counts::default());
    let turn = Turn::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(test) = next else { return };
                    let verdict = take_turn(&test, &turn);
                    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
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
    Some(if test.alone {
        let _turn = turn.write().unwrap_or_else(PoisonError::into_inner);
        run_one(test)
    } else {
        let _turn = turn.read().unwrap_or_else(PoisonError::into_inner);
        run_one(test)
    })
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
        .unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")));
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

/// Runs a test's body: not for ever, and a panic is a failure like another.
pub async fn bounded(body: impl Future<Output = Outcome>) -> Outcome {
    let body = AssertUnwindSafe(body).catch_unwind();
    match tokio::time::timeout(LIMIT, body).await {
        Ok(Ok(result)) => result,
        // The message has been printed where it panicked.
        Ok(Err(_)) => Err(anyhow::anyhow!("an assertion does not hold")),
        Err(_) => Err(anyhow::anyhow!("not done within {LIMIT:?}")),
    }
}
