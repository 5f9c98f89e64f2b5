//! Connections of this pod's application, from accept to the request path or to an endpoint.
//!
//! original destination → resolve → first bytes → HTTP | balance → connect → carry

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use weft_proxy_config::{Backend, RefusedReason, Resolution, Target, balance};
use weft_proxy_telemetry::{ConnectionRecord, Flag, ServiceLabel};

use crate::conn::{HttpVersion, OutboundConn, ServeHttp};
use crate::connector::{Alpn, ConnectError, ConnectErrorKind, Hop};
use crate::detect::Speaks;
use crate::first_bytes::{FirstBytes, Heard};
use crate::io::Io;
use crate::listen::{Role, check_outbound, original_destination};
use crate::opaque::{Dialled, SpokeFirst, dial_for_silent};
use crate::self_test;
use crate::worker::{Refusal, Served, Worker};

/// Endpoints tried for one opaque connection.
const ATTEMPTS: usize = 3;

/// What the destination says about its connections before they say it themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Anything.
    Any,
    /// Routed or declared as HTTP.
    Http,
    /// Declared as opaque.
    Opaque,
    /// Nothing: it is refused.
    Nothing,
}

impl Expected {
    fn at(resolution: &Resolution) -> Self {
        let protocol = match resolution {
            Resolution::Refused(_) => return Self::Nothing,
            Resolution::Passthrough => return Self::Any,
            Resolution::Workload(backend) => backend.load().protocol,
            Resolution::Service { service, port } => {
                let service = service.load();
                match service.port(*port) {
                    Some(port) if port.routed => return Self::Http,
                    Some(port) => port.protocol,
                    None => return Self::Nothing,
                }
            }
        };
        if protocol.is_http() {
            Self::Http
        } else if protocol.is_opaque() {
            Self::Opaque
        } else {
            Self::Any
        }
    }
}

/// A connection of the application on its way.
struct Call {
    socket: TcpStream,
    first: FirstBytes,
    client: SocketAddr,
    to: SocketAddr,
    resolution: Resolution,
    expected: Expected,
}

impl<S: ServeHttp> Worker<S> {
    pub(crate) async fn outbound(
        &self,
        socket: TcpStream,
        client: SocketAddr,
        role: &Role,
        record: &mut ConnectionRecord,
    ) -> Result<Served, Refusal> {
        if *role == Role::Outbound && self_test::is_one(&socket) {
            self_test::answer(socket).await;
            return Ok(Served::SelfTest);
        }
        let to = self.outbound_destination(&socket, role)?;
        let resolution = match self.store.resolved(to) {
            Some(known) => known,
            None => self.store.resolve(to).await,
        };
        record.peer = Some(to);
        record.destination = destination_label(&resolution);
        let expected = Expected::at(&resolution);
        let mut call = Call {
            socket,
            first: FirstBytes::new(self.limits.detect_timeout),
            client,
            to,
            resolution,
            expected,
        };
        if expected == Expected::Opaque {
            return Box::pin(self.outbound_opaque(call, None, Vec::new(), record)).await;
        }
        let heard = call
            .first
            .hear(&call.socket, self.outbound_patience(expected, to))
            .await;
        if expected == Expected::Any {
            self.known_ports.client_spoke(to, &heard);
        }
        if heard != Heard::Silent || expected != Expected::Any {
            return self.outbound_heard(call, heard, None, record).await;
        }
        let dial = || Box::pin(self.dial_for(&call.resolution, to));
        match dial_for_silent(&mut call.first, &call.socket, &self.limits, dial).await? {
            SpokeFirst::Client(heard, dialled) => {
                self.known_ports.client_spoke(to, &heard);
                self.outbound_heard(call, heard, dialled, record).await
            }
            SpokeFirst::Server(dialled, greeting) => {
                self.known_ports.server_spoke(to, &greeting);
                Box::pin(self.outbound_opaque(call, Some(dialled), greeting, record)).await
            }
        }
    }

    fn outbound_destination(&self, socket: &TcpStream, role: &Role) -> Result<SocketAddr, Refusal> {
        let to = match *role {
            Role::OutboundTo(to) => Ok(to),
            _ => original_destination(socket),
        };
        to.and_then(|to| check_outbound(to, &self.addresses).map(|()| to))
            .map_err(|bad| Refusal::new(Flag::BadDestination, bad))
    }

    fn outbound_patience(&self, expected: Expected, to: SocketAddr) -> Duration {
        match expected {
            Expected::Http | Expected::Opaque => self.limits.silence_timeout,
            Expected::Nothing => self.limits.last_word_timeout,
            Expected::Any => self.known_ports.dial_after(to, &self.limits),
        }
    }

    async fn outbound_heard(
        &self,
        call: Call,
        heard: Heard,
        dialled: Option<Dialled>,
        record: &mut ConnectionRecord,
    ) -> Result<Served, Refusal> {
        let version = match heard {
            Heard::Speaks(Speaks::Http1) => HttpVersion::Http1,
            Heard::Speaks(Speaks::Http2) => HttpVersion::Http2,
            // Its codec answers garbage with a 400.
            Heard::Speaks(Speaks::Opaque) if call.expected == Expected::Http => HttpVersion::Http1,
            Heard::Speaks(Speaks::Tls(_)) if call.expected == Expected::Http => {
                let reason = "TLS of the application's own to a port that is HTTP";
                return Err(Refusal::new(Flag::NotHttp, reason));
            }
            Heard::TooSlow => {
                let reason = "a ClientHello never ended";
                return Err(Refusal::new(Flag::RequestTimeout, reason));
            }
            Heard::Gone => return Err(Refusal::new(Flag::ClientGone, "gone before it spoke")),
            Heard::Finished if call.expected == Expected::Http => {
                return Err(Refusal::new(Flag::ClientGone, "gone before it spoke"));
            }
            Heard::Silent if call.expected == Expected::Http => {
                let reason = "the client never spoke";
                return Err(Refusal::new(Flag::RequestTimeout, reason));
            }
            Heard::Speaks(_) | Heard::Finished | Heard::Silent => {
                return Box::pin(self.outbound_opaque(call, dialled, Vec::new(), record)).await;
            }
        };
        drop(dialled);
        self.http
            .outbound(OutboundConn {
                io: Io::Plain(call.first.put_back(call.socket)),
                version,
                client: call.client,
                destination: call.to,
                resolution: call.resolution,
                drain: self.leaving.drain(),
            })
            .await;
        Ok(Served::Http)
    }

