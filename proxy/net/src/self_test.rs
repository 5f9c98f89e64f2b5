//! Does the kernel really redirect to this proxy? Asked by dialling an address that only redirection
//! can answer; the proxy's own user is exempt from all rules but that one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::listen::{SELF_TEST_PORT, original_destination};

const ANSWER: &[u8] = b"redirected\n";
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the connection is a question of [`redirection_is_in_force`].
pub(crate) fn is_one(socket: &TcpStream) -> bool {
    original_destination(socket)
        .is_ok_and(|to| to.port() == SELF_TEST_PORT && to.ip().is_loopback())
}

pub(crate) async fn answer(mut socket: TcpStream) {
    // Who asked and did not wait for the answer has none.
    let _ = socket.write_all(ANSWER).await;
    let _ = socket.shutdown().await;
}

/// Asks, over IPv4: the table is one for both families and is written whole.
///
/// # Errors
/// Nobody redirects, or not to this proxy.
pub async fn redirection_is_in_force() -> io::Result<()> {
    let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), SELF_TEST_PORT);
    let ask = async {
        let mut heard = Vec::new();
        let socket = TcpStream::connect(to).await?;
        socket
            .take(ANSWER.len() as u64)
            .read_to_end(&mut heard)
            .await?;
        if heard != ANSWER {
            return Err(io::Error::other("somebody else is redirected to"));
        }
        Ok(())
    };
    timeout(PATIENCE, ask)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
