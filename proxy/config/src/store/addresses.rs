//! The table of addresses: shards of immutable maps, swapped when a name comes or goes, so that readers
//! never wait. A cell lives through being asked for, answered, let go and asked for again.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Notify;

use super::service_cell::{ServiceCell, Sweeps, Used};
use crate::backend::Backend;

const SHARDS: usize = 16;

/// What the control plane said about an address.
#[derive(Debug)]
pub(super) enum Answer {
    Service {
        service: Arc<ServiceCell>,
        port: u16,
    },
    Workload(Arc<Backend>),
    Nobody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Nobody was asked.
    New = 0,
    /// The control plane was asked and has not answered.
    Asked = 1,
    /// Answered, and kept up to date.
    Live = 2,
    /// Answered once, no longer kept up to date.
    LetGo = 3,
}

#[derive(Debug)]
pub(super) struct AddressCell {
    phase: AtomicU8,
    answer: ArcSwapOption<Answer>,
    news: Notify,
    used: Used,
}

impl AddressCell {
    fn new(sweeps: Sweeps) -> Self {
        Self {
            phase: AtomicU8::new(Phase::New as u8),
            answer: ArcSwapOption::empty(),
            news: Notify::new(),
            used: Used::new(sweeps),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.phase.load(Ordering::Acquire) == Phase::Live as u8
    }

    pub(super) fn is_let_go(&self) -> bool {
        self.phase.load(Ordering::Acquire) == Phase::LetGo as u8
    }

    /// The answer while it is kept up to date; counts as use.
    pub(super) fn live_answer(&self) -> Option<Arc<Answer>> {
        if !self.is_live() {
            return None;
        }
        self.used.touch();
        self.answer.load_full()
    }

    /// The last answer there was.
    pub(super) fn last_answer(&self) -> Option<Arc<Answer>> {
        self.answer.load_full()
    }

    /// True for the one who has to ask.
    pub(super) fn ask(&self) -> bool {
        self.used.touch();
        [Phase::New, Phase::LetGo].into_iter().any(|from| {
            self.phase
                .compare_exchange(
                    from as u8,
                    Phase::Asked as u8,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                )
                .is_ok()
        })
    }

    /// Waits until it is live.
    pub(super) async fn answered(&self) -> Arc<Answer> {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // Registered before looking, so that no news is missed in between.
            news.as_mut().enable();
            if let Some(answer) = self.live_answer() {
                return answer;
            }
            news.await;
        }
    }

    pub(super) fn publish(&self, answer: Answer) {
        self.answer.store(Some(Arc::new(answer)));
        self.phase.store(Phase::Live as u8, Ordering::Release);
        self.news.notify_waiters();
    }

    pub(super) fn let_go(&self) {
        self.phase.store(Phase::LetGo as u8, Ordering::Release);
    }

    /// Sweeps since it, or the service behind it, was used.
    pub(super) fn idle_sweeps(&self) -> u32 {
        let own = self.used.idle_sweeps();
        match self.answer.load().as_deref() {
            Some(Answer::Service { service, .. }) => own.min(service.idle_sweeps()),
            _ => own,
        }
    }
}

type Shard = HashMap<SocketAddr, Arc<AddressCell>>;

#[derive(Debug, Default)]
pub(super) struct Addresses {
    hasher: RandomState,
    shards: [ArcSwap<Shard>; SHARDS],
    /// Names come and go one at a time.
    changing: Mutex<()>,
    count: AtomicUsize,
    pub(super) sweeps: Sweeps,
}

impl Addresses {
    fn shard(&self, address: SocketAddr) -> &ArcSwap<Shard> {
        &self.shards[self.hasher.hash_one(address) as usize % SHARDS]
    }

    pub(super) fn find(&self, address: SocketAddr) -> Option<Arc<AddressCell>> {
        self.shard(address).load().get(&address).cloned()
    }

    /// The cell of `address`, new if need be; None when there are `most` already.
    pub(super) fn insert(&self, address: SocketAddr, most: usize) -> Option<Arc<AddressCell>> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = self.find(address) {
            return Some(cell);
        }
        if self.count.load(Ordering::Relaxed) >= most {
            return None;
        }
        let cell = Arc::new(AddressCell::new(self.sweeps.clone()));
        let shard = self.shard(address);
        let mut map = Shard::clone(&shard.load());
        map.insert(address, Arc::clone(&cell));
        shard.store(Arc::new(map));
        self.count.fetch_add(1, Ordering::Relaxed);
        Some(cell)
    }

    pub(super) fn remove(&self, address: SocketAddr) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let shard = self.shard(address);
        let mut map = Shard::clone(&shard.load());
        if map.remove(&address).is_some() {
            shard.store(Arc::new(map));
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn all(&self) -> Vec<(SocketAddr, Arc<AddressCell>)> {
        self.shards
            .iter()
            .flat_map(|shard| {
                let map = shard.load();
                map.iter()
                    .map(|(address, cell)| (*address, Arc::clone(cell)))
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}
