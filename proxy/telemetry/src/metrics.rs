//! Metrics: every worker counts into series of its own; a scrape adds them up.
//!
//! A worker finds its series in its own map, so the request path takes no lock; the shared list is locked only when a
//! label set is first seen, swept or scraped. The number of label sets is capped: past [`Settings::max_series`] requests
//! count under the destination and source `other`. A series that no worker used between two sweeps is dropped.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use weft_identity::SpiffeId;

use crate::access_log::{AccessLog, Entry};
use crate::record::{ConnectionRecord, Direction, RequestRecord, ServiceLabel};
use crate::scrape::Scrape;
use crate::series::{Caller, ConnectionKey, ConnectionSeries, Liveness, RequestKey, RequestSeries};
use crate::trace::TraceContext;

/// What telemetry is told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Label sets kept per process before the rest counts as `other`.
    pub max_series: usize,
    /// Share of newly started traces that are sampled, 0 to 1.
    pub sample_ratio: f64,
    /// Where access log lines go; `None`: no access log.
    pub access_log: Option<AccessLog>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_series: 4_000,
            sample_ratio: 0.1,
            access_log: None,
        }
    }
}

/// The process's telemetry; workers get their part by [`Telemetry::worker`].
pub struct Telemetry {
    pub(crate) settings: Settings,
    pub(crate) requests: Mutex<Vec<Arc<Shard<RequestKey, RequestSeries>>>>,
    pub(crate) connections: Mutex<Vec<Arc<Shard<ConnectionKey, ConnectionSeries>>>>,
    count: AtomicUsize,
}

/// What one worker counts: its series in the order they were first seen.
pub(crate) struct Shard<K, S> {
    series: Mutex<Vec<(K, Arc<S>)>>,
    /// Connections open now, inbound and outbound.
    pub(crate) open: [AtomicI64; 2],
}

impl<K, S> Default for Shard<K, S> {
    fn default() -> Self {
        Self {
            series: Mutex::default(),
            open: [AtomicI64::new(0), AtomicI64::new(0)],
        }
    }
}

impl<K, S> Shard<K, S> {
    pub(crate) fn list(&self) -> MutexGuard<'_, Vec<(K, Arc<S>)>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("series", &self.count.load(Relaxed))
            .finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Telemetry without any worker yet.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            requests: Mutex::default(),
            connections: Mutex::default(),
            count: AtomicUsize::new(0),
        })
    }

    /// The part that one worker keeps to itself.
    pub fn worker(self: &Arc<Self>) -> WorkerTelemetry {
        let (requests, connections) = (Arc::new(Shard::default()), Arc::new(Shard::default()));
        lock(&self.requests).push(Arc::clone(&requests));
        lock(&self.connections).push(Arc::clone(&connections));
        WorkerTelemetry {
            telemetry: Arc::clone(self),
            rng: RefCell::new(SmallRng::from_os_rng()),
            requests: RefCell::new(Known::new(requests)),
            connections: RefCell::new(Known::new(connections)),
        }
    }

    /// For a `prometheus_client` registry.
    pub fn collector(self: &Arc<Self>) -> Box<dyn Collector> {
        Box::new(Scrape(Arc::clone(self)))
    }

    /// Drops series that no worker used since the last sweep; to be called about once an hour.
    pub fn sweep(&self) {
        let mut dropped = 0;
        for shard in lock(&self.requests).iter() {
            dropped += sweep(shard, |series| &series.live);
        }
        for shard in lock(&self.connections).iter() {
            dropped += sweep(shard, |series| &series.live);
        }
        self.count.fetch_sub(dropped, Relaxed);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held, and counters are whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sweep<K, S>(shard: &Shard<K, S>, live: impl Fn(&S) -> &Liveness) -> usize {
    let mut series = shard.list();
    let before = series.len();
    series.retain(|(_, series)| {
        let used = live(series).take_used();
        if !used {
            live(series).evict();
        }
        used
    });
    before - series.len()
}

/// A worker's own index into its shard.
struct Known<K, S> {
    series: HashMap<K, Arc<S>>,
    shard: Arc<Shard<K, S>>,
}

impl<K: Clone + Eq + Hash, S: Default> Known<K, S> {
    fn new(shard: Arc<Shard<K, S>>) -> Self {
        Self {
            series: HashMap::new(),
            shard,
        }
    }

    /// The series of a label set, made on first sight; `other` is the label set to fall back to past the cap.
    fn series(
        &mut self,
        key: K,
        telemetry: &Telemetry,
        live: fn(&S) -> &Liveness,
        other: fn(K) -> K,
    ) -> Arc<S> {
        if let Some(series) = self.live(&key, live) {
            return series;
        }
        if telemetry.count.load(Relaxed) < telemetry.settings.max_series {
            return self.make(key, telemetry, live);
        }
        let key = other(key);
        match self.live(&key, live) {
            Some(series) => series,
            None => self.make(key, telemetry, live),
        }
    }

    fn live(&self, key: &K, live: fn(&S) -> &Liveness) -> Option<Arc<S>> {
        let series = self.series.get(key)?;
        if live(series).is_evicted() {
            return None;
        }
        live(series).touch();
        Some(Arc::clone(series))
    }

    fn make(&mut self, key: K, telemetry: &Telemetry, live: fn(&S) -> &Liveness) -> Arc<S> {
        // What was swept has no place in the index either.
        self.series.retain(|_, series| !live(series).is_evicted());
        let series = Arc::new(S::default());
        live(&series).touch();
        self.shard.list().push((key.clone(), Arc::clone(&series)));
        telemetry.count.fetch_add(1, Relaxed);
        self.series.insert(key, Arc::clone(&series));
        series
    }
}

/// One worker's telemetry. Stays on its thread.
pub struct WorkerTelemetry {
    telemetry: Arc<Telemetry>,
    rng: RefCell<SmallRng>,
    requests: RefCell<Known<RequestKey, RequestSeries>>,
    connections: RefCell<Known<ConnectionKey, ConnectionSeries>>,
}

impl fmt::Debug for WorkerTelemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerTelemetry")
    }
}

