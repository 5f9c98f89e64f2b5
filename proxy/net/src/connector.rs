//! Dialling: the application of this pod in the clear, other proxies with mutual TLS, and this very
//! pod without leaving the process.
//!
//! It opens one connection per call and keeps none; pools are the request path's. There is no
//! fallback: where an identity is expected, it is proven or the connection fails.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use weft_certs::{Leaf, MeshTls, PeerError, PeerRole, peer_name};
use weft_identity::SpiffeId;

use crate::drain::{Drain, Leaving};
use crate::io::{Io, Tcp};
use crate::standing::Standing;
use crate::vanished;

/// What a hop carries: chooses the parser at the other end, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `weft/h2`: HTTP/2, many requests of many clients.
    H2,
    /// `weft/http1`: HTTP/1.1.
    Http1,
    /// `weft/tcp`: opaque bytes of one connection.
    Tcp,
}

impl Alpn {
    pub(crate) const ALL: [Self; 3] = [Self::H2, Self::Http1, Self::Tcp];

    /// The protocol name on the wire.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::H2 => b"weft/h2",
            Self::Http1 => b"weft/http1",
            Self::Tcp => b"weft/tcp",
        }
    }

    pub(crate) fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|alpn| alpn.as_bytes() == name)
    }
}

/// An open connection to a peer or to the application.
#[derive(Debug)]
pub struct Hop {
    /// Its bytes.
    pub io: Io,
    /// Who answered; none in plaintext.
    pub identity: Option<SpiffeId>,
    /// When to take no new request onto it (its peer's certificate, its age, trust; not because this
    /// proxy is leaving: it still serves) and when to end it. Whoever holds the hop watches both.
    pub drain: Drain,
}

/// A connection could not be opened. Nothing was sent to anyone: it may be tried elsewhere.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {target}: {kind}")]
pub struct ConnectError {
    /// Who was dialled.
    pub target: SocketAddr,
    /// What went wrong.
    pub kind: ConnectErrorKind,
}

/// What went wrong in opening a connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectErrorKind {
    /// TCP: refused, unreachable, out of ports.
    #[error("{0}")]
    Tcp(io::Error),
    /// Not done in the time allowed.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// The TLS handshake failed, usually because the peer is not whom the endpoint says, or does
    /// not trust us.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The handshake was completed by someone who may not.
    #[error("{0}")]
    Peer(#[from] PeerError),
    /// This proxy has no certificate yet, or it has ended: nothing goes to the mesh.
    #[error("this workload has no valid certificate")]
    NoCertificate,
    /// The endpoint takes mutual TLS, but nobody said who it is.
    #[error("the endpoint is of the mesh and its identity is not known")]
    Unidentified,
}

