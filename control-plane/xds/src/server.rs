//! The gRPC side: one `DeltaAggregatedResources` stream per proxy, driven by the [`Hub`].
//!
//! A stream needs no task of its own: tonic polls it, it reads requests and writes responses in
//! turn. A client that does not read is not read from either.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::{Stream, stream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::codegen::{BoxFuture, Service, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use weft_compile::{Delta as Difference, Snapshot};
use weft_identity::{PodRef, SpiffeId};
use weft_proto::discovery::DeltaDiscoveryRequest;
use weft_proto::mesh;

use crate::catalog::Changes;
use crate::client::{Client, Peer};
use crate::frame::{Frame, FrameCodec};
use crate::hub::{Hub, StreamEnd};
use crate::kind::Kind;
use crate::lookup_budget::{Limits, LookupBudget};
use crate::progress::{Epoch, Progress, ProxyStatus};
use crate::snapshot_catalog::{DEFAULT, SnapshotCatalog, patterns};
use crate::stream_id::StreamId;

/// Largest request. A reconnecting proxy lists what it holds: some 100 bytes a name.
const MAX_REQUEST: usize = 8 << 20;

/// The stream server. Clones share everything.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    limits: Limits,
    /// Counts what may have brought an epoch further.
    progressed: watch::Sender<u64>,
    closing: watch::Sender<bool>,
}

struct State {
    hub: Hub,
    snapshot: Option<Arc<Snapshot>>,
    trust: Arc<mesh::TrustBundle>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not take the streams of all proxies with it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progressed(&self) {
        self.progressed.send_modify(|count| *count += 1);
    }
}

impl Server {
    /// A server that refuses streams until the first snapshot is published. `replica` names it in
    /// epochs.
    #[must_use]
    pub fn new(replica: &str, trust: mesh::TrustBundle, limits: Limits) -> Self {
        let state = State {
            hub: Hub::new(replica.into()),
            snapshot: None,
            trust: Arc::new(trust),
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                limits,
                progressed: watch::Sender::new(0),
                closing: watch::Sender::new(false),
            }),
        }
    }

    /// Takes in a snapshot. `difference` to the one published before; `None`: not known.
    pub fn publish(&self, snapshot: Arc<Snapshot>, difference: Option<&Difference>) -> Epoch {
        let changes = difference.map_or(Changes::All, |difference| {
            let keys = difference.changed.iter().chain(&difference.removed);
            Changes::Some(keys.flat_map(patterns).collect())
        });
        let mut state = self.shared.state();
        state.snapshot = Some(snapshot);
        let epoch = state.publish(&changes);
        drop(state);
        self.shared.progressed();
        epoch
    }

    /// Takes in other trust anchors.
    pub fn publish_trust(&self, trust: mesh::TrustBundle) -> Epoch {
        let changes = Changes::Some(vec![crate::catalog::Pattern::exact(
            Kind::TrustBundle,
            DEFAULT,
        )]);
        let mut state = self.shared.state();
        state.trust = Arc::new(trust);
        let epoch = state.publish(&changes);
        drop(state);
        self.shared.progressed();
        epoch
    }

    /// The newest epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.state().epoch()
    }

    /// Whether streams are served.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.state().hub.is_ready()
    }

    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.shared.state().snapshot.clone()
    }

    /// How far everything up to `epoch` has come. An epoch of another replica, or one that is not
    /// here yet, is confirmed by nobody.
    #[must_use]
    pub fn confirmed(&self, epoch: &Epoch) -> Progress {
        let mut state = self.shared.state();
        let ours = epoch.replica == *state.hub.replica();
        state
            .hub
            .progress(if ours { epoch.counter } else { u64::MAX })
    }

    /// The connected pods of which every stream has confirmed the newest trust anchors.
    #[must_use]
    pub fn trust_holders(&self) -> HashSet<PodRef> {
        self.shared.state().hub.holders(Kind::TrustBundle, DEFAULT)
    }

    /// All streams, by pod.
    #[must_use]
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        self.shared.state().hub.proxies()
    }

    /// Changes whenever [`Server::confirmed`] or [`Server::proxies`] may answer differently.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.shared.progressed.subscribe()
    }

    /// Ends all streams; proxies go to another replica, or come back.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    /// The gRPC service. Whoever terminates TLS puts a [`Peer`] into each request's extensions.
    #[must_use]
    pub fn service(&self) -> DiscoveryService {
        DiscoveryService(self.clone())
    }
}

impl State {
    fn publish(&mut self, changes: &Changes) -> Epoch {
        if let Some(snapshot) = &self.snapshot {
            let catalog = SnapshotCatalog {
                snapshot: Arc::clone(snapshot),
                trust: Arc::clone(&self.trust),
            };
            self.hub.publish(Arc::new(catalog), changes);
        }
        self.epoch()
    }

    fn epoch(&self) -> Epoch {
        Epoch {
            replica: Arc::clone(self.hub.replica()),
            counter: self.hub.epoch(),
        }
    }
}

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`, the delta variant only. Written out
/// rather than generated, because its responses are [`Frame`]s.
#[derive(Clone)]
pub struct DiscoveryService(Server);

const METHOD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

impl NamedService for DiscoveryService {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<B> Service<http::Request<B>> for DiscoveryService
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move {
            if request.uri().path() != METHOD {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let mut grpc =
                Grpc::new(FrameCodec).apply_max_message_size_config(Some(MAX_REQUEST), None);
            Ok(grpc.streaming(Delta(server), request).await)
        })
    }
}

/// The one method.
struct Delta(Server);

type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

impl StreamingService<DeltaDiscoveryRequest> for Delta {
    type Response = Frame;
    type ResponseStream = Frames;
    type Future = std::future::Ready<Result<Response<Frames>, Status>>;

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let shared = Arc::clone(&self.0.shared);
        std::future::ready(open(shared, request).map(Response::new))
    }
}

fn open(
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
    let stream = ProxyStream {
        budget: LookupBudget::new(&shared.limits, Instant::now()),
        closing: shared.closing.subscribe(),
        shared,
        identity,
        address: peer.address,
        until: peer.until,
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
    until: Option<Instant>,
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
