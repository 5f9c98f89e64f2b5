//! One proxy's stream: reads requests, waits for what is due, writes responses, by the
//! [`Hub`](crate::hub::Hub)'s word.
//!
//! A stream needs no task of its own: tonic polls it, it reads and writes in turn. A client that
//! does not read is not read from either.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{Stream, stream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Request, Status, Streaming};
use weft_identity::SpiffeId;
use weft_proto::discovery::DeltaDiscoveryRequest;

use crate::client::{Client, Peer};
use crate::frame::Frame;
use crate::hub::StreamEnd;
use crate::kind::Kind;
use crate::lookup_budget::LookupBudget;
use crate::server::Shared;
use crate::stream_id::StreamId;

/// The responses of a stream.
pub(crate) type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

/// Opens the stream of a peer that has shown a certificate.
pub(crate) fn open(
    shared: Arc<Shared>,
    request: Request<Streaming<DeltaDiscoveryRequest>>,
) -> Result<Frames, Status> {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        return Err(Status::internal("the listener did not say who the peer is"));
    };
    let Some(identity) = peer.identity else {
        return Err(Status::unauthenticated(
            "the stream needs a client certificate",
        ));
    };
    if !shared.state().hub.is_ready() {
        return Err(status(&StreamEnd::NotReady));
    }
    let moves_on = shared.limits.stream_end(Instant::now());
    let stream = ProxyStream {
        budget: LookupBudget::new(&shared.limits, Instant::now()),
        closing: shared.closing.subscribe(),
        shared,
        identity,
        address: peer.address,
        masqueraded: peer.masqueraded,
        until: peer.until,
        moves_on,
        incoming: request.into_inner(),
        wake: Arc::new(Notify::new()),
        registered: None,
        paused: None,
        ended: false,
    };
    Ok(Box::pin(stream::unfold(stream, ProxyStream::next)))
}

/// One proxy's stream.
struct ProxyStream {
    shared: Arc<Shared>,
    identity: SpiffeId,
    address: IpAddr,
    masqueraded: bool,
    until: Option<Instant>,
    /// When the client is to choose a replica anew.
    moves_on: Instant,
    incoming: Streaming<DeltaDiscoveryRequest>,
    wake: Arc<Notify>,
    closing: watch::Receiver<bool>,
    registered: Option<Registered>,
    budget: LookupBudget,
    /// Nothing is read before.
    paused: Option<Instant>,
    ended: bool,
}

/// What a stream waits for.
enum Event {
    Request(Option<Box<DeltaDiscoveryRequest>>),
    Due,
    Resumed,
    Expired,
    MovesOn,
    Closing,
}

/// Takes the stream out of the hub however it ends.
struct Registered {
    shared: Arc<Shared>,
    id: StreamId,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.state().hub.disconnect(self.id);
        self.shared.progressed();
    }
}

impl ProxyStream {
    async fn next(mut self) -> Option<(Result<Frame, Status>, Self)> {
        if self.ended {
            return None;
        }
        match self.advance().await {
            Ok(Some(frame)) => Some((Ok(frame), self)),
            Ok(None) => None,
            Err(status) => {
                self.ended = true;
                self.registered = None;
                Some((Err(status), self))
            }
        }
    }

    /// Reads and waits until there is something to send. `None`: the client is done.
    async fn advance(&mut self) -> Result<Option<Frame>, Status> {
        if self.registered.is_none() {
            let waiting = timeout(self.shared.limits.first_request, self.incoming.message());
            let first = waiting
                .await
                .map_err(|_| Status::deadline_exceeded("no request came"))??;
            let Some(first) = first else {
                return Ok(None);
            };
            self.register(&first)?;
            self.receive(&first)?;
        }
        loop {
            if let Some(frame) = self.poll()? {
                return Ok(Some(frame));
            }
            let paused = self.paused;
            let event = tokio::select! {
                message = self.incoming.message(), if paused.is_none() => Event::Request(message?.map(Box::new)),
                () = self.wake.notified() => Event::Due,
                () = sleep_until(paused.unwrap_or_else(Instant::now)), if paused.is_some() => {
                    Event::Resumed
                }
                () = sleep_until(self.until.unwrap_or_else(Instant::now)), if self.until.is_some() => {
                    Event::Expired
                }
                () = sleep_until(self.moves_on) => Event::MovesOn,
                _ = self.closing.wait_for(|closing| *closing) => Event::Closing,
            };
            match event {
                Event::Request(Some(request)) => self.receive(&request)?,
                Event::Request(None) => return Ok(None),
                Event::Due => {}
                Event::Resumed => self.paused = None,
                Event::Expired => {
                    return Err(Status::unauthenticated(
                        "the certificate of this connection has expired; connect with a new one",
                    ));
                }
                // No error: there is nothing wrong on either side.
                Event::MovesOn => return Ok(None),
                Event::Closing => {
                    return Err(Status::unavailable("the control plane is going away"));
                }
            }
        }
    }

    fn register(&mut self, first: &DeltaDiscoveryRequest) -> Result<(), Status> {
        let claim = first.node.as_ref().map_or("", |node| node.id.as_str());
        let pod = claim.parse().map_err(|error| {
            Status::invalid_argument(format!(
                "node.id must be NAMESPACE/POD, not {claim:?}: {error}"
            ))
        })?;
        let client = Client {
            identity: self.identity.clone(),
            pod,
            address: self.address,
            masqueraded: self.masqueraded,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let since = now.unwrap_or_default().as_secs();
        let connected = self
            .shared
            .state()
            .hub
            .connect(client, since, Arc::clone(&self.wake));
        let id = connected.map_err(|end| {
            tracing::warn!(pod = claim, identity = %self.identity, "stream refused: {end}");
            status(&end)
        })?;
        tracing::info!(pod = claim, identity = %self.identity, "proxy connected");
        self.registered = Some(Registered {
            shared: Arc::clone(&self.shared),
            id,
        });
        self.shared.progressed();
        Ok(())
    }

    fn receive(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Status> {
        let Some(Registered { id, .. }) = self.registered else {
            return Ok(());
        };
        let Some(kind) = Kind::from_type_url(&request.type_url) else {
            tracing::warn!(
                type_url = request.type_url,
                "request for an unknown type ignored"
            );
            return Ok(());
        };
        let received = self.shared.state().hub.request(id, kind, request);
        let received = received.map_err(|end| status(&end))?;
        if !request.response_nonce.is_empty() {
            self.shared.progressed();
        }
        for (kind, name) in &received.denied {
            tracing::warn!(identity = %self.identity, "{kind} {name:?} is not for this proxy");
        }
        for refusal in &received.refusals {
            tracing::warn!(
                identity = %self.identity,
                "proxy refused {} {}: {} {}",
                refusal.kind, refusal.name, refusal.field, refusal.reason
            );
        }
        self.paused = self.budget.spend(received.subscribed, Instant::now());
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<Frame>, Status> {
        let Some(Registered { id, .. }) = self.registered else {
            return Ok(None);
        };
        let polled = self.shared.state().hub.poll(id);
        polled.map_err(|end| status(&end))
    }
}

fn status(end: &StreamEnd) -> Status {
    let message = end.to_string();
    match end {
        StreamEnd::NotReady => Status::unavailable(message),
        StreamEnd::NotAdmitted(_) => Status::permission_denied(message),
        StreamEnd::TooManyNames => Status::resource_exhausted(message),
        StreamEnd::NameTooLong(_) => Status::invalid_argument(message),
    }
}
