//! Opaque bytes: who speaks first, and carrying them until one of the sides, or its time, is over.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use weft_proxy_config::{InFlight, Permit};
use weft_proxy_telemetry::{ConnectionRecord, Flag};

use crate::connector::Hop;
use crate::drain::Drain;
use crate::first_bytes::{FirstBytes, Heard};
use crate::io::Io;
use crate::relay::{End, Relay};
use crate::worker::{Limits, Refusal, Served, Worker};

/// A server's connection, with what must be held as long as it is open.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) hop: Hop,
    /// Where it leads.
    pub(crate) peer: SocketAddr,
    /// The workload there, where it is known.
    pub(crate) workload: Option<Arc<str>>,
    pub(crate) _place: Option<(Permit, InFlight)>,
}

impl Dialled {
    /// A connection that counts against no limit.
    pub(crate) fn plain(hop: Hop, peer: SocketAddr) -> Self {
        Self {
            hop,
            peer,
            workload: None,
            _place: None,
        }
    }
}

/// Who spoke first, after a silent client was dialled for.
#[derive(Debug)]
pub(crate) enum SpokeFirst {
    /// The client. The server's connection is there if it was open by then.
    Client(Heard, Option<Dialled>),
    /// The server: this is how it began. What follows is opaque for good.
    Server(Dialled, Vec<u8>),
}

/// How much of a server's greeting is taken at once.
const GREETING: usize = 4096;

/// Dials for a silent client and listens to both. Whoever speaks first decides: a client that does
/// is inspected as if nobody had been dialled, whatever became of who was.
///
/// A server that leaves before anyone has spoken, as in a rollout, is replaced by another: nothing
/// has been said that could be lost. One that turns its client away does so to the client too.
pub(crate) async fn dial_for_silent<D>(
    first: &mut FirstBytes,
    client: &TcpStream,
    limits: &Limits,
    dial: impl Fn() -> D,
) -> Result<SpokeFirst, Refusal>
where
    D: Future<Output = Result<Dialled, Refusal>> + Unpin,
{
    let patience = Instant::now() + limits.idle_timeout;
    let mut greeting = Vec::with_capacity(GREETING);
    loop {
        let silence = patience.saturating_duration_since(Instant::now());
        let dialled = tokio::select! {
            biased;
            heard = first.hear(client, silence) => return Ok(SpokeFirst::Client(heard, None)),
            dialled = dial() => dialled,
        };
        let mut dialled = match dialled {
            Ok(dialled) => dialled,
            Err(refusal) => return last_word(first, client, limits).await.ok_or(refusal),
        };
        let open = Instant::now();
        let read = tokio::select! {
            biased;
            heard = first.hear(client, silence) => {
                return Ok(SpokeFirst::Client(heard, Some(dialled)));
            }
            read = dialled.hop.io.read_buf(&mut greeting) => read,
        };
        if matches!(read, Ok(1..)) {
            return Ok(SpokeFirst::Server(dialled, greeting));
        }
        if open.elapsed() >= limits.turned_away_within {
            continue;
        }
        if let Some(spoke) = last_word(first, client, limits).await {
            return Ok(spoke);
        }
        return match read {
            // Its end is passed on by the relay, which reads it again.
            Ok(_) => Ok(SpokeFirst::Server(dialled, greeting)),
            Err(error) => Err(Refusal::new(Flag::UpstreamGone, error)),
        };
    }
}

/// A silent client may be HTTP's, held up on its way: what it says soon enough is heard.
async fn last_word(
    first: &mut FirstBytes,
    client: &TcpStream,
    limits: &Limits,
) -> Option<SpokeFirst> {
    match first.hear(client, limits.last_word_timeout).await {
        Heard::Silent => None,
        heard => Some(SpokeFirst::Client(heard, None)),
    }
}

impl<S> Worker<S> {
    /// Carries bytes until both sides are done. `until` ends it early with a refusal.
    pub(crate) async fn carry(
        &self,
        mut client: Io,
        client_drain: &Drain,
        mut dialled: Dialled,
        greeting: Vec<u8>,
        until: impl Future<Output = Refusal>,
        record: &mut ConnectionRecord,
    ) -> Result<Served, Refusal> {
        let server_drain = dialled.hop.drain.clone();
        let mut relay = Relay::new(&self.scratch, self.limits.idle_timeout, greeting);
        let outcome = tokio::select! {
            end = relay.run(&mut client, &mut dialled.hop.io) => match end {
                End::Finished => Ok(Served::Opaque),
                End::Idle => Err(Refusal::new(Flag::Timeout, "nothing moved for too long")),
                End::Client(error) => Err(Refusal::new(Flag::ClientGone, error)),
                End::Server(error) => Err(Refusal::new(Flag::UpstreamGone, error)),
            },
            () = client_drain.ended() => Err(ended()),
            () = server_drain.ended() => Err(ended()),
            refusal = until => Err(refusal),
        };
        let carried = relay.carried();
        record.bytes_in = carried.up;
        record.bytes_out = carried.down;
        if outcome.is_err() {
            // A broken transfer must not look like a finished one.
            client.abort_on_drop();
            dialled.hop.io.abort_on_drop();
        }
        outcome
    }
}

fn ended() -> Refusal {
    Refusal::new(Flag::Leaving, "the connection's time is over")
}
