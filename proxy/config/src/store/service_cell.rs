//! The place where the active state of one service is found.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::{ArcSwap, Guard};

use crate::service::Service;

/// Namespace and name of a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The active state of one service, swapped whole.
#[derive(Debug)]
pub struct ServiceCell {
    name: ServiceName,
    active: ArcSwap<Service>,
    used: Used,
}

impl ServiceCell {
    pub(super) fn new(name: ServiceName, service: Arc<Service>, sweeps: Sweeps) -> Self {
        Self {
            name,
            active: ArcSwap::new(service),
            used: Used::new(sweeps),
        }
    }

    /// Which service.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// The active state; remembers that it is used.
    pub fn load(&self) -> Guard<Arc<Service>> {
        self.used.touch();
        self.active.load()
    }

    pub(super) fn replace(&self, service: Arc<Service>) {
        self.active.store(service);
    }

    pub(super) fn idle_sweeps(&self) -> u32 {
        self.used.idle_sweeps()
    }
}

/// A clock that costs readers nothing: it counts the writer's sweeps.
#[derive(Debug, Clone, Default)]
pub(super) struct Sweeps(Arc<AtomicU32>);

impl Sweeps {
    pub(super) fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// When something was used last, in sweeps.
#[derive(Debug)]
pub(super) struct Used {
    at: AtomicU32,
    sweeps: Sweeps,
}

impl Used {
    pub(super) fn new(sweeps: Sweeps) -> Self {
        Self {
            at: AtomicU32::new(sweeps.0.load(Ordering::Relaxed)),
            sweeps,
        }
    }

    /// Writes only once per sweep, so that workers do not fight over the line.
    pub(super) fn touch(&self) {
        let now = self.sweeps.0.load(Ordering::Relaxed);
        if self.at.load(Ordering::Relaxed) != now {
            self.at.store(now, Ordering::Relaxed);
        }
    }

    pub(super) fn idle_sweeps(&self) -> u32 {
        let now = self.sweeps.0.load(Ordering::Relaxed);
        now.wrapping_sub(self.at.load(Ordering::Relaxed))
    }
}
