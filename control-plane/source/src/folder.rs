//! The two ways to read folders: once, and for good.

use std::path::PathBuf;

use tokio::sync::mpsc;
use weft_model::{Severity, World};

use crate::batch::Batch;
use crate::collection::Collection;
use crate::diagnostic::Diagnostic;
use crate::files::Files;
use crate::locate::Locator;
use crate::objects::Objects;
use crate::watch::{Refresher, Watch};

/// How many batches may wait for their reader; further changes wait on disk.
const BATCHES_AHEAD: usize = 8;

/// Everything that the given folders and files hold.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The objects in the model.
    pub world: World,
    /// The objects without faults, in their YAML types.
    pub objects: Objects,
    /// What is wrong, sorted by place. Compile finds the rest.
    pub diagnostics: Vec<Diagnostic>,
    /// Finds the lines of compile's findings.
    pub locator: Locator,
}

/// Reads folders (recursively) and files once. Total: what cannot be read is a diagnostic.
pub fn load(paths: &[PathBuf]) -> Loaded {
    let look = Files::new(paths.to_vec(), Severity::Error).look();
    let mut collection = Collection::default();
    let batch = collection
        .update(look.updates, look.findings)
        .unwrap_or_default();
    Loaded {
        world: collection.world().clone(),
        objects: collection.objects().clone(),
        diagnostics: batch.diagnostics,
        locator: batch.locator,
    }
}

/// The source could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No thread for the watch.
    #[error("cannot start the thread that watches the folders: {0}")]
    Thread(#[source] std::io::Error),
    /// The watch ended before it had listed the folders.
    #[error("the thread that watches the folders ended early")]
    Ended,
}

/// Folders and files that are followed as they change. Dropping it ends the watch.
#[derive(Debug)]
pub struct FolderSource {
    batches: mpsc::Receiver<Batch>,
    watch: Watch,
}

impl FolderSource {
    /// Lists the folders and files once, and follows them from then on. The batch is all that they
    /// hold. A path that does not exist is waited for.
    ///
    /// # Errors
    /// When the thread that reads and watches cannot be started, or fails.
    pub async fn open(paths: Vec<PathBuf>) -> Result<(Self, Batch), OpenError> {
        let mut source = Self::start(paths)?;
        let first = source.next().await.ok_or(OpenError::Ended)?;
        Ok((source, first))
    }

    /// As [`FolderSource::open`], but does not wait: the first batch is all that the folders hold.
    ///
    /// # Errors
    /// When the thread that reads and watches cannot be started.
    pub fn start(paths: Vec<PathBuf>) -> Result<Self, OpenError> {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let watch = Watch::start(paths, sender).map_err(OpenError::Thread)?;
        Ok(Self { batches, watch })
    }

    /// A handle by which others ask for a look at the files.
    pub fn refresher(&self) -> Refresher {
        self.watch.refresher()
    }

    /// Waits for the next change; none when the watch has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Batch> {
        self.batches.recv().await
    }
}

impl Drop for FolderSource {
    fn drop(&mut self) {
        // The thread may be waiting for room in the channel.
        self.batches.close();
        self.watch.stop();
    }
}

#[cfg(test)]
mod tests;
