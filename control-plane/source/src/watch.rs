//! The thread that follows files: waits for a burst of changes to end, looks, hands out a batch.
//!
//! The events of the operating system say when to look, never what changed: a look compares
//! everything with the last one, so nothing depends on no event being lost. A look every few
//! seconds is the safety net.

mod burst;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fs, io, os::unix::fs::MetadataExt};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, oneshot};
use weft_model::Severity;

use crate::batch::Batch;
use crate::collection::Collection;
use crate::files::{Files, Look};
use burst::Burst;

/// How long until a look without any event.
const RESCAN: Duration = Duration::from_secs(2);

/// What the thread waits for.
enum Signal {
    Event(notify::Result<notify::Event>),
    Refresh(oneshot::Sender<u64>),
    Stop,
}

/// Asks a source to look at its files now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Refresher(Sender<Signal>);

impl Refresher {
    /// Looks at the files, and returns when everything that was on disk at the call has been
    /// handed out: the number of the last [`Batch`] by then, which may still wait to be taken.
    /// None when the source has ended.
    pub async fn refresh(&self) -> Option<u64> {
        let (done, number) = oneshot::channel();
        self.0.send(Signal::Refresh(done)).ok()?;
        number.await.ok()
    }
}

/// The running thread.
#[derive(Debug)]
pub(crate) struct Watch {
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts the thread. Its first batch is everything there is.
    pub(crate) fn start(paths: Vec<PathBuf>, batches: mpsc::Sender<Batch>) -> io::Result<Self> {
        let (signals, inbox) = channel();
        let events = signals.clone();
        let builder = std::thread::Builder::new().name("weft-source".to_owned());
        let thread = builder.spawn(move || Follower::new(paths, &events, batches).run(&inbox))?;
        Ok(Self {
            signals,
            thread: Some(thread),
        })
    }

    pub(crate) fn refresher(&self) -> Refresher {
        Refresher(self.signals.clone())
    }

    /// Ends the thread and waits for it.
    pub(crate) fn stop(&mut self) {
        // Fails only when the thread has ended.
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches the folders panicked");
        }
    }
}

/// The state of the thread.
struct Follower {
    files: Files,
    collection: Collection,
    folders: Folders,
    batches: mpsc::Sender<Batch>,
}

impl Follower {
    fn new(paths: Vec<PathBuf>, events: &Sender<Signal>, batches: mpsc::Sender<Batch>) -> Self {
        Self {
            folders: Folders::new(&paths, events.clone()),
            files: Files::new(paths, Severity::Warning),
            collection: Collection::default(),
            batches,
        }
    }

    fn run(mut self, inbox: &Receiver<Signal>) {
        let mut burst = Burst::default();
        let mut refreshes = Vec::new();
        let mut rescan = Instant::now();
        loop {
            let due = burst.due().unwrap_or(rescan);
            match inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Signal::Event(Ok(event))) => {
                    if self.folders.concerns(&event) {
                        burst.note(&event, Instant::now());
                    }
                }
                Ok(Signal::Event(Err(error))) => {
                    tracing::warn!(%error, "watching folders failed; they are looked at every few seconds");
                }
                Ok(Signal::Refresh(done)) => {
                    refreshes.push(done);
                    rescan = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) => {
                    burst = Burst::default();
                    rescan = Instant::now() + RESCAN;
                    if !self.look() {
                        return;
                    }
                    for done in refreshes.drain(..) {
                        // Fails when nobody waits any more.
                        let _ = done.send(self.collection.batches());
                    }
                }
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks at everything and hands out what changed. False when nobody takes it any more.
    fn look(&mut self) -> bool {
        let mut look = self.files.look();
        // What came into a folder between the look and the watch is only found by another look.
        while self.folders.follow(&look, self.files.roots()) {
            let again = self.files.look();
            look.updates.extend(again.updates);
            look.folders = again.folders;
            look.findings = again.findings;
        }
        let Look {
            updates, findings, ..
        } = look;
        match self.collection.update(updates, findings) {
            Some(batch) => self.batches.blocking_send(batch).is_ok(),
            None => !self.batches.is_closed(),
        }
    }
}

/// The folders that are watched.
struct Folders {
    watcher: Option<RecommendedWatcher>,
    roots: Vec<PathBuf>,
    watched: BTreeMap<PathBuf, (u64, u64)>,
}

impl Folders {
    fn new(roots: &[PathBuf], events: Sender<Signal>) -> Self {
        let watcher = notify::recommended_watcher(move |event| {
            // Fails only when the thread that listens has ended.
            let _ = events.send(Signal::Event(event));
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "cannot watch folders; they are looked at every few seconds");
        }
        Self {
            watcher: watcher.ok(),
            roots: roots.iter().map(|root| absolute(root)).collect(),
            watched: BTreeMap::new(),
        }
    }

    /// Whether the event is about something in a root, or on the way to one.
    fn concerns(&self, event: &notify::Event) -> bool {
        let near = |path: &PathBuf| {
            let mut roots = self.roots.iter();
            roots.any(|root| path.starts_with(root) || root.starts_with(path))
        };
        event.need_rescan() || event.paths.iter().any(near)
    }

    /// Watches the folders of the look and those that hold the roots. Whether one of them is new.
    fn follow(&mut self, look: &Look, roots: &[PathBuf]) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let folders = look.folders.iter();
        let mut wanted: BTreeMap<_, _> = folders.map(|(path, id)| (absolute(path), *id)).collect();
        for root in roots {
            let root = absolute(root);
            let above = root.ancestors().skip(1).find_map(|path| {
                let metadata = fs::metadata(path).ok()?;
                Some((path.to_owned(), (metadata.dev(), metadata.ino())))
            });
            wanted.extend(above);
        }
        let mut is_new = false;
        for (path, id) in &wanted {
            let before = self.watched.get(path);
            if before == Some(id) {
                continue;
            }
            if before.is_some() {
                // The watch of a folder that was replaced ended with it.
                let _ = watcher.unwatch(path);
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => is_new = true,
                Err(error) => tracing::debug!(path = %path.display(), %error, "cannot watch"),
            }
        }
        for path in self
            .watched
            .keys()
            .filter(|path| !wanted.contains_key(*path))
        {
            // Fails when the folder is gone, and the watch with it.
            let _ = watcher.unwatch(path);
        }
        self.watched = wanted;
        is_new
    }
}

/// The path from the root of the file system; events come with such.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
