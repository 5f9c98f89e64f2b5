//! The connection to the control plane: TCP, TLS 1.3 with the peer's SPIFFE ID verified, HTTP/2 with
//! keepalive. Nothing is sent before the control plane has proved who it is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use weft_certs::{MeshTls, peer_name};
use weft_identity::SpiffeId;

use crate::names;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0:?} is not HOST:PORT")]
    Address(String),
    #[error("cannot connect to the control plane: {}", causes(.0))]
    Transport(#[from] tonic::transport::Error),
}

/// The outermost message alone says little ("transport error").
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// Opens a connection; it shows the identity of this moment.
pub(crate) async fn connect(
    control_plane: &str,
    expected: &SpiffeId,
    tls: &MeshTls,
) -> Result<Channel, ConnectError> {
    let address = || ConnectError::Address(control_plane.to_owned());
    let endpoint = Endpoint::from_shared(format!("https://{control_plane}"))
        .map_err(|_| address())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let dial = Arc::new(Dial {
        address: control_plane.to_owned(),
        expected: expected.clone(),
        tls: tls.clone(),
        connector: TlsConnector::from(tls.client_config(&[b"h2"])),
    });
    let connector = tower::service_fn(move |_: Uri| {
        let dial = Arc::clone(&dial);
        async move { dial.dial().await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector(connector).await?)
}

struct Dial {
    address: String,
    expected: SpiffeId,
    tls: MeshTls,
    connector: TlsConnector,
}

impl Dial {
    /// To the first of the host's addresses that answers.
    async fn dial(&self) -> io::Result<TlsStream<TcpStream>> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in names::addresses(&self.address).await? {
            match self.dial_one(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn dial_one(&self, address: std::net::SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = peer_name(&self.expected, address);
        let stream = self.connector.connect(name, stream).await?;
        let (_, connection) = stream.get_ref();
        self.tls
            .server_of(connection, &self.expected)
            .map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))?;
        Ok(stream)
    }
}
