//! What a worker hands to the request path: a connection whose protocol, peer and destination are
//! known.

use std::net::SocketAddr;
use std::time::SystemTime;

use weft_identity::SpiffeId;
use weft_proxy_config::Resolution;

use crate::{Drain, Io};

/// Which codec reads the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// Who is at the other end of an inbound connection.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The SPIFFE ID of its verified certificate; none in plaintext.
    pub identity: Option<SpiffeId>,
    /// Its address.
    pub address: SocketAddr,
    /// It speaks mutual TLS with one of the mesh's ALPN names (or is this pod itself): markers
    /// inside the hop may be believed.
    pub mesh: bool,
    /// When its certificate ends.
    pub not_after: Option<SystemTime>,
}

/// A connection to this pod that speaks HTTP.
#[derive(Debug)]
pub struct InboundConn {
    /// Its bytes, none of them missing.
    pub io: Io,
    /// Its codec.
    pub version: HttpVersion,
    /// Who calls.
    pub peer: PeerInfo,
    /// The original destination: the pod's address and port. Its port selects policy.
    pub local: SocketAddr,
    /// Where the application listens; `local` except on explicit listeners.
    pub app: SocketAddr,
    /// When to say goodbye. The connection is cut by proxy/net when its time is over.
    pub drain: Drain,
}

/// A connection of the pod's application that speaks HTTP.
#[derive(Debug)]
pub struct OutboundConn {
    /// Its bytes, none of them missing.
    pub io: Io,
    /// Its codec.
    pub version: HttpVersion,
    /// The application's end.
    pub client: SocketAddr,
    /// The address that it dialled.
    pub destination: SocketAddr,
    /// What is behind `destination`. `Refused` is to be answered in HTTP (503 naming the cause).
    pub resolution: Resolution,
    /// When to say goodbye.
    pub drain: Drain,
}

/// The request path, one instance per worker. Neither instance nor futures need be `Send`.
#[allow(
    async_fn_in_trait,
    reason = "workers are single-threaded; no Send bound is wanted"
)]
pub trait ServeHttp {
    /// Serves a connection to this pod until it closes. Dropped when the connection must end.
    async fn inbound(&self, conn: InboundConn);
    /// Serves a connection of this pod's application until it closes.
    async fn outbound(&self, conn: OutboundConn);
}