    async fn outbound_opaque(
        &self,
        call: Call,
        dialled: Option<Dialled>,
        greeting: Vec<u8>,
        record: &mut ConnectionRecord,
    ) -> Result<Served, Refusal> {
        let dialled = match dialled {
            Some(dialled) => dialled,
            None => self.dial_for(&call.resolution, call.to).await?,
        };
        record.peer = Some(dialled.peer);
        record.peer_workload = dialled.workload.clone();
        record.mtls = dialled.hop.identity.is_some();
        let client = Io::Plain(call.first.put_back(call.socket));
        let drain = self.leaving.drain();
        let never = std::future::pending();
        self.carry(client, &drain, dialled, greeting, never, record)
            .await
    }

    /// Opens the server's side of an opaque connection.
    async fn dial_for(&self, to: &Resolution, address: SocketAddr) -> Result<Dialled, Refusal> {
        match to {
            Resolution::Refused(reason) => Err(Refusal::new(refused_flag(*reason), reason)),
            Resolution::Passthrough => {
                let limit = self.limits.connect_timeout;
                let hop = self.connector.connect(address, None, limit).await;
                Ok(Dialled::plain(hop.map_err(connect_failed)?, address))
            }
            Resolution::Workload(backend) => self.dial_backend(backend).await,
            Resolution::Service { service, port } => {
                let own = service.load().port(*port).map(|port| Arc::clone(&port.own));
                match own {
                    Some(backend) => self.dial_backend(&backend).await,
                    None => {
                        let reason = format!("the service has no port {port}");
                        Err(Refusal::new(Flag::NoEndpoint, reason))
                    }
                }
            }
        }
    }

    /// Balances over a backend's endpoints; one that cannot be reached is left for another.
    async fn dial_backend(&self, backend: &Backend) -> Result<Dialled, Refusal> {
        let snapshot = backend.snapshot();
        let limits = &snapshot.policy.limits;
        let permit = backend
            .state
            .try_connection(limits)
            .map_err(|limit| Refusal::new(Flag::Overloaded, limit))?;
        let mut tried = [0_u64; ATTEMPTS];
        let mut last = Refusal::new(Flag::NoEndpoint, "no endpoint takes connections");
        for attempt in 0..ATTEMPTS.min(snapshot.targets().len()) {
            let picked = balance::pick(
                &snapshot,
                &backend.state,
                Instant::now(),
                &tried[..attempt],
                &mut *self.rng.borrow_mut(),
                |_| 0.0,
            );
            let Some(target) = picked else { break };
            tried[attempt] = target.id();
            match self.dial_target(target, limits.connect_timeout).await {
                Ok(hop) => {
                    backend.on_success(target, Instant::now());
                    return Ok(Dialled {
                        hop,
                        peer: target.addr,
                        workload: Some(Arc::clone(&target.endpoint.workload)),
                        _place: Some((permit, target.endpoint.state.begin())),
                    });
                }
                Err(error) => {
                    let own_fault = matches!(error.kind, ConnectErrorKind::NoCertificate);
                    last = connect_failed(error);
                    if own_fault {
                        break;
                    }
                    backend.on_failure(target, Instant::now());
                }
            }
        }
        Err(last)
    }

    async fn dial_target(&self, target: &Target, limit: Duration) -> Result<Hop, ConnectError> {
        let tls = match (target.mtls, &target.endpoint.identity) {
            (false, _) => None,
            (true, Some(identity)) => Some((identity, Alpn::Tcp)),
            (true, None) => {
                let kind = ConnectErrorKind::Unidentified;
                let target = target.addr;
                return Err(ConnectError { target, kind });
            }
        };
        self.connector.connect(target.addr, tls, limit).await
    }
}

fn connect_failed(error: ConnectError) -> Refusal {
    let flag = match error.kind {
        ConnectErrorKind::NoCertificate => Flag::NotReady,
        ConnectErrorKind::Peer(_) | ConnectErrorKind::Tls(_) => Flag::HandshakeFailed,
        _ => Flag::ConnectFailed,
    };
    Refusal::new(flag, error)
}

fn refused_flag(reason: RefusedReason) -> Flag {
    match reason {
        RefusedReason::RegistryOnly => Flag::NotInRegistry,
        RefusedReason::UnknownMeshAddress
        | RefusedReason::NoControlPlane
        | RefusedReason::LookupLimit => Flag::Unresolved,
    }
}

fn destination_label(resolution: &Resolution) -> Option<ServiceLabel> {
    match resolution {
        Resolution::Service { service, port } => {
            let service = service.load();
            Some(ServiceLabel {
                namespace: Arc::clone(&service.namespace),
                name: Arc::clone(&service.name),
                port: *port,
            })
        }
        Resolution::Workload(backend) => Some(ServiceLabel {
            namespace: Arc::clone(backend.namespace()),
            name: Arc::clone(backend.name()),
            port: backend.port(),
        }),
        Resolution::Passthrough | Resolution::Refused(_) => None,
    }
}
