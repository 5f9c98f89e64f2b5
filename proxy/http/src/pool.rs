//! One worker's connections to peers and to the application: few shared HTTP/2 connections per peer, and
//! shelves of idle HTTP/1.1 ones.
//!
//! Input: where to and who must answer there. Output: a connection with room for a request, dialled if need
//! be; requests that wait for the same peer share one dial. Owns the limits on connections and on requests
//! that wait for one. Does not choose peers ([`weft_proxy_config::balance`]).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weft_identity::SpiffeId;
use weft_proxy_config::{Backend, ConnectionLimits, Overloaded, Permit};
use weft_proxy_net::{Alpn, ConnectError, Connector, Hop};

use crate::http1::{Http1Conn, IDLE_UNTOLD};
use crate::http2_client::Http2Conn;
use crate::http2_server::MAX_STREAMS;
use crate::lane::{Dialling, Lane};
use crate::shelf::Shelf;
use crate::tasks::Tasks;

/// How often idle connections are looked at, while there are any.
const SWEEP: Duration = Duration::from_secs(1);

/// No connection could be had. Nothing was sent.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum PoolError {
    #[error("{0}")]
    Connect(Rc<ConnectError>),
    #[error("cannot connect to {0}: {1}")]
    Handshake(SocketAddr, Rc<str>),
    #[error("{0}")]
    Overloaded(#[from] Overloaded),
}

/// Where a request goes and who must be there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination<'a> {
    /// The endpoint's ID; 0 for this pod's own application and for what is no endpoint.
    pub(crate) id: u64,
    pub(crate) addr: SocketAddr,
    /// Over mTLS, to this identity.
    pub(crate) identity: Option<&'a SpiffeId>,
    /// Whose limits count the connection.
    pub(crate) backend: Option<&'a Arc<Backend>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
}

impl Destination<'_> {
    fn limits<T>(
        &self,
        limit: impl FnOnce(&Backend, &ConnectionLimits) -> Result<T, Overloaded>,
    ) -> Result<Option<T>, Overloaded> {
        let Some(backend) = self.backend else {
            return Ok(None);
        };
        limit(backend, &backend.load().policy.limits).map(Some)
    }

    fn connection(&self) -> Result<Option<Permit>, Overloaded> {
        self.limits(|backend, limits| backend.state.try_connection(limits))
    }

    fn pending(&self) -> Result<Option<Permit>, Overloaded> {
        self.limits(|backend, limits| backend.state.try_pending(limits))
    }
}

/// An endpoint and one of its addresses.
type PeerKey = (u64, SocketAddr);

/// One worker's pool.
#[derive(Debug)]
pub(crate) struct Pool {
    connector: Connector,
    tasks: Tasks,
    peers: RefCell<HashMap<PeerKey, Rc<Peer>>>,
    sweeping: Cell<bool>,
    this: Weak<Self>,
}

/// The connections to one peer.
#[derive(Debug)]
struct Peer {
    shared: Lane,
    /// For what must not share: large bodies, that would hold up what is behind them.
    alone: Lane,
    http1: Rc<Shelf>,
    idle_timeout: Cell<Duration>,
}

/// Does a request share its HTTP/2 connection with others?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    Shared,
    Alone,
}

/// The connection that a request should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A place on one that others use, too.
    Shared,
    /// One of its own; where the limits leave it none, a place on a shared one.
    Alone(Codec),
    /// Of this codec and no other: HTTP/1.1 knows no sharing.
    Http1,
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Http1,
    Http2,
}

/// A connection with room for a request.
#[derive(Debug)]
pub(crate) enum Conn {
    Http2(Http2Conn),
    /// For this request, and where it goes afterwards.
    Http1(Box<Http1Conn>, Rc<Shelf>),
}

impl Pool {
    pub(crate) fn new(connector: Connector) -> Rc<Self> {
        Rc::new_cyclic(|this| Self {
            connector,
            tasks: Tasks::default(),
            peers: RefCell::default(),
            sweeping: Cell::new(false),
            this: this.clone(),
        })
    }

    /// A connection for one request.
    pub(crate) async fn connection(
        &self,
        to: &Destination<'_>,
        mut wanted: Wanted,
    ) -> Result<Conn, PoolError> {
        loop {
            let had = match wanted {
                Wanted::Shared => self.http2(to, Sharing::Shared).await.map(Conn::Http2),
                Wanted::Alone(Codec::Http2) => {
                    self.http2(to, Sharing::Alone).await.map(Conn::Http2)
                }
                Wanted::Alone(Codec::Http1) | Wanted::Http1 => self
                    .http1(to)
                    .await
                    .map(|(conn, shelf)| Conn::Http1(conn, shelf)),
            };
            match (had, wanted) {
                (Err(PoolError::Overloaded(Overloaded::Connections)), Wanted::Alone(_)) => {
                    wanted = Wanted::Shared
                }
                (had, _) => return had,
            }
        }
    }

    /// An HTTP/2 connection with room for one more request.
    pub(crate) async fn http2(
        &self,
        to: &Destination<'_>,
        sharing: Sharing,
    ) -> Result<Http2Conn, PoolError> {
        let peer = self.peer(to);
        loop {
            let lane = peer.lane(sharing);
            if let Some(conn) = lane.with_room(to.identity) {
                return Ok(conn);
            }
            let _pending = to.pending()?;
            let dialling = match lane.joinable() {
                Some(dialling) => dialling,
                None => match self.dial_http2(&peer, sharing, to) {
                    Err(error) => return lane.with_any_room().ok_or(error.into()),
                    Ok(dialling) => dialling,
                },
            };
            dialling.waiting.set(dialling.waiting.get() + 1);
            let done = dialling.done.notified();
            if dialling.outcome.get().is_none() {
                done.await;
            }
            if let Some(Err(error)) = dialling.outcome.get() {
                return lane.with_any_room().ok_or_else(|| error.clone());
            }
        }
    }

