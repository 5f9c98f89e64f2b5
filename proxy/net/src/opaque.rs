//! Opaque bytes: who speaks first, and carrying them until one of the sides, or its time, is over.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use weft_proxy_config::{InFlight, Permit};
use weft_proxy_telemetry::{ConnectionRecord, Flag};

use crate::connector::Hop;
use crate::drain::Drain;
use crate::first_bytes::{FirstBytes, Heard};
use crate::io::Io;
use crate::relay::{End, Relay};
use crate::worker::{Refusal, Served, Worker};

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
/// is inspected as if nobody had been dialled.
pub(crate) async fn dial_for_silent(
    first: &mut FirstBytes,
    client: &TcpStream,
    silence: Duration,
    dial: impl Future<Output = Result<Dialled, Refusal>>,
) -> Result<SpokeFirst, Refusal> {
    let mut dial = pin!(dial);
    let mut dialled = tokio::select! {
        biased;
        heard = first.hear(client, silence) => return Ok(SpokeFirst::Client(heard, None)),
        dialled = &mut dial => dialled?,
    };
    let mut greeting = Vec::with_capacity(GREETING);
    tokio::select! {
        biased;
        heard = first.hear(client, silence) => Ok(SpokeFirst::Client(heard, Some(dialled))),
        read = dialled.hop.io.read_buf(&mut greeting) => match read {
            // Its end is passed on by the relay, which reads it again.
            Ok(_) => Ok(SpokeFirst::Server(dialled, greeting)),
            Err(error) => Err(Refusal::new(Flag::UpstreamGone, error)),
        },
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
