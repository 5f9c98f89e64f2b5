//! Leaving: serving → draining (goodbye is said, accepting goes on) → closed (no more accepting) →
//! ended (what is left is cut).
//!
//! [`Leaving`] is the process's own state, moved forward by the one who owns the process's life.
//! [`Drain`] is what a connection sees of it, joined with the end of that connection's own life: a
//! hop lives no longer than its peer's certificate, an hour, or the trust anchor it rests on.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How far leaving has come. Only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Nobody leaves.
    Serving = 0,
    /// Peers are told to go (GOAWAY, `Connection: close`); new connections are still accepted.
    Draining = 1,
    /// No new connection is accepted; the open ones finish.
    Closed = 2,
    /// What is still open is cut.
    Ended = 3,
}

/// The process's leaving, shared by all workers. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Leaving(Arc<State>);

#[derive(Debug, Default)]
struct State {
    phase: AtomicU8,
    changed: Notify,
    open: AtomicUsize,
    emptied: Notify,
}

impl Leaving {
    /// A process that serves.
    pub fn new() -> Self {
        Self::default()
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            2 => Phase::Closed,
            _ => Phase::Ended,
        }
    }

    /// Moves to `phase` unless it is already there or further.
    pub fn advance(&self, phase: Phase) {
        if self.0.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8 {
            self.0.changed.notify_waiters();
        }
    }

    /// Returns once `phase` is reached.
    pub async fn reached(&self, phase: Phase) {
        loop {
            let changed = self.0.changed.notified();
            if self.phase() >= phase {
                return;
            }
            changed.await;
        }
    }

    /// Connections open now, inbound and outbound.
    pub fn open_connections(&self) -> usize {
        self.0.open.load(Ordering::Acquire)
    }

    /// Returns once no connection is open.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.open_connections() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// The view of a connection that was accepted: goodbye is said when the process leaves.
    pub fn drain(&self) -> Drain {
        Drain {
            leaving: self.clone(),
            goodbye: Phase::Draining,
            life: None,
        }
    }

    /// The view of a connection that was dialled: it serves those who are still served, to the end.
    pub(crate) fn hop_drain(&self) -> Drain {
        Drain {
            goodbye: Phase::Ended,
            ..self.drain()
        }
    }

    /// Counts one connection as open until the guard is dropped.
    pub(crate) fn open(&self) -> OpenConnection {
        self.0.open.fetch_add(1, Ordering::AcqRel);
        OpenConnection(self.clone())
    }
}

/// Counts one open connection.
#[derive(Debug)]
pub(crate) struct OpenConnection(Leaving);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if self.0.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.0.emptied.notify_waiters();
        }
    }
}

/// How long a hop that must go is given to finish what is under way on it.
const GOODBYE_GRACE: Duration = Duration::from_secs(30);

/// The life of one hop, which ends apart from the process's.
#[derive(Debug)]
pub(crate) struct Life {
    /// When goodbye is said.
    retire: Instant,
    /// When the peer's certificate ends and the hop is cut.
    end: Instant,
    /// Since when the trust anchor it rests on is gone.
    revoked: OnceLock<Instant>,
    changed: Notify,
}

impl Life {
    pub(crate) fn new(retire: Instant, end: Instant) -> Self {
        Self {
            retire,
            end,
            revoked: OnceLock::new(),
            changed: Notify::new(),
        }
    }

    /// Ends trust in the peer: goodbye now, cut after a grace.
    pub(crate) fn revoke(&self) {
        if self.revoked.set(Instant::now()).is_ok() {
            self.changed.notify_waiters();
        }
    }

    fn is_over(&self) -> bool {
        self.revoked.get().is_some() || Instant::now() >= self.retire
    }

    pub(crate) async fn over(&self) {
        let changed = self.changed.notified();
        if self.is_over() {
            return;
        }
        tokio::select! {
            () = changed => {}
            () = sleep_until(self.retire) => {}
        }
    }

    pub(crate) async fn ended(&self) {
        loop {
            let changed = self.changed.notified();
            let end = match self.revoked.get() {
                Some(since) => self.end.min(*since + GOODBYE_GRACE),
                None => self.end,
            };
            tokio::select! {
                () = changed => {}
                () = sleep_until(end) => return,
            }
        }
    }
}

/// When a connection is to say goodbye, and when it is cut. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Drain {
    leaving: Leaving,
    /// How far leaving must have come for goodbye to be said.
    goodbye: Phase,
    life: Option<Arc<Life>>,
}

impl Drain {
    pub(crate) fn with_life(mut self, life: Arc<Life>) -> Self {
        self.life = Some(life);
        self
    }

    /// Is it time to say goodbye? Cheap enough for every request.
    pub fn is_draining(&self) -> bool {
        self.leaving.phase() >= self.goodbye || self.life.as_ref().is_some_and(|l| l.is_over())
    }

    /// Returns when it is time to say goodbye (GOAWAY, `Connection: close`).
    pub async fn draining(&self) {
        match &self.life {
            None => self.leaving.reached(self.goodbye).await,
            Some(life) => tokio::select! {
                () = self.leaving.reached(self.goodbye) => {}
                () = life.over() => {}
            },
        }
    }

    /// Returns when the connection must end, whatever is under way on it. proxy/net cuts the
    /// connections it accepted by itself; whoever holds a hop from [`crate::Connector`] watches this.
    pub async fn ended(&self) {
        match &self.life {
            None => self.leaving.reached(Phase::Ended).await,
            Some(life) => tokio::select! {
                () = self.leaving.reached(Phase::Ended) => {}
                () = life.ended() => {}
            },
        }
    }
}
