//! TCP → TLS 1.3 → connections of which it is known who they are.
//!
//! A client may come without a certificate (first contact); the services decide what it may do
//! then. Handshakes run beside each other, bounded in number and time.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use weft_certs::{ClientAuth, Clock, MeshTls};
use weft_xds::Peer;

/// Handshakes at once; further clients wait in the backlog.
const HANDSHAKES: usize = 256;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After an error of accept (mostly: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that stand and wait to be served.
pub(crate) const READY: usize = 64;

#[derive(Clone)]
pub(crate) struct TlsListener {
    pub tls: MeshTls,
    pub clock: Arc<dyn Clock>,
    /// The network may put another address in place of a client's.
    pub masqueraded: bool,
}

impl TlsListener {
    /// Accepts for ever; connections go to `ready`. Ends when nobody takes them any more.
    pub async fn serve(
        &self,
        listener: TcpListener,
        ready: mpsc::Sender<io::Result<Connection>>,
    ) -> anyhow::Result<()> {
        let config = self.tls.server_config(&[b"h2"], ClientAuth::Optional)?;
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if handshakes.len() < HANDSHAKES => match accepted {
                    Ok((stream, peer)) => {
                        let handshake = self.handshake(stream, peer, Arc::clone(&config));
                        handshakes.spawn(timeout(HANDSHAKE_TIMEOUT, handshake));
                    }
                    Err(error) => {
                        tracing::warn!("cannot accept: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(done) = handshakes.join_next() => {
                    let Ok(Ok(Some(connection))) = done else { continue };
                    if ready.send(Ok(connection)).await.is_err() {
                        return Ok(());
                    }
                }
                () = ready.closed() => return Ok(()),
            }
        }
    }

    fn handshake(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        config: Arc<ServerConfig>,
    ) -> impl Future<Output = Option<Connection>> + use<> {
        let (tls, clock) = (self.tls.clone(), Arc::clone(&self.clock));
        let masqueraded = self.masqueraded;
        async move {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%peer, "no TCP_NODELAY: {error}");
            }
            let stream = match TlsAcceptor::from(config).accept(stream).await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%peer, "TLS handshake failed: {error}");
                    return None;
                }
            };
            let leaf = match tls.client_of(stream.get_ref().1) {
                Ok(leaf) => leaf,
                Err(error) => {
                    tracing::debug!(%peer, "client certificate refused: {error}");
                    return None;
                }
            };
            let now = clock.now();
            let until = leaf.as_ref().map(|leaf| {
                Instant::now() + leaf.not_after.duration_since(now).unwrap_or_default()
            });
            Some(Connection {
                stream,
                peer: Peer {
                    identity: leaf.map(|leaf| leaf.id),
                    address: peer.ip().to_canonical(),
                    masqueraded,
                    until,
                },
            })
        }
    }
}

/// A TLS connection and who is at its other end.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
