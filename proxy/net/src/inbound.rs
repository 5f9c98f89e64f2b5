//! Connections to this pod, from accept to the request path or the application.
//!
//! original destination → first bytes → (mutual TLS → identity) → may it → HTTP | opaque

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use weft_proxy_config::{Decision, Inbound, MtlsMode, Peer};
use weft_proxy_telemetry::{ConnectionRecord, Flag, ServiceLabel};

use crate::conn::{HttpVersion, InboundConn, PeerInfo, ServeHttp};
use crate::connector::{Alpn, OwnHop};
use crate::detect::Speaks;
use crate::drain::Drain;
use crate::first_bytes::{FirstBytes, Heard};
use crate::io::{Io, Tcp};
use crate::listen::{Role, check_inbound, original_destination};
use crate::opaque::{Dialled, SpokeFirst, dial_for_silent};
use crate::worker::{Refusal, Served, Worker};

/// Where an inbound connection goes.
#[derive(Clone, Copy, Debug)]
struct Destination {
    /// The pod's address and port: selects policy.
    local: SocketAddr,
    /// Where the application is dialled.
    app: SocketAddr,
}

/// Someone whose protocol and identity are known.
struct Caller {
    io: Io,
    peer: PeerInfo,
    drain: Drain,
    to: Destination,
}

/// One step of understanding a plaintext connection.
struct Arrived {
    socket: TcpStream,
    first: FirstBytes,
    to: Destination,
    peer: SocketAddr,
}

impl<S: ServeHttp> Worker<S> {
    pub(crate) async fn inbound(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        role: &Role,
        record: &mut ConnectionRecord,
    ) -> Result<Served, Refusal> {
        let to = self.inbound_destination(&socket, role)?;
        let first = FirstBytes::new(self.limits.detect_timeout);
        let mut arrived = Arrived {
            socket,
            first,
            to,
            peer,
        };
        let dial_after = {
            let inbound = self.inbound_policy()?;
            record.destination = Some(label(&inbound, to.local));
            self.may_dial_for_silent(&inbound, &arrived)
        };
        let patience = dial_after.unwrap_or(self.limits.silence_timeout);
        let heard = arrived.first.hear(&arrived.socket, patience).await;
        if dial_after.is_some() {
            self.known_ports.client_spoke(to.app, &heard);
        }
        if heard != Heard::Silent {
            return self.inbound_heard(arrived, heard, None, record).await;
        }
        if dial_after.is_none() {
            return Err(silent());
        }
        let dial = || Box::pin(self.dial_app(to.app));
        match dial_for_silent(&mut arrived.first, &arrived.socket, &self.limits, dial).await? {
            SpokeFirst::Client(heard, dialled) => {
                self.known_ports.client_spoke(to.app, &heard);
                self.inbound_heard(arrived, heard, dialled, record).await
            }
            SpokeFirst::Server(dialled, greeting) => {
                self.known_ports.server_spoke(to.app, &greeting);
                let client = Io::Plain(arrived.first.put_back(arrived.socket));
                let caller = Caller {
                    io: client,
                    peer: plaintext(peer),
                    drain: self.leaving.drain(),
                    to,
                };
                Box::pin(self.inbound_opaque(caller, Some(dialled), greeting, record)).await
            }
        }
    }

    /// A call of this pod to its own service: the same phases, without a network between.
    pub(crate) async fn inbound_own(
        &self,
        hop: OwnHop,
        peer: SocketAddr,
        record: &mut ConnectionRecord,
    ) -> Result<Served, Refusal> {
        check_inbound(hop.to, &self.addresses)
            .map_err(|bad| Refusal::new(Flag::BadDestination, bad))?;
        let own = self.tls.identity().current();
        let own = own.ok_or_else(|| Refusal::new(Flag::NotReady, "no certificate yet"))?;
        let peer = PeerInfo {
            identity: Some(own.chain().id().clone()),
            address: peer,
            mesh: true,
            not_after: Some(own.chain().not_after()),
        };
        let to = Destination {
            local: hop.to,
            app: self
                .applications
                .iter()
                .find(|(pod, _)| *pod == hop.to)
                .map_or(hop.to, |(_, app)| *app),
        };
        record.destination = Some(label(self.inbound_policy()?.as_ref(), to.local));
        let caller = Caller {
            io: Io::Memory(hop.io),
            peer,
            drain: self.leaving.hop_drain(),
            to,
        };
        self.inbound_mesh(caller, hop.alpn, record).await
    }