impl WorkerTelemetry {
    /// The trace context of a request that just came in.
    pub fn trace(&self, headers: &http::HeaderMap) -> TraceContext {
        TraceContext::extract(
            headers,
            &mut *self.rng.borrow_mut(),
            self.telemetry.settings.sample_ratio,
        )
    }

    /// Counts and logs a request that has ended. With `log` false (the mesh's configuration) only counts.
    pub fn record(&self, mut record: RequestRecord, log: bool) {
        let ended = *record.ended.get_or_insert_with(std::time::Instant::now);
        let key = RequestKey {
            direction: record.direction,
            protocol: record.protocol,
            source: record.source.as_ref().map(caller),
            destination: record.destination.clone(),
            backend: record.backend.clone(),
            status: record.status,
            grpc_status: record.grpc_status,
            flag: record.flag,
            mtls: record.mtls,
        };
        let took = ended.saturating_duration_since(record.started);
        self.requests
            .borrow_mut()
            .series(key, &self.telemetry, |series| &series.live, other_request)
            .add(
                took,
                record.attempts.saturating_sub(1),
                record.request_bytes,
                record.response_bytes,
            );
        if let (true, Some(out)) = (log, &self.telemetry.settings.access_log) {
            out.send(Entry::Request(Box::new(record)));
        }
    }

    /// Counts and logs an opaque connection that has ended.
    pub fn record_connection(&self, record: ConnectionRecord, log: bool) {
        let key = ConnectionKey {
            direction: record.direction,
            source: record.source.as_ref().map(caller),
            destination: record.destination.clone(),
            flag: record.flag,
            mtls: record.mtls,
        };
        self.connections
            .borrow_mut()
            .series(
                key,
                &self.telemetry,
                |series| &series.live,
                other_connection,
            )
            .add(record.bytes_in, record.bytes_out);
        if let (true, Some(out)) = (log, &self.telemetry.settings.access_log) {
            out.send(Entry::Connection(Box::new(record)));
        }
    }

    /// A connection was accepted (+1) or has ended (-1), whatever it carries.
    pub fn connections_open(&self, direction: Direction, change: i64) {
        self.connections.borrow().shard.open[direction as usize].fetch_add(change, Relaxed);
    }
}

fn caller(id: &SpiffeId) -> Caller {
    Caller {
        namespace: id.namespace().into(),
        service_account: id.service_account().into(),
    }
}

fn other_caller() -> Caller {
    Caller {
        namespace: "other".into(),
        service_account: "other".into(),
    }
}

fn other_service(label: ServiceLabel) -> ServiceLabel {
    ServiceLabel {
        namespace: "other".into(),
        name: "other".into(),
        port: label.port.min(1),
    }
}

fn other_request(key: RequestKey) -> RequestKey {
    RequestKey {
        source: key.source.map(|_| other_caller()),
        destination: key.destination.map(other_service),
        backend: None,
        ..key
    }
}

fn other_connection(key: ConnectionKey) -> ConnectionKey {
    ConnectionKey {
        source: key.source.map(|_| other_caller()),
        destination: key.destination.map(other_service),
        ..key
    }
}

#[cfg(test)]
mod tests;
