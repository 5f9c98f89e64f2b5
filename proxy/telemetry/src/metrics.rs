//! Metrics: every worker counts into series of its own; a scrape adds them up.
//!
//! A worker finds its series in its own map, so the request path takes no lock; the shared list is locked only when a
//! label set is first seen, swept or scraped. The number of label sets is capped: past [`Settings::max_series`] requests
//! count under the destination and source `other`. A series that no worker used between two sweeps is dropped.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use weft_identity::SpiffeId;

use crate::access_log::{AccessLog, Entry};
use crate::flag::Flag;
use crate::record::{ConnectionRecord, Direction, RequestRecord, ServiceLabel};
use crate::series::{
    BUCKETS, Caller, ConnectionKey, ConnectionSeries, ConnectionTotals, Liveness, RequestKey,
    RequestSeries, RequestTotals,
};
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
    settings: Settings,
    requests: Mutex<Vec<Arc<Shard<RequestKey, RequestSeries>>>>,
    connections: Mutex<Vec<Arc<Shard<ConnectionKey, ConnectionSeries>>>>,
    count: AtomicUsize,
}

/// What one worker counts: its series in the order they were first seen.
struct Shard<K, S> {
    series: Mutex<Vec<(K, Arc<S>)>>,
    /// Connections open now, inbound and outbound.
    open: [AtomicI64; 2],
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
    fn list(&self) -> MutexGuard<'_, Vec<(K, Arc<S>)>> {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
    ) -> &S {
        let stale = self
            .series
            .get(&key)
            .is_none_or(|series| live(series).is_evicted());
        let key = if stale && telemetry.count.load(Relaxed) >= telemetry.settings.max_series {
            other(key)
        } else {
            key
        };
        if self
            .series
            .get(&key)
            .is_none_or(|series| live(series).is_evicted())
        {
            // What was swept has no place in the index either.
            self.series.retain(|_, series| !live(series).is_evicted());
            let series = Arc::new(S::default());
            live(&series).touch();
            self.shard.list().push((key.clone(), Arc::clone(&series)));
            telemetry.count.fetch_add(1, Relaxed);
            self.series.insert(key.clone(), series);
        }
        let series = &self.series[&key];
        live(series).touch();
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

/// The view of a scrape.
#[derive(Debug)]
struct Scrape(Arc<Telemetry>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        encode_requests(&self.0, &mut encoder)?;
        encode_connections(&self.0, &mut encoder)?;
        if let Some(log) = &self.0.settings.access_log {
            let dropped = ConstCounter::new(log.dropped());
            let help = "Access log lines lost because the writer could not keep up";
            let metric = encoder.encode_descriptor(
                "weft_access_log_dropped",
                help,
                None,
                MetricType::Counter,
            )?;
            dropped.encode(metric)?;
        }
        Ok(())
    }
}

