//! Where connections come in: bound listeners and what each of them is for; and the original
//! destination of what arrives there.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;

use crate::vanished;

/// Redirected connections of the pod's application arrive here.
pub const OUTBOUND_PORT: u16 = 15001;
/// Redirected connections to the pod arrive here.
pub const INBOUND_PORT: u16 = 15006;
/// On loopback, and only while interception is in force, this port leads to [`OUTBOUND_PORT`]: what
/// a proxy dials to see whether it stands where it should. Nothing listens on it.
pub const SELF_TEST_PORT: u16 = 15002;
/// Ports of the pod that are Weft's own: never a destination of anything it proxies.
pub const OWN_PORTS: [u16; 6] = [
    15000,
    OUTBOUND_PORT,
    SELF_TEST_PORT,
    INBOUND_PORT,
    15020,
    15021,
];

/// What a listener is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Redirected connections to the pod; each goes where it was going.
    Inbound,
    /// Without interception: connections to the pod's `pod` address, for the application at `app`.
    InboundTo {
        /// Stands for the original destination: selects policy.
        pod: SocketAddr,
        /// Where the application listens.
        app: SocketAddr,
    },
    /// Redirected connections of the application; each goes where it was going.
    Outbound,
    /// Without interception: connections of the application to this destination.
    OutboundTo(SocketAddr),
}

/// A listener that is bound and not yet accepted from.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) role: Role,
}

impl Listener {
    /// Binds `address`; port 0 picks one.
    ///
    /// # Errors
    /// As of `socket`, `bind` and `listen`, naming the address.
    pub fn bind(address: SocketAddr, role: Role) -> io::Result<Self> {
        let socket = bind(address).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        })?;
        vanished::keep_alive(&socket, vanished::ASK_AFTER);
        Ok(Self { socket, role })
    }

    /// Has the kernel ask clients that are silent for so long whether they are still there.
    #[must_use]
    pub fn keep_alive(self, after: Duration) -> Self {
        vanished::keep_alive(&self.socket, after);
        self
    }

    /// The listeners that interception redirects to, for IPv4 and, where the host has it, IPv6.
    ///
    /// # Errors
    /// As of [`Listener::bind`].
    pub fn intercepting() -> io::Result<Vec<Self>> {
        let mut listeners = vec![
            Self::bind((Ipv4Addr::LOCALHOST, OUTBOUND_PORT).into(), Role::Outbound)?,
            Self::bind((Ipv4Addr::UNSPECIFIED, INBOUND_PORT).into(), Role::Inbound)?,
        ];
        for (address, port, role) in [
            (Ipv6Addr::LOCALHOST, OUTBOUND_PORT, Role::Outbound),
            (Ipv6Addr::UNSPECIFIED, INBOUND_PORT, Role::Inbound),
        ] {
            match Self::bind((address, port).into(), role) {
                Ok(listener) => listeners.push(listener),
                Err(error) if no_such_family(&error) => {
                    tracing::info!(%error, "no IPv6 here");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(listeners)
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// As of `getsockname`.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What it is for.
    pub fn role(&self) -> &Role {
        &self.role
    }
}

fn no_such_family(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::AddrNotAvailable
    )
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Why a connection's destination is refused. None of these is retryable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadDestination {
    /// It was dialled here and not redirected, or the kernel does not know.
    NotRedirected,
    /// It is one of Weft's own ports on this pod.
    OwnPort,
    /// It is not an address of this pod.
    NotThisPod,
}

impl fmt::Display for BadDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotRedirected => "the proxy was dialled directly",
            Self::OwnPort => "the destination is a port of the proxy's own",
            Self::NotThisPod => "the destination is not an address of this pod",
        })
    }
}

/// Where a redirected connection was going, per the kernel's connection tracking.
pub(crate) fn original_destination(socket: &TcpStream) -> Result<SocketAddr, BadDestination> {
    let local = socket
        .local_addr()
        .map_err(|_| BadDestination::NotRedirected)?;
    let asked = SockRef::from(socket);
    let original = match local.ip() {
        IpAddr::V4(_) => asked.original_dst_v4(),
        IpAddr::V6(_) => asked.original_dst_v6(),
    };
    let original = original
        .ok()
        .and_then(|address| address.as_socket())
        .ok_or(BadDestination::NotRedirected)?;
    // Scope and flow of IPv6 are of this hop only.
    let original = SocketAddr::new(original.ip(), original.port());
    if original == SocketAddr::new(local.ip(), local.port()) {
        return Err(BadDestination::NotRedirected);
    }
    Ok(original)
}

/// Refuses an inbound destination that would make the proxy a relay or a loop.
pub(crate) fn check_inbound(to: SocketAddr, own: &[IpAddr]) -> Result<(), BadDestination> {
    if OWN_PORTS.contains(&to.port()) {
        return Err(BadDestination::OwnPort);
    }
    if !own.contains(&to.ip().to_canonical()) {
        return Err(BadDestination::NotThisPod);
    }
    Ok(())
}

/// Refuses an outbound destination that leads back into this proxy.
pub(crate) fn check_outbound(to: SocketAddr, own: &[IpAddr]) -> Result<(), BadDestination> {
    let ip = to.ip().to_canonical();
    let here = ip.is_loopback() || ip.is_unspecified() || own.contains(&ip);
    if here && OWN_PORTS.contains(&to.port()) {
        return Err(BadDestination::OwnPort);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<IpAddr> {
        vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()]
    }

    #[test]
    fn inbound_takes_this_pod_only_and_none_of_its_own_ports() {
        let check = |to: &str| check_inbound(to.parse().unwrap(), &own());
        assert_eq!(check("10.0.0.7:80"), Ok(()));
        assert_eq!(check("[fd00::7]:80"), Ok(()));
        assert_eq!(check("[::ffff:10.0.0.7]:80"), Ok(()));
        assert_eq!(check("10.0.0.8:80"), Err(BadDestination::NotThisPod));
        assert_eq!(check("127.0.0.1:80"), Err(BadDestination::NotThisPod));
        assert_eq!(check("169.254.169.254:80"), Err(BadDestination::NotThisPod));
        for port in OWN_PORTS {
            assert_eq!(
                check(&format!("10.0.0.7:{port}")),
                Err(BadDestination::OwnPort)
            );
        }
    }

    #[test]
    fn outbound_never_leads_back_into_the_proxy() {
        let check = |to: &str| check_outbound(to.parse().unwrap(), &own());
        assert_eq!(check("127.0.0.1:15001"), Err(BadDestination::OwnPort));
        assert_eq!(check("[::1]:15000"), Err(BadDestination::OwnPort));
        assert_eq!(check("10.0.0.7:15006"), Err(BadDestination::OwnPort));
        assert_eq!(check("10.0.0.8:15006"), Ok(()));
        assert_eq!(check("10.0.0.7:80"), Ok(()));
    }

    #[tokio::test]
    async fn a_connection_that_was_not_redirected_has_no_original_destination() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (socket, _) = accepted.unwrap();
        assert_eq!(
            original_destination(&socket),
            Err(BadDestination::NotRedirected)
        );
    }
}
