//! Runs the tests of a suite: at most two meshes at once, some tests alone, artifacts of what
//! fails, and at the end a look at what was left behind.
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

use crate::fixture::{Fixture, TestMesh, run_root};

/// Longer than any test takes.
const LIMIT: Duration = Duration::from_secs(240);

type Outcome = anyhow::Result<()>;
/// The body of a test.
pub type Body = for<'a> fn(&'a TestMesh) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// One test.
#[derive(Clone, Debug)]
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// Whether it runs alone: load, kill and roll-over tests.
    pub alone: bool,
    /// Its mesh.
    pub fixture: fn() -> anyhow::Result<Fixture>,
    /// What it does with it.
    pub body: Body,
}

/// Names a test, its fixture and its body: `test!(alone name, fixture, body)`.
#[macro_export]
macro_rules! test {
    ($name:ident, $fixture:expr) => {
        $crate::runner::Test {
            name: stringify!($name),
            alone: false,
            fixture: $fixture,
            body: |mesh| Box::pin($name(mesh)),
        }
    };
    (alone $name:ident, $fixture:expr) => {
        $crate::runner::Test {
            alone: true,
            ..$crate::test!($name, $fixture)
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

/// Runs the suite. Where this machine permits no namespaces every test fails and says so.
pub fn main(tests: &[Test]) -> ExitCode {
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
    let before = Snapshot::take(&run_root());
    let (passed, mut failed) = run_all(&chosen, arguments.threads);
    match before.and_then(|before| nothing_left(&before)) {
        Ok(()) => {}
        Err(error) => {
            println!("test nothing_is_left_behind ... FAILED\n{error:#}");
            failed += 1;
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {passed} passed; {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn nothing_left(before: &Snapshot) -> anyhow::Result<()> {
    let after = Snapshot::take(&run_root())?;
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

fn run_all(tests: &[Test], threads: usize) -> (usize, usize) {
    let (shared, alone): (Vec<Test>, Vec<Test>) =
        tests.iter().cloned().partition(|test| !test.alone);
    let queue = Arc::new(Mutex::new(VecDeque::from([shared, alone].concat())));
    let counts = Mutex::new((0, 0));
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
                    let good = take_turn(&test, &turn);
                    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                    if good { counts.0 += 1 } else { counts.1 += 1 }
                }
            });
        }
    });
    counts.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn take_turn(test: &Test, turn: &Turn) -> bool {
    if test.alone {
        let _turn = turn.write().unwrap_or_else(PoisonError::into_inner);
        run_one(test)
    } else {
        let _turn = turn.read().unwrap_or_else(PoisonError::into_inner);
        run_one(test)
    }
}

fn run_one(test: &Test) -> bool {
    let start = Instant::now();
    let run = || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(in_mesh(test))
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

async fn in_mesh(test: &Test) -> Outcome {
    let mesh = (test.fixture)()?.start(test.name).await?;
    let body = AssertUnwindSafe((test.body)(&mesh)).catch_unwind();
    let result = match tokio::time::timeout(LIMIT, body).await {
        Ok(Ok(result)) => result,
        // The message has been printed where it panicked.
        Ok(Err(_)) => Err(anyhow::anyhow!("an assertion does not hold")),
        Err(_) => Err(anyhow::anyhow!("not done within {LIMIT:?}")),
    };
    let result = match result {
        Ok(()) => Ok(()),
        Err(error) => Err(match mesh.keep_artifacts().await {
            Ok(dir) => error.context(format!("artifacts in {}", dir.display())),
            Err(lost) => error.context(format!("no artifacts: {lost:#}")),
        }),
    };
    mesh.stop().await?;
    result
}
