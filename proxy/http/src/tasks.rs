//! Tasks that outlive the call that starts them, each with an owner: the worker's [`Tasks`], which aborts
//! them when it goes, or one exchange's [`Bound`], likewise.

use std::cell::RefCell;
use std::future::Future;

use tokio::task::{JoinHandle, JoinSet};

/// The tasks of one worker: drivers of pooled connections, dials that several requests wait for.
#[derive(Debug, Default)]
pub(crate) struct Tasks(RefCell<JoinSet<()>>);

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.0.borrow_mut();
        // What has ended is let go here rather than kept until the worker goes.
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(task);
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Bound(JoinHandle<()>);

impl Bound {
    pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) -> Self {
        Self(tokio::task::spawn_local(task))
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.0.abort();
    }
}
