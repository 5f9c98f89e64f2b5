//! Connections: accepted, asked where they were going, understood, authenticated, and carried or handed on.
//!
//! Owns sockets, original destinations, protocol detection, the mutual TLS of hops, opaque TCP from
//! end to end, the life of hops, and leaving. It does not own requests: a connection that speaks HTTP goes to
//! [`ServeHttp`] (proxy/http) with everything that is known about it. Policy is proxy/config's; here
//! it is only asked.
//!
//! inbound:  accept → original destination → detect / TLS → identity → authorise → [`ServeHttp::inbound`] | relay to the application
//! outbound: accept → original destination → resolve → detect → [`ServeHttp::outbound`] | balance → connect → relay
//!
//! A process builds one [`Proxy`], binds [`Listener`]s, ties them to workers with [`seats`], runs
//! [`Acceptors`] on one runtime and [`run_worker`] on each worker's own (`current_thread` with a
//! `LocalSet`). [`Leaving`] ends it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod acceptor;
mod conn;
mod connector;
mod detect;
mod drain;
mod first_bytes;
mod inbound;
mod io;
mod known_ports;
mod listen;
mod opaque;
mod outbound;
mod relay;
mod self_test;
mod standing;
mod tls;
mod vanished;
mod worker;

pub use acceptor::{Acceptors, Seat, seats};
pub use conn::{HttpVersion, InboundConn, OutboundConn, PeerInfo, ServeHttp};
pub use connector::{Alpn, ConnectError, ConnectErrorKind, Connector, Hop};
pub use drain::{Drain, Leaving, Phase};
pub use io::{Io, Tcp};
pub use listen::{INBOUND_PORT, Listener, OUTBOUND_PORT, OWN_PORTS, Role, SELF_TEST_PORT};
pub use self_test::redirection_is_in_force;
pub use vanished::ASK_AFTER;
pub use worker::{Limits, Proxy, WorkerContext, run_worker};

#[cfg(test)]
mod tests;