    fn inbound_destination(&self, socket: &TcpStream, role: &Role) -> Result<Destination, Refusal> {
        if let Role::InboundTo { pod, app } = *role {
            return Ok(Destination { local: pod, app });
        }
        let local = original_destination(socket)
            .and_then(|local| check_inbound(local, &self.addresses).map(|()| local))
            .map_err(|bad| Refusal::new(Flag::BadDestination, bad))?;
        Ok(Destination { local, app: local })
    }

    fn inbound_policy(&self) -> Result<Arc<Inbound>, Refusal> {
        self.store
            .inbound()
            .ok_or_else(|| Refusal::new(Flag::NotReady, "no policy received yet"))
    }

    /// After how much silence the application may be dialled for a plaintext client, if ever.
    fn may_dial_for_silent(&self, inbound: &Inbound, arrived: &Arrived) -> Option<Duration> {
        let port = inbound.port(arrived.to.local.port());
        let peer = Peer {
            identity: None,
            address: arrived.peer.ip().to_canonical(),
            port: arrived.to.local.port(),
        };
        let may = port.mtls == MtlsMode::Permissive
            && !port.is_http()
            && inbound.authorize_connection(&peer).is_allowed();
        may.then(|| self.known_ports.dial_after(arrived.to.app, &self.limits))
    }

    async fn inbound_heard(
        &self,
        arrived: Arrived,
        heard: Heard,
        dialled: Option<Dialled>,
        record: &mut ConnectionRecord,
    ) -> Result<Served, Refusal> {
        let Arrived {
            socket,
            first,
            to,
            peer,
        } = arrived;
        let port = self.inbound_policy()?.port(to.local.port());
        let speaks = match heard {
            Heard::Speaks(Speaks::Tls(hello)) if hello.mesh => {
                drop(dialled);
                return self
                    .inbound_tls(first.put_back(socket), to, peer, record)
                    .await;
            }
            Heard::Silent => return Err(silent()),
            Heard::TooSlow => {
                return Err(Refusal::new(
                    Flag::RequestTimeout,
                    "a ClientHello never ended",
                ));
            }
            Heard::Gone => return Err(Refusal::new(Flag::ClientGone, "gone before it spoke")),
            _ if port.mtls == MtlsMode::Strict => {
                let reason = "plaintext where mutual TLS is required";
                return Err(Refusal::new(Flag::PlaintextRefused, reason));
            }
            Heard::Finished if port.is_http() => {
                return Err(Refusal::new(Flag::ClientGone, "gone before it spoke"));
            }
            Heard::Finished => Speaks::Opaque,
            Heard::Speaks(speaks) => speaks,
        };
        let caller = Caller {
            io: Io::Plain(first.put_back(socket)),
            peer: plaintext(peer),
            drain: self.leaving.drain(),
            to,
        };
        let opaque = port.protocol.is_opaque() && !port.routed;
        let version = match speaks {
            Speaks::Http2 if !opaque => HttpVersion::Http2,
            Speaks::Http1 if !opaque => HttpVersion::Http1,
            // Its codec answers garbage with a 400.
            Speaks::Opaque if port.is_http() => HttpVersion::Http1,
            _ => return Box::pin(self.inbound_opaque(caller, dialled, Vec::new(), record)).await,
        };
        drop(dialled);
        self.inbound_http(caller, version).await
    }

    async fn inbound_tls(
        &self,
        tcp: Tcp,
        to: Destination,
        peer: SocketAddr,
        record: &mut ConnectionRecord,
    ) -> Result<Served, Refusal> {
        // A handshake's state is large, and over soon.
        let proven = Box::pin(self.accept_mutual_tls(tcp)).await?;
        let caller = Caller {
            io: proven.io,
            peer: PeerInfo {
                identity: Some(proven.leaf.id),
                address: peer,
                mesh: true,
                not_after: Some(proven.leaf.not_after),
            },
            drain: proven.drain,
            to,
        };
        self.inbound_mesh(caller, proven.alpn, record).await
    }

