//! One worker: what it shares with the process, what it keeps to itself, and the loop that turns
//! accepted sockets into tasks.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use weft_certs::{ClientAuth, MeshTls};
use weft_proxy_config::Store;
use weft_proxy_telemetry::{ConnectionRecord, Direction, Flag, Telemetry, WorkerTelemetry};

use crate::acceptor::{Accepted, Seat};
use crate::conn::ServeHttp;
use crate::connector::{Alpn, Connector, OwnHop};
use crate::drain::{Leaving, Phase};
use crate::known_ports::KnownPorts;
use crate::listen::Role;
use crate::relay::Scratch;
use crate::standing::Standing;
use crate::vanished::ASK_AFTER;

/// What keeps peers that dribble, stall or flood from being noticed by others.
#[derive(Clone, Debug)]
pub struct Limits {
    /// TLS handshakes that a worker does at once; as many again may wait.
    pub handshakes: usize,
    /// For a handshake, waiting included.
    pub handshake_timeout: Duration,
    /// From the first byte until the protocol is known.
    pub detect_timeout: Duration,
    /// How long a client may stay silent where nobody may be dialled for it (HTTP, strict mTLS).
    pub silence_timeout: Duration,
    /// After this silence a server may be the one who speaks first.
    pub server_first_after: Duration,
    /// The same where clients have spoken first before.
    pub held_up_timeout: Duration,
    /// A server that ends a connection sooner, with nothing said on it, turns its client away; one that ends it later has only
    /// left.
    pub turned_away_within: Duration,
    /// How long a silent client that would be let down is given to say that it speaks HTTP.
    pub last_word_timeout: Duration,
    /// For connections to the application and outside the mesh.
    pub connect_timeout: Duration,
    /// Opaque connections on which nothing moves.
    pub idle_timeout: Duration,
    /// After this silence the kernel asks the other end of a connection whether it is still there.
    pub keepalive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: 128,
            handshake_timeout: Duration::from_secs(10),
            detect_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(300),
            server_first_after: Duration::from_millis(20),
            held_up_timeout: Duration::from_secs(1),
            turned_away_within: Duration::from_secs(1),
            last_word_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(3600),
            keepalive: ASK_AFTER,
        }
    }
}

/// What all workers of a proxy share.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Configuration.
    pub store: Arc<Store>,
    /// Trust and identity.
    pub tls: MeshTls,
    /// Metrics and access log.
    pub telemetry: Arc<Telemetry>,
    /// How far leaving has come.
    pub leaving: Leaving,
    /// The pod's own addresses.
    pub addresses: Arc<[IpAddr]>,
    /// Where the application listens instead of the pod's own address and port, per explicit
    /// inbound listener: (pod, application).
    pub applications: Arc<[(SocketAddr, SocketAddr)]>,
    /// Limits.
    pub limits: Limits,
}

/// What a worker has for its request path.
#[derive(Clone, Debug)]
pub struct WorkerContext {
    /// Its dialler.
    pub connector: Connector,
    /// Configuration.
    pub store: Arc<Store>,
    /// Its own part of telemetry.
    pub telemetry: Rc<WorkerTelemetry>,
    /// How far leaving has come.
    pub leaving: Leaving,
}

/// One worker's state. Lives on one thread.
pub(crate) struct Worker<S> {
    pub(crate) http: S,
    pub(crate) store: Arc<Store>,
    pub(crate) tls: MeshTls,
    pub(crate) leaving: Leaving,
    pub(crate) addresses: Arc<[IpAddr]>,
    pub(crate) applications: Arc<[(SocketAddr, SocketAddr)]>,
    pub(crate) limits: Limits,
    pub(crate) telemetry: Rc<WorkerTelemetry>,
    pub(crate) connector: Connector,
    pub(crate) server_config: Arc<ServerConfig>,
    pub(crate) handshakes: Semaphore,
    pub(crate) handshakes_waiting: Cell<usize>,
    pub(crate) standing: Rc<Standing>,
    pub(crate) scratch: Scratch,
    pub(crate) known_ports: KnownPorts,
    pub(crate) rng: RefCell<SmallRng>,
}

/// Serves what comes to `seat` until leaving has reached [`Phase::Closed`] and every connection is
/// done or [`Phase::Ended`] cut it. `http` makes this worker's request path. To be awaited inside a
/// `LocalSet`.
///
/// # Errors
/// The TLS configuration could not be built.
pub async fn run_worker<S>(
    proxy: Proxy,
    seat: Seat,
    http: impl FnOnce(WorkerContext) -> S,
) -> Result<(), rustls::Error>
where
    S: ServeHttp + 'static,
{
    let (own_hops_in, own_hops) = mpsc::unbounded_channel();
    let worker = Rc::new(Worker::new(proxy, own_hops_in, http)?);
    let tasks = TaskTracker::new();
    tokio::select! {
        () = worker.standing.watch() => {}
        () = take_all(&worker, seat, own_hops, &tasks) => {}
    }
    Ok(())
}

