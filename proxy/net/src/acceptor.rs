//! Accepting: one loop per listener, each connection handed to the worker with the fewest.
//!
//! The loops own no connection: a socket is accepted non-blocking and registered with the runtime of
//! the worker that gets it. Over the process's limit, connections are closed at once.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::drain::{Leaving, Phase};
use crate::listen::{Listener, Role};

/// A connection on its way to a worker.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) role: Arc<Role>,
    /// Counts with the worker's load until the connection ends.
    pub(crate) load: LoadGuard,
}

/// A worker's place: what it accepts comes in here.
#[derive(Debug)]
pub struct Seat {
    pub(crate) accepted: mpsc::UnboundedReceiver<Accepted>,
}

/// The acceptors' side of a [`Seat`].
#[derive(Debug)]
struct Desk {
    hand: mpsc::UnboundedSender<Accepted>,
    load: Arc<AtomicUsize>,
}

/// One connection in a worker's load.
#[derive(Debug)]
pub(crate) struct LoadGuard(Arc<AtomicUsize>);

impl LoadGuard {
    fn new(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(load))
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All accept loops of a process. They run on whichever runtime [`Acceptors::run`] is awaited on.
#[derive(Debug)]
pub struct Acceptors {
    listeners: Vec<Listener>,
    desks: Arc<[Desk]>,
    leaving: Leaving,
    max_connections: usize,
}

/// Ties `listeners` to as many seats as there are workers. At most `max_connections` are open at once.
pub fn seats(
    listeners: Vec<Listener>,
    workers: usize,
    leaving: &Leaving,
    max_connections: usize,
) -> (Acceptors, Vec<Seat>) {
    let (desks, seats): (Vec<_>, Vec<_>) = (0..workers.max(1))
        .map(|_| {
            let (hand, accepted) = mpsc::unbounded_channel();
            let load = Arc::new(AtomicUsize::new(0));
            (Desk { hand, load }, Seat { accepted })
        })
        .unzip();
    let acceptors = Acceptors {
        listeners,
        desks: desks.into(),
        leaving: leaving.clone(),
        max_connections,
    };
    (acceptors, seats)
}

impl Acceptors {
    /// Accepts until leaving has reached [`Phase::Closed`], then closes the listeners.
    ///
    /// # Errors
    /// When a listener cannot be registered with the runtime.
    pub async fn run(self) -> io::Result<()> {
        let mut loops = JoinSet::new();
        for listener in self.listeners {
            let socket = readiness(listener.socket)?;
            let (desks, leaving) = (Arc::clone(&self.desks), self.leaving.clone());
            let (role, limit) = (Arc::new(listener.role), self.max_connections);
            loops.spawn(async move {
                tokio::select! {
                    () = leaving.reached(Phase::Closed) => {}
                    () = accept_all(&socket, &role, &desks, limit) => {}
                }
            });
        }
        while loops.join_next().await.is_some() {}
        // Workers serve for as long as the acceptors' side of their seats is there.
        self.leaving.reached(Phase::Closed).await;
        Ok(())
    }
}

#[expect(
    deprecated,
    reason = "a TcpListener keeps its descriptor, which is what the successor is unsafe for"
)]
fn readiness(listener: std::net::TcpListener) -> io::Result<AsyncFd<std::net::TcpListener>> {
    AsyncFd::with_interest(listener, Interest::READABLE)
}

/// Pause after the process ran out of descriptors or memory, so that the loop does not spin.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

async fn accept_all(
    listener: &AsyncFd<std::net::TcpListener>,
    role: &Arc<Role>,
    desks: &[Desk],
    limit: usize,
) {
    loop {
        let Ok(mut ready) = listener.readable().await else {
            return;
        };
        match ready.try_io(|socket| accept(socket.get_ref())) {
            Ok(Ok((socket, peer))) => hand_over(socket, peer, role, desks, limit),
            Ok(Err(error)) if is_of_one_connection(&error) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
            Err(_would_block) => {}
        }
    }
}

fn accept(listener: &std::net::TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, peer): (OwnedFd, _) = acceptfrom_with(listener, flags)?;
    let peer = peer
        .and_then(|peer| SocketAddr::try_from(peer).ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))?;
    Ok((socket.into(), peer))
}

/// Errors that concern the one connection that was to be accepted (`accept(2)`).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::PermissionDenied
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}

fn hand_over(socket: TcpStream, peer: SocketAddr, role: &Arc<Role>, desks: &[Desk], limit: usize) {
    let mut total = 0;
    let mut least: Option<(usize, &Desk)> = None;
    for desk in desks {
        let load = desk.load.load(Ordering::Relaxed);
        total += load;
        if least.is_none_or(|(least, _)| load < least) {
            least = Some((load, desk));
        }
    }
    let Some((_, desk)) = least else { return };
    if total >= limit {
        tracing::warn!(%peer, limit, "too many connections, closed at once");
        return;
    }
    let accepted = Accepted {
        socket,
        peer,
        role: Arc::clone(role),
        load: LoadGuard::new(&desk.load),
    };
    // A worker that is gone takes its load's place with it; the connection is closed.
    let _ = desk.hand.send(accepted);
}
