//! The access log: one JSON object a line, written by a thread of its own.
//!
//! Workers hand over records through a bounded queue and never wait: where the writer cannot keep up, lines are dropped
//! and counted ([`AccessLog::dropped`]).

use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::record::{ConnectionRecord, RequestRecord, ServiceLabel};

const QUEUE: usize = 8192;

pub(crate) enum Entry {
    Request(Box<RequestRecord>),
    Connection(Box<ConnectionRecord>),
}

/// The hand-over to the writing thread; cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Starts the writing thread, which ends once every clone of the log is gone.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (queue, entries) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(&entries, out))?;
        Ok(Self {
            queue,
            dropped: Arc::default(),
        })
    }

    /// Lines that were lost because the writer could not keep up.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    pub(crate) fn send(&self, entry: Entry) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(entry)
        {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Writes until every sender is gone; flushes whenever the queue is empty.
fn write_all(entries: &Receiver<Entry>, out: impl Write) {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    while let Ok(entry) = entries.recv() {
        let mut written = write_line(&mut out, &entry);
        while let (Ok(()), Ok(entry)) = (&written, entries.try_recv()) {
            written = write_line(&mut out, &entry);
        }
        if let Err(error) = written.and_then(|()| out.flush()) {
            tracing::warn!(%error, "the access log cannot be written");
        }
    }
}

fn write_line(out: &mut impl Write, entry: &Entry) -> std::io::Result<()> {
    match entry {
        Entry::Request(record) => {
            serde_json::to_writer(&mut *out, &RequestLine::from(record.as_ref()))?
        }
        Entry::Connection(record) => {
            serde_json::to_writer(&mut *out, &ConnectionLine::from(record.as_ref()))?
        }
    }
    out.write_all(b"\n")
}

/// The fields of a request's line; their names are stable.
#[derive(Serialize)]
struct RequestLine<'a> {
    time: String,
    kind: &'static str,
    direction: &'static str,
    protocol: &'static str,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<&'a str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a str>,
    duration_ms: f64,
    attempts: u8,
    mtls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    source_address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_workload: Option<&'a str>,
    request_bytes: u64,
    response_bytes: u64,
    trace_id: String,
    span_id: String,
}

impl<'a> From<&'a RequestRecord> for RequestLine<'a> {
    fn from(record: &'a RequestRecord) -> Self {
        Self {
            time: timestamp(record.started_at),
            kind: "request",
            direction: record.direction.as_str(),
            protocol: record.protocol.as_str(),
            method: record.method.as_str(),
            path: record.path.as_str(),
            authority: record
                .authority
                .as_ref()
                .and_then(|value| value.to_str().ok()),
            status: record.status,
            grpc_status: record.grpc_status,
            flag: record.flag.map(crate::Flag::as_str),
            decision: record.decision.as_deref(),
            duration_ms: millis(record.started, record.ended),
            attempts: record.attempts,
            mtls: record.mtls,
            source: record.source.as_ref().map(weft_identity::SpiffeId::as_str),
            source_address: record.source_address.to_string(),
            destination: record.destination.as_ref().map(service),
            backend: record.backend.as_ref().map(service),
            route: record.route.as_deref(),
            peer: record.peer.map(|peer| peer.to_string()),
            peer_workload: record.peer_workload.as_deref(),
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
            trace_id: record.trace.trace_id(),
            span_id: record.trace.span_id(),
        }
    }
}

/// The fields of a connection's line; their names are stable.
#[derive(Serialize)]
struct ConnectionLine<'a> {
    time: String,
    kind: &'static str,
    direction: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a str>,
    duration_ms: f64,
    mtls: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    source_address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_workload: Option<&'a str>,
    bytes_in: u64,
    bytes_out: u64,
}

impl<'a> From<&'a ConnectionRecord> for ConnectionLine<'a> {
    fn from(record: &'a ConnectionRecord) -> Self {
        Self {
            time: timestamp(record.started_at),
            kind: "connection",
            direction: record.direction.as_str(),
            flag: record.flag.map(crate::Flag::as_str),
            decision: record.decision.as_deref(),
            duration_ms: millis(record.started, None),
            mtls: record.mtls,
            source: record.source.as_ref().map(weft_identity::SpiffeId::as_str),
            source_address: record.source_address.to_string(),
            destination: record.destination.as_ref().map(service),
            peer: record.peer.map(|peer| peer.to_string()),
            peer_workload: record.peer_workload.as_deref(),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
        }
    }
}

fn service(label: &ServiceLabel) -> String {
    format!("{}/{}:{}", label.namespace, label.name, label.port)
}

fn timestamp(at: SystemTime) -> String {
    // RFC 3339 covers the years 0 to 9999; a clock outside them has no better answer than an empty time.
    OffsetDateTime::from(at)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// Milliseconds with three decimals, up to `ended` or now.
fn millis(started: Instant, ended: Option<Instant>) -> f64 {
    let took: Duration = ended
        .unwrap_or_else(Instant::now)
        .saturating_duration_since(started);
    (took.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}
