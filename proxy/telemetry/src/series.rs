//! Counters of one label set: plain atomics that one worker writes and a scrape reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::flag::Flag;
use crate::record::{Direction, RequestProtocol, ServiceLabel};

/// Upper bounds of the latency histogram, in seconds.
pub(crate) const BUCKETS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// Who called, without the trust domain: (namespace, service account).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Caller {
    pub namespace: Arc<str>,
    pub service_account: Arc<str>,
}

/// Labels of a request's series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RequestKey {
    pub direction: Direction,
    pub protocol: RequestProtocol,
    pub source: Option<Caller>,
    pub destination: Option<ServiceLabel>,
    pub backend: Option<ServiceLabel>,
    pub status: u16,
    pub grpc_status: Option<u8>,
    pub flag: Option<Flag>,
    pub mtls: bool,
}

/// Labels of a connection's series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionKey {
    pub direction: Direction,
    pub source: Option<Caller>,
    pub destination: Option<ServiceLabel>,
    pub flag: Option<Flag>,
    pub mtls: bool,
}

/// Whether a series is still in use, for the eviction of idle ones.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// Set by the writer at each use, taken by the sweep.
    used: AtomicBool,
    /// Set by the sweep: the writer makes a new series.
    evicted: AtomicBool,
}

impl Liveness {
    pub(crate) fn touch(&self) {
        self.used.store(true, Relaxed);
    }

    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.load(Relaxed)
    }

    /// Whether it was used since the last sweep.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Relaxed)
    }

    pub(crate) fn evict(&self) {
        self.evicted.store(true, Relaxed);
    }
}

#[derive(Debug, Default)]
pub(crate) struct RequestSeries {
    pub live: Liveness,
    /// One per bucket, the last without an upper bound.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
    retries: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
}

impl RequestSeries {
    pub(crate) fn add(&self, took: Duration, retries: u8, request_bytes: u64, response_bytes: u64) {
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.micros
            .fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
        self.retries.fetch_add(u64::from(retries), Relaxed);
        self.request_bytes.fetch_add(request_bytes, Relaxed);
        self.response_bytes.fetch_add(response_bytes, Relaxed);
    }

    pub(crate) fn add_to(&self, total: &mut RequestTotals) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Relaxed);
        }
        total.micros += self.micros.load(Relaxed);
        total.retries += self.retries.load(Relaxed);
        total.request_bytes += self.request_bytes.load(Relaxed);
        total.response_bytes += self.response_bytes.load(Relaxed);
    }
}

/// The sum over all workers.
#[derive(Debug, Default)]
pub(crate) struct RequestTotals {
    pub buckets: [u64; BUCKETS.len() + 1],
    pub micros: u64,
    pub retries: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
}

impl RequestTotals {
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[derive(Debug, Default)]
pub(crate) struct ConnectionSeries {
    pub live: Liveness,
    closed: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl ConnectionSeries {
    pub(crate) fn add(&self, bytes_in: u64, bytes_out: u64) {
        self.closed.fetch_add(1, Relaxed);
        self.bytes_in.fetch_add(bytes_in, Relaxed);
        self.bytes_out.fetch_add(bytes_out, Relaxed);
    }

    pub(crate) fn add_to(&self, total: &mut ConnectionTotals) {
        total.closed += self.closed.load(Relaxed);
        total.bytes_in += self.bytes_in.load(Relaxed);
        total.bytes_out += self.bytes_out.load(Relaxed);
    }
}

#[derive(Debug, Default)]
pub(crate) struct ConnectionTotals {
    pub closed: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}