    /// An HTTP/1.1 connection for one request, and where it goes afterwards.
    pub(crate) async fn http1(
        &self,
        to: &Destination<'_>,
    ) -> Result<(Box<Http1Conn>, Rc<Shelf>), PoolError> {
        let peer = self.peer(to);
        if let Some(conn) = peer.http1.take(to.identity).await {
            return Ok((conn, peer.http1.clone()));
        }
        let _pending = to.pending()?;
        let permit = self.place(to)?;
        let hop = self
            .connect(to.addr, to.identity, Alpn::Http1, to.connect_timeout)
            .await?;
        let conn = Http1Conn::open(hop, permit, to.idle_timeout.min(IDLE_UNTOLD))
            .await
            .map_err(|error| PoolError::Handshake(to.addr, error.to_string().into()))?;
        Ok((Box::new(conn), peer.http1.clone()))
    }

    /// A place for one more connection: where none is left, that of one that rests.
    fn place(&self, to: &Destination<'_>) -> Result<Option<Permit>, Overloaded> {
        let placed = to.connection();
        match (&placed, to.backend) {
            (Err(_), Some(backend)) if self.evict(backend) => to.connection(),
            _ => placed,
        }
    }

    fn evict(&self, backend: &Backend) -> bool {
        let whose = |permit: &Permit| backend.state.is_connection(permit);
        let peers = self.peers.borrow();
        peers.values().any(|peer| {
            peer.http1.evict(whose) || peer.alone.evict(whose) || peer.shared.evict(whose)
        })
    }

    /// Boxed: a handshake's state is large, and few requests have one.
    async fn connect(
        &self,
        addr: SocketAddr,
        identity: Option<&SpiffeId>,
        alpn: Alpn,
        limit: Duration,
    ) -> Result<Hop, PoolError> {
        let tls = identity.map(|identity| (identity, alpn));
        let connected = Box::pin(self.connector.connect(addr, tls, limit)).await;
        connected.map_err(|error| PoolError::Connect(Rc::new(error)))
    }

    /// Starts a dial that belongs to the pool: whoever asked first may leave, others wait for it too.
    fn dial_http2(
        &self,
        peer: &Rc<Peer>,
        sharing: Sharing,
        to: &Destination<'_>,
    ) -> Result<Rc<Dialling>, Overloaded> {
        let permit = self.place(to)?;
        let dialling = Rc::new(Dialling::default());
        *peer.lane(sharing).dialling.borrow_mut() = Some(dialling.clone());
        let (addr, identity, limit) = (to.addr, to.identity.cloned(), to.connect_timeout);
        let (pool, peer, done) = (self.this.clone(), peer.clone(), dialling.clone());
        self.tasks.spawn(async move {
            let Some(pool) = pool.upgrade() else { return };
            let opened = pool
                .open_http2(addr, identity.as_ref(), limit, permit)
                .await;
            let lane = peer.lane(sharing);
            let outcome = opened.map(|conn| lane.conns.borrow_mut().push(conn));
            // Nobody else sets it.
            let _ = done.outcome.set(outcome);
            lane.dialling
                .borrow_mut()
                .take_if(|dialling| Rc::ptr_eq(dialling, &done));
            done.done.notify_waiters();
        });
        Ok(dialling)
    }

    async fn open_http2(
        &self,
        addr: SocketAddr,
        identity: Option<&SpiffeId>,
        limit: Duration,
        permit: Option<Permit>,
    ) -> Result<Http2Conn, PoolError> {
        let hop = self.connect(addr, identity, Alpn::H2, limit).await?;
        Http2Conn::open(hop, permit, &self.tasks)
            .await
            .map_err(|error| PoolError::Handshake(addr, error.to_string().into()))
    }

    fn peer(&self, to: &Destination<'_>) -> Rc<Peer> {
        let mut peers = self.peers.borrow_mut();
        let peer = peers.entry((to.id, to.addr)).or_insert_with(|| {
            Rc::new(Peer {
                shared: Lane::new(MAX_STREAMS as usize),
                alone: Lane::new(1),
                http1: Rc::default(),
                idle_timeout: Cell::new(to.idle_timeout),
            })
        });
        peer.idle_timeout.set(to.idle_timeout);
        let peer = peer.clone();
        drop(peers);
        if !self.sweeping.replace(true) {
            self.tasks.spawn(sweep(self.this.clone()));
        }
        peer
    }

    #[cfg(test)]
    pub(crate) fn http2_connections(&self) -> Vec<Http2Conn> {
        let peers = self.peers.borrow();
        let lanes = peers.values().flat_map(|peer| [&peer.shared, &peer.alone]);
        lanes
            .flat_map(|lane| lane.conns.borrow().to_vec())
            .collect()
    }
}

/// Closes what has idled too long, until there is nothing left to look after.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        let mut peers = pool.peers.borrow_mut();
        peers.retain(|_, peer| {
            peer.sweep(now);
            !peer.is_empty()
        });
        if peers.is_empty() {
            pool.sweeping.set(false);
            return;
        }
    }
}

impl Peer {
    fn lane(&self, sharing: Sharing) -> &Lane {
        match sharing {
            Sharing::Shared => &self.shared,
            Sharing::Alone => &self.alone,
        }
    }

    fn sweep(&self, now: Instant) {
        self.http1.sweep(now);
        self.shared.sweep(now, self.idle_timeout.get());
        self.alone.sweep(now, self.idle_timeout.get());
    }

    fn is_empty(&self) -> bool {
        self.http1.is_empty() && self.shared.is_empty() && self.alone.is_empty()
    }
}
