//! The request path: what happens to every HTTP request that enters or leaves the pod.
//!
//! Two files to read from top to bottom, [`inbound`] and [`outbound`]: each one concrete async function that calls the
//! named phases in the order that the design documents. Around them, codecs as drivers: `http1_server` and `http1`
//! (hyper), `http2_server` and `http2_client` (h2). Beneath them what they share: `pool`, `body`, `head`, `exchange`.
//! Decisions are proxy/config's, connections proxy/net's, records proxy/telemetry's.
//!
//! In: a connection whose protocol, peer and destination are known ([`weft_proxy_net::ServeHttp`]). Out: the exchange
//! carried, its one record consumed.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attempt;
mod batched;
mod body;
mod budget;
mod carried;
mod counted;
mod exchange;
mod failure;
mod filter;
mod head;
mod http1;
mod http1_server;
mod http2_client;
mod http2_server;
mod inbound;
mod kept_head;
mod lane;
mod outbound;
mod own_wakes;
mod plan;
mod pool;
mod pump;
mod replay;
mod sent;
mod shelf;
mod tasks;
mod tunnel;
mod unreadable;
mod upstream;
mod worker;

use std::rc::Rc;

use weft_proxy_net::{HttpVersion, InboundConn, OutboundConn, ServeHttp, WorkerContext};

pub use budget::ByteBudget;

use http2_server::Side;
use worker::Worker;

/// What is set per process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What bodies kept for a replay may take, over all workers.
    pub replay_budget: ByteBudget,
    /// Inbound requests in flight per worker.
    pub inbound_requests: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            replay_budget: ByteBudget::new(16 << 20),
            inbound_requests: 16_384,
        }
    }
}

/// One worker's request path. Lives on its worker's thread, inside a `LocalSet`.
#[derive(Clone, Debug)]
pub struct Server(Rc<Worker>);

impl Server {
    /// The request path of one worker. `settings` are cloned from one value for all workers, which so share its budget.
    pub fn new(context: WorkerContext, settings: Settings) -> Self {
        Self(Worker::new(context, settings))
    }
}

impl ServeHttp for Server {
    async fn inbound(&self, conn: InboundConn) {
        let side = if conn.peer.mesh {
            Side::Hop
        } else {
            Side::Edge
        };
        let drain = conn.drain.clone();
        let shared: inbound::Shared = Rc::new(inbound::Connection {
            peer: conn.peer,
            local: conn.local,
            app: conn.app,
            drain: conn.drain,
            tunnel: tunnel::Slot::default(),
        });
        let answer = |request| {
            let (worker, conn) = (self.0.clone(), shared.clone());
            async move { inbound::request(&worker, &conn, request).await }
        };
        match conn.version {
            HttpVersion::Http1 => {
                let served = http1_server::serve(conn.io, &drain, answer).await;
                if let Err(error) = &served {
                    unreadable::record(&self.0, inbound::sender(&self.0, &shared), error);
                }
                closed(served);
            }
            HttpVersion::Http2 => closed(http2_server::serve(conn.io, side, &drain, answer).await),
        }
        shared.tunnel.run().await;
    }

    async fn outbound(&self, conn: OutboundConn) {
        let drain = conn.drain.clone();
        let shared: outbound::Shared = Rc::new(outbound::Connection {
            client: conn.client,
            destination: conn.destination,
            resolution: conn.resolution,
            tunnel: tunnel::Slot::default(),
        });
        let answer = |request| {
            let (worker, conn) = (self.0.clone(), shared.clone());
            async move { outbound::request(&worker, &conn, request).await }
        };
        match conn.version {
            HttpVersion::Http1 => {
                let served = http1_server::serve(conn.io, &drain, answer).await;
                if let Err(error) = &served {
                    unreadable::record(&self.0, outbound::sender(&shared), error);
                }
                closed(served);
            }
            HttpVersion::Http2 => {
                closed(http2_server::serve(conn.io, Side::Edge, &drain, answer).await)
            }
        }
        shared.tunnel.run().await;
    }
}

/// What was under way has its own records; how a connection ended is for debugging.
fn closed<E: std::fmt::Display>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

#[cfg(test)]
mod tests;