    /// A caller of the mesh. Its ALPN chooses the parser and nothing else.
    async fn inbound_mesh(
        &self,
        caller: Caller,
        alpn: Alpn,
        record: &mut ConnectionRecord,
    ) -> Result<Served, Refusal> {
        record.source = caller.peer.identity.clone();
        record.mtls = true;
        match alpn {
            Alpn::H2 => self.inbound_http(caller, HttpVersion::Http2).await,
            Alpn::Http1 => self.inbound_http(caller, HttpVersion::Http1).await,
            Alpn::Tcp => Box::pin(self.inbound_opaque(caller, None, Vec::new(), record)).await,
        }
    }

    /// Whether a request may is asked per request: a refusal in HTTP says more than a closed connection.
    async fn inbound_http(&self, caller: Caller, version: HttpVersion) -> Result<Served, Refusal> {
        let drain = caller.drain.clone();
        let conn = InboundConn {
            io: caller.io,
            version,
            peer: caller.peer,
            local: caller.to.local,
            app: caller.to.app,
            drain: caller.drain,
        };
        tokio::select! {
            () = self.http.inbound(conn) => {}
            () = drain.ended() => {}
        }
        Ok(Served::Http)
    }

    async fn inbound_opaque(
        &self,
        caller: Caller,
        dialled: Option<Dialled>,
        greeting: Vec<u8>,
        record: &mut ConnectionRecord,
    ) -> Result<Served, Refusal> {
        let Caller {
            io,
            peer,
            drain,
            to,
        } = caller;
        // Watched from before the decision: no change is missed.
        let changes = self.store.inbound_changes();
        let inbound = self.inbound_policy()?;
        if inbound.port(to.local.port()).is_http() {
            return Err(Refusal::new(
                Flag::NotHttp,
                "opaque bytes on a port that is HTTP",
            ));
        }
        allowed(inbound.authorize_connection(&peer_of(&peer, to)), record)?;
        drop(inbound);
        let dialled = match dialled {
            Some(dialled) => dialled,
            None => self.dial_app(to.app).await?,
        };
        record.peer = Some(to.app);
        let forbidden = until_forbidden(changes, &peer, to);
        self.carry(io, &drain, dialled, greeting, forbidden, record)
            .await
    }

    async fn dial_app(&self, app: SocketAddr) -> Result<Dialled, Refusal> {
        let hop = self
            .connector
            .connect(app, None, self.limits.connect_timeout)
            .await
            .map_err(|error| Refusal::new(Flag::ConnectFailed, error))?;
        Ok(Dialled::plain(hop, app))
    }
}

/// Returns when policy has changed so that an open opaque connection may be no longer.
async fn until_forbidden(
    mut changes: watch::Receiver<Option<Arc<Inbound>>>,
    peer: &PeerInfo,
    to: Destination,
) -> Refusal {
    let forbidden = |inbound: &Inbound| {
        let port = inbound.port(to.local.port());
        let plaintext = peer.identity.is_none() && port.mtls == MtlsMode::Strict;
        let decision = inbound.authorize_connection(&peer_of(peer, to));
        plaintext || port.is_http() || !decision.is_allowed()
    };
    let changed = changes.wait_for(|inbound| inbound.as_deref().is_some_and(forbidden));
    if changed.await.is_err() {
        // Nobody is left to change it.
        std::future::pending::<()>().await;
    }
    Refusal::new(Flag::Denied, "policy has changed")
}

fn peer_of(peer: &PeerInfo, to: Destination) -> Peer<'_> {
    Peer {
        identity: peer.identity.as_ref(),
        address: peer.address.ip().to_canonical(),
        port: to.local.port(),
    }
}

fn plaintext(address: SocketAddr) -> PeerInfo {
    PeerInfo {
        identity: None,
        address,
        mesh: false,
        not_after: None,
    }
}

fn allowed(decision: Decision, record: &mut ConnectionRecord) -> Result<(), Refusal> {
    match decision {
        Decision::Allow => Ok(()),
        Decision::Deny(id) => {
            record.decision = Some(id.shared());
            Err(Refusal::new(
                Flag::Denied,
                "an authorization policy says no",
            ))
        }
    }
}

fn silent() -> Refusal {
    Refusal::new(Flag::RequestTimeout, "the client never spoke")
}

fn label(inbound: &Inbound, local: SocketAddr) -> ServiceLabel {
    ServiceLabel {
        namespace: Arc::clone(&inbound.namespace),
        name: Arc::clone(&inbound.workload),
        port: local.port(),
    }
}
