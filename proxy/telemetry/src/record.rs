//! The record of one request, and of one opaque connection: filled along the request path, consumed once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use weft_identity::SpiffeId;

use crate::flag::Flag;
use crate::trace::TraceContext;

/// Which side of the pod a request crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From elsewhere to this pod's application.
    Inbound,
    /// From this pod's application to elsewhere.
    Outbound,
}

impl Direction {
    /// `inbound` or `outbound`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What the client spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RequestProtocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
}

impl RequestProtocol {
    /// `http1`, `http2` or `grpc`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
        }
    }
}

/// The service a request was for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceLabel {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Service name; on the inbound side the workload's.
    pub name: Arc<str>,
    /// Service port; on the inbound side the pod's.
    pub port: u16,
}

/// One request, from its head to the last byte of its answer (or to what ended it).
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// Which side of the pod.
    pub direction: Direction,
    /// When its head was read.
    pub started: Instant,
    /// The same on the wall clock.
    pub started_at: SystemTime,
    /// When the last byte of the answer was handed on; `None` while it runs.
    pub ended: Option<Instant>,
    /// What the client spoke.
    pub protocol: RequestProtocol,
    /// Request method.
    pub method: http::Method,
    /// Path and query as sent by the client.
    pub path: http::uri::PathAndQuery,
    /// `Host` or `:authority`.
    pub authority: Option<http::HeaderValue>,
    /// Who called, where proven.
    pub source: Option<SpiffeId>,
    /// The caller's address (inbound: the peer; outbound: the application's socket).
    pub source_address: SocketAddr,
    /// What the call was for.
    pub destination: Option<ServiceLabel>,
    /// The service that a route chose, where it is not the one dialled.
    pub backend: Option<ServiceLabel>,
    /// The route rule, `KIND/namespace/name/rule`.
    pub route: Option<Arc<str>>,
    /// Where the last attempt went.
    pub peer: Option<SocketAddr>,
    /// The workload there.
    pub peer_workload: Option<Arc<str>>,
    /// The hop between proxies was mutual TLS.
    pub mtls: bool,
    /// Attempts made; 0 where none was.
    pub attempts: u8,
    /// HTTP status; 0 where no answer was sent.
    pub status: u16,
    /// gRPC status of the answer.
    pub grpc_status: Option<u8>,
    /// Set where the proxy ended it.
    pub flag: Option<Flag>,
    /// The authorization decision, `policy#rule@hash`.
    pub decision: Option<Arc<str>>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// The trace it belongs to.
    pub trace: TraceContext,
}

impl RequestRecord {
    /// A record of a request whose head was just read, everything else unknown.
    pub fn new(
        direction: Direction,
        protocol: RequestProtocol,
        method: http::Method,
        path: http::uri::PathAndQuery,
        source_address: SocketAddr,
        trace: TraceContext,
    ) -> Self {
        Self {
            direction,
            started: Instant::now(),
            started_at: SystemTime::now(),
            ended: None,
            protocol,
            method,
            path,
            authority: None,
            source: None,
            source_address,
            destination: None,
            backend: None,
            route: None,
            peer: None,
            peer_workload: None,
            mtls: false,
            attempts: 0,
            status: 0,
            grpc_status: None,
            flag: None,
            decision: None,
            request_bytes: 0,
            response_bytes: 0,
            trace,
        }
    }

    /// Whether it counts as a failure: an HTTP 5xx, a gRPC status that is the server's fault, or no answer at all.
    pub fn failed(&self) -> bool {
        // gRPC statuses that tell of the server: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        let grpc = matches!(self.grpc_status, Some(2 | 4 | 13 | 14 | 15));
        grpc || self.status == 0 || self.status >= 500
    }
}

/// One connection of opaque bytes, from accept to its end.
#[derive(Clone, Debug)]
pub struct ConnectionRecord {
    /// Which side of the pod.
    pub direction: Direction,
    /// When it was accepted.
    pub started: Instant,
    /// The same on the wall clock.
    pub started_at: SystemTime,
    /// Who called, where proven.
    pub source: Option<SpiffeId>,
    /// The caller's address.
    pub source_address: SocketAddr,
    /// What the connection was for.
    pub destination: Option<ServiceLabel>,
    /// Where it went.
    pub peer: Option<SocketAddr>,
    /// The workload there.
    pub peer_workload: Option<Arc<str>>,
    /// The hop between proxies was mutual TLS.
    pub mtls: bool,
    /// Set where the proxy ended it.
    pub flag: Option<Flag>,
    /// The authorization decision, where it refused.
    pub decision: Option<Arc<str>>,
    /// From the caller.
    pub bytes_in: u64,
    /// To the caller.
    pub bytes_out: u64,
}

impl ConnectionRecord {
    /// A record of a connection that was just accepted.
    pub fn new(direction: Direction, source_address: SocketAddr) -> Self {
        Self {
            direction,
            started: Instant::now(),
            started_at: SystemTime::now(),
            source: None,
            source_address,
            destination: None,
            peer: None,
            peer_workload: None,
            mtls: false,
            flag: None,
            decision: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }
}