async fn take_all<S: ServeHttp + 'static>(
    worker: &Rc<Worker<S>>,
    mut seat: Seat,
    mut own_hops: mpsc::UnboundedReceiver<OwnHop>,
    tasks: &TaskTracker,
) {
    loop {
        tokio::select! {
            accepted = seat.accepted.recv() => match accepted {
                Some(accepted) => {
                    tasks.spawn_local(Rc::clone(worker).accepted(accepted));
                }
                // All acceptors are gone: leaving has closed them.
                None => break,
            },
            Some(hop) = own_hops.recv() => {
                tasks.spawn_local(Rc::clone(worker).own_hop(hop));
            }
        }
    }
    // Open connections may still call their own pod.
    tasks.close();
    loop {
        tokio::select! {
            () = tasks.wait() => return,
            Some(hop) = own_hops.recv() => {
                tasks.spawn_local(Rc::clone(worker).own_hop(hop));
            }
        }
    }
}

impl<S: ServeHttp> Worker<S> {
    fn new(
        proxy: Proxy,
        own_hops: mpsc::UnboundedSender<OwnHop>,
        http: impl FnOnce(WorkerContext) -> S,
    ) -> Result<Self, rustls::Error> {
        let alpn = Alpn::ALL.map(Alpn::as_bytes);
        let server_config = proxy.tls.server_config(&alpn, ClientAuth::Required)?;
        let client_configs = alpn.map(|name| proxy.tls.client_config(&[name]));
        let standing = Rc::new(Standing::new(&proxy.tls));
        let telemetry = Rc::new(proxy.telemetry.worker());
        let connector = Connector::new(
            &proxy.tls,
            client_configs,
            Arc::clone(&proxy.addresses),
            own_hops,
            Rc::clone(&standing),
            proxy.leaving.clone(),
            proxy.limits.keepalive,
        );
        Ok(Self {
            http: http(WorkerContext {
                connector: connector.clone(),
                store: Arc::clone(&proxy.store),
                telemetry: Rc::clone(&telemetry),
                leaving: proxy.leaving.clone(),
            }),
            handshakes: Semaphore::new(proxy.limits.handshakes),
            handshakes_waiting: Cell::new(0),
            store: proxy.store,
            tls: proxy.tls,
            leaving: proxy.leaving,
            addresses: proxy.addresses,
            applications: proxy.applications,
            limits: proxy.limits,
            telemetry,
            connector,
            server_config,
            standing,
            scratch: Scratch::new(),
            known_ports: KnownPorts::default(),
            rng: RefCell::new(SmallRng::from_os_rng()),
        })
    }

    /// One connection from accept to its end, counted, and cut when the process ends.
    async fn accepted(self: Rc<Self>, accepted: Accepted) {
        let Accepted {
            socket,
            peer,
            role,
            load: _load,
        } = accepted;
        let direction = match *role {
            Role::Inbound | Role::InboundTo { .. } => Direction::Inbound,
            Role::Outbound | Role::OutboundTo(_) => Direction::Outbound,
        };
        let Ok(socket) = TcpStream::from_std(socket) else {
            return;
        };
        let _ = socket.set_nodelay(true);
        let _open = self.leaving.open();
        let _counted = Counted::new(&self.telemetry, direction);
        tokio::select! {
            () = self.leaving.reached(Phase::Ended) => {}
            () = self.serve(direction, socket, peer, &role) => {}
        }
    }

    async fn serve(&self, direction: Direction, socket: TcpStream, peer: SocketAddr, role: &Role) {
        let mut record = ConnectionRecord::new(direction, peer);
        let outcome = match direction {
            Direction::Inbound => self.inbound(socket, peer, role, &mut record).await,
            Direction::Outbound => self.outbound(socket, peer, role, &mut record).await,
        };
        self.finish(outcome, record);
    }

    async fn own_hop(self: Rc<Self>, hop: OwnHop) {
        let _open = self.leaving.open();
        let peer = SocketAddr::new(hop.to.ip(), 0);
        let mut record = ConnectionRecord::new(Direction::Inbound, peer);
        tokio::select! {
            () = self.leaving.reached(Phase::Ended) => {}
            outcome = self.inbound_own(hop, peer, &mut record) => self.finish(outcome, record),
        }
    }

    /// The record of an opaque or refused connection; HTTP has its own per request.
    fn finish(&self, outcome: Result<Served, Refusal>, mut record: ConnectionRecord) {
        match outcome {
            Ok(Served::Http | Served::SelfTest) => return,
            Ok(Served::Opaque) => {}
            Err(refusal) => {
                tracing::debug!(
                    direction = record.direction.as_str(),
                    peer = %record.source_address,
                    flag = refusal.flag.as_str(),
                    reason = refusal.reason,
                    "connection refused"
                );
                record.flag = Some(refusal.flag);
            }
        }
        let log = self.store.mesh().access_log;
        self.telemetry.record_connection(record, log);
    }
}

/// How a connection was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// By the request path, which kept its own records.
    Http,
    /// Carried as opaque bytes.
    Opaque,
    /// The proxy asked itself whether it is redirected to.
    SelfTest,
}

/// Why a connection was not served.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) flag: Flag,
    pub(crate) reason: String,
}

impl Refusal {
    pub(crate) fn new(flag: Flag, reason: impl ToString) -> Self {
        Self {
            flag,
            reason: reason.to_string(),
        }
    }
}

/// Counts with the open connections of one direction.
struct Counted(Rc<WorkerTelemetry>, Direction);

impl Counted {
    fn new(telemetry: &Rc<WorkerTelemetry>, direction: Direction) -> Self {
        telemetry.connections_open(direction, 1);
        Self(Rc::clone(telemetry), direction)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections_open(self.1, -1);
    }
}

#[cfg(test)]
mod tests;