impl ConnectErrorKind {
    /// Nobody listens there.
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Tcp(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// A hop to this pod's own inbound side.
#[derive(Debug)]
pub(crate) struct OwnHop {
    pub(crate) io: DuplexStream,
    pub(crate) alpn: Alpn,
    pub(crate) to: SocketAddr,
}

/// A worker's dialler. Clones are the same one; it stays on its worker's thread.
#[derive(Clone, Debug)]
pub struct Connector(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    tls: MeshTls,
    configs: [Arc<ClientConfig>; 3],
    own: Arc<[IpAddr]>,
    own_hops: mpsc::UnboundedSender<OwnHop>,
    standing: Rc<Standing>,
    leaving: Leaving,
    keepalive: Duration,
}

/// Bytes that a hop inside the process may hold before its writer waits.
const OWN_HOP_BUFFER: usize = 64 * 1024;

impl Connector {
    pub(crate) fn new(
        tls: &MeshTls,
        configs: [Arc<ClientConfig>; 3],
        own: Arc<[IpAddr]>,
        own_hops: mpsc::UnboundedSender<OwnHop>,
        standing: Rc<Standing>,
        leaving: Leaving,
        keepalive: Duration,
    ) -> Self {
        Self(Rc::new(Inner {
            tls: tls.clone(),
            configs,
            own,
            own_hops,
            standing,
            leaving,
            keepalive,
        }))
    }

    /// Opens a hop to an endpoint, within `limit` for TCP and TLS together. With `tls` the peer must
    /// prove that identity; without, it is plaintext. One of this pod's own addresses with `tls` is
    /// connected to the inbound side inside the process.
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was sent.
    pub async fn connect(
        &self,
        target: SocketAddr,
        tls: Option<(&SpiffeId, Alpn)>,
        limit: Duration,
    ) -> Result<Hop, ConnectError> {
        let opened = match tls {
            Some((_, alpn)) if self.0.own.contains(&target.ip().to_canonical()) => {
                Ok(self.own_hop(target, alpn))
            }
            Some((expected, alpn)) => timeout(limit, self.mutual_tls(target, expected, alpn))
                .await
                .unwrap_or(Err(ConnectErrorKind::Timeout(limit))),
            None => timeout(limit, self.plain(target))
                .await
                .unwrap_or(Err(ConnectErrorKind::Timeout(limit))),
        };
        opened.map_err(|kind| ConnectError { target, kind })
    }

    async fn plain(&self, target: SocketAddr) -> Result<Hop, ConnectErrorKind> {
        let socket = match self.dial(target).await {
            Err(error) if error.is_refusal() => self.dial_elsewhere(target).await.ok_or(error)?,
            dialled => dialled?,
        };
        Ok(Hop {
            io: Io::plain(socket),
            identity: None,
            drain: self.0.leaving.hop_drain(),
        })
    }

    /// An application that listens on one family only is there all the same: what is refused at one
    /// of this pod's own addresses is tried at the others.
    async fn dial_elsewhere(&self, refused: SocketAddr) -> Option<TcpStream> {
        let here = refused.ip().to_canonical();
        if !self.0.own.contains(&here) {
            return None;
        }
        for other in self.0.own.iter().filter(|ip| **ip != here) {
            if let Ok(socket) = self.dial(SocketAddr::new(*other, refused.port())).await {
                return Some(socket);
            }
        }
        None
    }

    async fn mutual_tls(
        &self,
        target: SocketAddr,
        expected: &SpiffeId,
        alpn: Alpn,
    ) -> Result<Hop, ConnectErrorKind> {
        let own = self.0.tls.identity().current();
        if own.is_none_or(|own| own.chain().not_after() <= std::time::SystemTime::now()) {
            return Err(ConnectErrorKind::NoCertificate);
        }
        let socket = self.dial(target).await?;
        if alpn == Alpn::H2 {
            vanished::always_reads(&socket, self.0.keepalive);
        }
        let config = Arc::clone(&self.0.configs[alpn as usize]);
        let stream = TlsConnector::from(config)
            .connect(peer_name(expected, target), Tcp::new(socket).for_tls())
            .await
            .map_err(ConnectErrorKind::Tls)?;
        let session = stream.get_ref().1;
        let leaf = self.0.tls.server_of(session, expected)?;
        if session.alpn_protocol() != Some(alpn.as_bytes()) {
            let text = format!("the peer does not speak {}", alpn.as_bytes().escape_ascii());
            return Err(ConnectErrorKind::Tls(io::Error::other(text)));
        }
        let chain = session.peer_certificates().unwrap_or_default();
        let life = self.0.standing.enter(&leaf, chain, PeerRole::Server);
        let Leaf { id, .. } = leaf;
        Ok(Hop {
            io: Io::Tls(Box::new(stream.into())),
            identity: Some(id),
            drain: self.0.leaving.hop_drain().with_life(life),
        })
    }

    async fn dial(&self, target: SocketAddr) -> Result<TcpStream, ConnectErrorKind> {
        let socket = TcpStream::connect(target)
            .await
            .map_err(ConnectErrorKind::Tcp)?;
        socket.set_nodelay(true).map_err(ConnectErrorKind::Tcp)?;
        vanished::keep_alive(&socket, self.0.keepalive);
        Ok(socket)
    }

    fn own_hop(&self, to: SocketAddr, alpn: Alpn) -> Hop {
        let (io, other) = tokio::io::duplex(OWN_HOP_BUFFER);
        // When the worker is gone, the other end is dropped and ours reads its end.
        let _ = self.0.own_hops.send(OwnHop {
            io: other,
            alpn,
            to,
        });
        let own = self.0.tls.identity().current();
        Hop {
            io: Io::Memory(io),
            identity: own.map(|own| own.chain().id().clone()),
            drain: self.0.leaving.hop_drain(),
        }
    }
}