fn encode_requests(
    telemetry: &Telemetry,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let mut totals: BTreeMap<RequestKey, RequestTotals> = BTreeMap::new();
    for shard in lock(&telemetry.requests).iter() {
        for (key, series) in shard.list().iter() {
            series.add_to(totals.entry(key.clone()).or_default());
        }
    }
    let counters: [(&str, &str, fn(&RequestTotals) -> u64); 4] = [
        (
            "weft_requests",
            "Requests that have ended",
            RequestTotals::count,
        ),
        (
            "weft_request_retries",
            "Attempts after the first",
            |total| total.retries,
        ),
        (
            "weft_request_body_bytes",
            "Bytes of request bodies",
            |total| total.request_bytes,
        ),
        (
            "weft_response_body_bytes",
            "Bytes of response bodies",
            |total| total.response_bytes,
        ),
    ];
    for (name, help, value) in counters {
        encode_counter(encoder, name, help, &totals, value)?;
    }
    let help = "Time from a request's head to the last byte of its answer";
    let mut metric = encoder.encode_descriptor(
        "weft_request_duration",
        help,
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for (key, total) in &totals {
        let buckets: Vec<(f64, u64)> = BUCKETS
            .into_iter()
            .chain([f64::MAX])
            .zip(total.buckets.iter().copied())
            .collect();
        let seconds = total.micros as f64 / 1e6;
        metric
            .encode_family(key)?
            .encode_histogram::<[(&str, &str); 0]>(seconds, total.count(), &buckets, None)?;
    }
    Ok(())
}

fn encode_connections(
    telemetry: &Telemetry,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let mut totals: BTreeMap<ConnectionKey, ConnectionTotals> = BTreeMap::new();
    let mut open = [0_i64; 2];
    for shard in lock(&telemetry.connections).iter() {
        for (sum, part) in open.iter_mut().zip(&shard.open) {
            *sum += part.load(Relaxed);
        }
        for (key, series) in shard.list().iter() {
            series.add_to(totals.entry(key.clone()).or_default());
        }
    }
    let counters: [(&str, &str, fn(&ConnectionTotals) -> u64); 3] = [
        (
            "weft_tcp_connections_closed",
            "Opaque connections that have ended",
            |total| total.closed,
        ),
        (
            "weft_tcp_received_bytes",
            "Bytes from callers of opaque connections",
            |total| total.bytes_in,
        ),
        (
            "weft_tcp_sent_bytes",
            "Bytes to callers of opaque connections",
            |total| total.bytes_out,
        ),
    ];
    for (name, help, value) in counters {
        encode_counter(encoder, name, help, &totals, value)?;
    }
    let help = "Connections open now, of any protocol";
    let mut metric =
        encoder.encode_descriptor("weft_connections_open", help, None, MetricType::Gauge)?;
    for (direction, value) in [Direction::Inbound, Direction::Outbound]
        .into_iter()
        .zip(open)
    {
        ConstGauge::new(value)
            .encode(metric.encode_family(&[("direction", direction.as_str())])?)?;
    }
    Ok(())
}

fn encode_counter<K: EncodeLabelSet, T>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    totals: &BTreeMap<K, T>,
    value: fn(&T) -> u64,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (key, total) in totals {
        ConstCounter::new(value(total)).encode(metric.encode_family(key)?)?;
    }
    Ok(())
}

type Labels<'a> = prometheus_client::encoding::LabelSetEncoder<'a>;

fn label(encoder: &mut Labels<'_>, name: &str, value: &str) -> Result<(), fmt::Error> {
    prometheus_client::encoding::EncodeLabel::encode(&(name, value), encoder.encode_label())
}

fn encode_service(
    encoder: &mut Labels<'_>,
    names: [&str; 3],
    service: Option<&ServiceLabel>,
) -> Result<(), fmt::Error> {
    let Some(service) = service else {
        return Ok(());
    };
    label(encoder, names[0], &service.namespace)?;
    label(encoder, names[1], &service.name)?;
    label(encoder, names[2], &service.port.to_string())
}

fn encode_ends(
    encoder: &mut Labels<'_>,
    direction: Direction,
    source: Option<&Caller>,
    destination: Option<&ServiceLabel>,
) -> Result<(), fmt::Error> {
    label(encoder, "direction", direction.as_str())?;
    if let Some(source) = source {
        label(encoder, "source_namespace", &source.namespace)?;
        label(encoder, "source_service_account", &source.service_account)?;
    }
    encode_service(
        encoder,
        ["destination_namespace", "destination", "destination_port"],
        destination,
    )
}

impl EncodeLabelSet for RequestKey {
    fn encode(&self, encoder: &mut Labels<'_>) -> Result<(), fmt::Error> {
        encode_ends(
            encoder,
            self.direction,
            self.source.as_ref(),
            self.destination.as_ref(),
        )?;
        encode_service(
            encoder,
            ["backend_namespace", "backend", "backend_port"],
            self.backend.as_ref(),
        )?;
        label(encoder, "protocol", self.protocol.as_str())?;
        label(encoder, "status", &self.status.to_string())?;
        if let Some(status) = self.grpc_status {
            label(encoder, "grpc_status", &status.to_string())?;
        }
        label(encoder, "flag", self.flag.map_or("", Flag::as_str))?;
        label(encoder, "mtls", if self.mtls { "true" } else { "false" })
    }
}

impl EncodeLabelSet for ConnectionKey {
    fn encode(&self, encoder: &mut Labels<'_>) -> Result<(), fmt::Error> {
        encode_ends(
            encoder,
            self.direction,
            self.source.as_ref(),
            self.destination.as_ref(),
        )?;
        label(encoder, "flag", self.flag.map_or("", Flag::as_str))?;
        label(encoder, "mtls", if self.mtls { "true" } else { "false" })
    }
}

#[cfg(test)]
mod tests;
