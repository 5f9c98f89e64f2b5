//! What one worker's request path has at hand: configuration, pool, latency averages, randomness. One thread,
//! hence cells and no locks; what must add up over workers is in [`weft_proxy_config`]'s shared state.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use weft_proxy_config::Store;
use weft_proxy_config::balance::PeakEwma;
use weft_proxy_net::WorkerContext;
use weft_proxy_telemetry::WorkerTelemetry;

use crate::Settings;
use crate::pool::Pool;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) store: Arc<Store>,
    pub(crate) telemetry: Rc<WorkerTelemetry>,
    pub(crate) pool: Rc<Pool>,
    pub(crate) settings: Settings,
    pub(crate) rng: RefCell<SmallRng>,
    latencies: RefCell<HashMap<u64, PeakEwma>>,
    inbound_in_flight: Rc<Cell<usize>>,
}

/// Averages kept per worker; endpoints come and go, so what is old is let go beyond this.
const LATENCIES: usize = 4096;

impl Worker {
    pub(crate) fn new(context: WorkerContext, settings: Settings) -> Rc<Self> {
        Rc::new(Self {
            store: context.store,
            telemetry: context.telemetry,
            pool: Pool::new(context.connector),
            settings,
            rng: RefCell::new(SmallRng::from_os_rng()),
            latencies: RefCell::default(),
            inbound_in_flight: Rc::default(),
        })
    }

    /// This worker's average for an endpoint, in seconds; 0 where it has none.
    pub(crate) fn latency(&self, id: u64, now: Instant) -> f64 {
        self.latencies
            .borrow()
            .get(&id)
            .map_or(0.0, |average| average.seconds(now))
    }

    pub(crate) fn observe(&self, id: u64, latency: Duration, now: Instant) {
        let mut latencies = self.latencies.borrow_mut();
        if latencies.len() >= LATENCIES && !latencies.contains_key(&id) {
            latencies.clear();
        }
        latencies
            .entry(id)
            .and_modify(|average| average.observe(latency, now))
            .or_insert_with(|| PeakEwma::new(latency, now));
    }

    /// A place for one more inbound request; none where the worker is full.
    pub(crate) fn inbound_place(&self) -> Option<Place> {
        let taken = &self.inbound_in_flight;
        if taken.get() >= self.settings.inbound_requests {
            return None;
        }
        taken.set(taken.get() + 1);
        Some(Place(taken.clone()))
    }
}

/// A place under a worker's own limit.
#[derive(Debug)]
pub(crate) struct Place(Rc<Cell<usize>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
