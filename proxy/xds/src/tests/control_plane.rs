//! A small control plane: a CA, the certificate service, and a delta stream that sends what is published to
//! whoever subscribes to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use weft_certs::{
    AuthoritySettings, CertificateAuthority, ClientAuth, Csr, Identity, KeyExchange, ManualClock,
    MeshTls, PrivateKey, TrustBundle, TrustStore, WorkloadIdentity,
};
use weft_identity::SpiffeId;
use weft_proto::ca::certificate_service_server::{CertificateService, CertificateServiceServer};
use weft_proto::ca::{IssueRequest, IssueResponse};
use weft_proto::discovery::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use weft_proto::mesh;

use crate::kind::Kind;
use crate::resource::Update;
use crate::samples;

pub(super) const POD: &str = "shop/web-1";
pub(super) const TOKEN: &str = "one-time-token";
pub(super) const LIFETIME: Duration = Duration::from_secs(3600);

type Published = BTreeMap<(Kind, String), Resource>;

struct Shared {
    authority: CertificateAuthority,
    clock: ManualClock,
    identity: Arc<WorkloadIdentity>,
    log: Mutex<Vec<String>>,
    sent: Mutex<Vec<String>>,
    /// The public keys that certificates were asked for with.
    keys: Mutex<Vec<Vec<u8>>>,
    /// Requests for a certificate are taken and not answered.
    loses_answers: AtomicBool,
    refusals: watch::Sender<Vec<String>>,
    published: watch::Sender<Published>,
    /// Streams of an older generation end.
    generation: watch::Sender<u32>,
}

impl Shared {
    fn note(&self, line: impl Into<String>) {
        self.log.lock().unwrap().push(line.into());
    }

    fn now(&self) -> SystemTime {
        weft_certs::Clock::now(&self.clock)
    }

    /// A new certificate for the control plane itself.
    fn renew_own(&self) {
        let id = SpiffeId::control_plane(&Default::default());
        let key = PrivateKey::generate().unwrap();
        let csr = Csr::verify(&key.csr(&id).unwrap(), &id).unwrap();
        let chain = self
            .authority
            .issue(&csr, LIFETIME * 24, self.now())
            .unwrap();
        self.identity.set(Identity::new(key, chain).unwrap());
    }
}

pub(super) struct ControlPlane {
    shared: Arc<Shared>,
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl ControlPlane {
    pub async fn start(directory: &Path) -> (Self, ManualClock) {
        let clock = ManualClock::new(SystemTime::now());
        let settings = AuthoritySettings::new(Default::default());
        let now = weft_certs::Clock::now(&clock);
        let authority = CertificateAuthority::open(directory, settings, now).unwrap();
        let trust = Arc::new(TrustStore::new(authority.bundle()));
        let shared = Arc::new(Shared {
            authority,
            clock: clock.clone(),
            identity: Arc::new(WorkloadIdentity::new()),
            log: Mutex::default(),
            sent: Mutex::default(),
            keys: Mutex::default(),
            loses_answers: AtomicBool::default(),
            refusals: watch::Sender::default(),
            published: watch::Sender::default(),
            generation: watch::Sender::default(),
        });
        shared.renew_own();
        let tls = MeshTls::new(
            trust,
            Arc::clone(&shared.identity),
            Arc::new(clock.clone()),
            KeyExchange::default(),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, incoming) = mpsc::channel(8);
        let service = Service(Arc::clone(&shared));
        let server = Server::builder()
            .add_service(CertificateServiceServer::new(service.clone()))
            .add_service(AggregatedDiscoveryServiceServer::new(service))
            .serve_with_incoming(ReceiverStream::new(incoming));
        let tasks = vec![
            tokio::spawn(accept(listener, tls, connections)),
            tokio::spawn(async move { server.await.unwrap() }),
        ];
        let control_plane = Self {
            shared,
            address,
            tasks,
        };
        control_plane.publish_trust("t1", &control_plane.bundle());
        (control_plane, clock)
    }

    pub async fn stop(self) {
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
    }

    pub fn lose_answers(&self, lose: bool) {
        self.shared.loses_answers.store(lose, Ordering::SeqCst);
    }

    /// The public keys that certificates were asked for with.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.shared.keys.lock().unwrap().clone()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn bundle(&self) -> TrustBundle {
        self.shared.authority.bundle()
    }

    pub fn log(&self) -> Vec<String> {
        self.shared.log.lock().unwrap().clone()
    }

    /// Names of all resources sent so far.
    pub fn sent(&self) -> Vec<String> {
        self.shared.sent.lock().unwrap().clone()
    }

    pub fn refusals(&self) -> Vec<String> {
        self.shared.refusals.borrow().clone()
    }

    pub async fn until_refused(&self, name: &str) {
        let mut refusals = self.shared.refusals.subscribe();
        let refused = refusals.wait_for(|refusals| refusals.iter().any(|one| one == name));
        let refused = tokio::time::timeout(super::LIMIT, refused).await;
        assert!(refused.is_ok(), "{name} was never refused");
    }

    pub fn renew_own(&self) {
        self.shared.renew_own();
    }

    pub fn end_streams(&self) {
        self.shared
            .generation
            .send_modify(|generation| *generation += 1);
    }

    pub fn publish(&self, kind: Kind, update: Update) {
        let wire = update.body.unwrap();
        let resource = Resource {
            name: update.name.clone(),
            version: wire.version,
            resource: Some(prost_types::Any {
                type_url: kind.type_url().to_owned(),
                value: wire.bytes.to_vec(),
            }),
            aliases: vec![],
        };
        self.shared.published.send_modify(|published| {
            published.insert((kind, update.name), resource);
        });
    }

    pub fn publish_trust(&self, version: &str, bundle: &TrustBundle) {
        let update = samples::update("default", version, &wire_bundle(bundle));
        self.publish(Kind::TrustBundle, update);
    }
}

fn wire_bundle(bundle: &TrustBundle) -> mesh::TrustBundle {
    let domains = bundle.iter().map(|(domain, roots)| mesh::TrustDomain {
        name: domain.to_string(),
        roots: roots.iter().map(|root| root.to_vec()).collect(),
    });
    mesh::TrustBundle {
        trust_domains: domains.collect(),
    }
}

async fn accept(
    listener: TcpListener,
    tls: MeshTls,
    ready: mpsc::Sender<std::io::Result<Connection>>,
) {
    let config = tls.server_config(&[b"h2"], ClientAuth::Optional).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(stream) = TlsAcceptor::from(Arc::clone(&config)).accept(stream).await else {
            continue;
        };
        let Ok(leaf) = tls.client_of(stream.get_ref().1) else {
            continue;
        };
        let peer = leaf.map(|leaf| leaf.id);
        if ready.send(Ok(Connection { stream, peer })).await.is_err() {
            return;
        }
    }
}

struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Option<SpiffeId>,
}

impl Connected for Connection {
    type ConnectInfo = Option<SpiffeId>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[derive(Clone)]
struct Service(Arc<Shared>);

fn peer<T>(request: &Request<T>) -> Option<SpiffeId> {
    request
        .extensions()
        .get::<Option<SpiffeId>>()
        .cloned()
        .flatten()
}

#[tonic::async_trait]
impl CertificateService for Service {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let proven = match peer(&request) {
            Some(id) => {
                self.0.note("issued by certificate");
                id
            }
            None => {
                let token = request.metadata().get("authorization");
                if token.is_none_or(|token| token != format!("Bearer {TOKEN}").as_str()) {
                    return Err(Status::unauthenticated("no token"));
                }
                self.0.note("issued by token");
                SpiffeId::new(&Default::default(), "shop", "web").unwrap()
            }
        };
        let csr = Csr::verify(&request.get_ref().csr, &proven)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.0.keys.lock().unwrap().push(csr.public_key().to_vec());
        if self.0.loses_answers.load(Ordering::SeqCst) {
            return Err(Status::unavailable("killed"));
        }
        let chain = self
            .0
            .authority
            .issue(&csr, LIFETIME, self.0.now())
            .unwrap();
        Ok(Response::new(IssueResponse {
            chain: chain
                .certificates()
                .iter()
                .map(|one| one.to_vec())
                .collect(),
            trust_bundle: Some(wire_bundle(&self.0.authority.bundle())),
        }))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type DeltaAggregatedResourcesStream =
        UnboundedReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        if peer(&request).is_none() {
            return Err(Status::unauthenticated("no certificate"));
        }
        let (responses, outgoing) = mpsc::unbounded_channel();
        tokio::spawn(serve(Arc::clone(&self.0), request.into_inner(), responses));
        Ok(Response::new(UnboundedReceiverStream::new(outgoing)))
    }
}

/// Sends what is subscribed to and differs from what the client holds, one response per type at a time.
async fn serve(
    shared: Arc<Shared>,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let mut published = shared.published.subscribe();
    let mut generation = shared.generation.subscribe();
    let mut held: BTreeMap<(Kind, String), String> = BTreeMap::new();
    let mut wanted: BTreeSet<(Kind, String)> = BTreeSet::new();
    let mut in_flight: BTreeMap<Kind, String> = BTreeMap::new();
    let mut nonce = 0;
    loop {
        let all = published.borrow_and_update().clone();
        for kind in Kind::ALL {
            let due = |(key, resource): &(&(Kind, String), &Resource)| {
                key.0 == kind && wanted.contains(key) && held.get(key) != Some(&resource.version)
            };
            let due: Vec<_> = all.iter().filter(due).map(|(_, one)| one.clone()).collect();
            if due.is_empty() || in_flight.contains_key(&kind) {
                continue;
            }
            nonce += 1;
            for one in &due {
                held.insert((kind, one.name.clone()), one.version.clone());
                shared.sent.lock().unwrap().push(one.name.clone());
            }
            in_flight.insert(kind, nonce.to_string());
            let _ = responses.send(Ok(DeltaDiscoveryResponse {
                type_url: kind.type_url().to_owned(),
                nonce: nonce.to_string(),
                resources: due,
                ..Default::default()
            }));
        }
        tokio::select! {
            _ = generation.changed() => return,
            _ = published.changed() => {}
            request = requests.message() => {
                let Ok(Some(request)) = request else { return };
                let kind = Kind::from_type_url(&request.type_url).unwrap();
                if let Some(node) = &request.node {
                    shared.note(format!("stream of {}", node.id));
                }
                if in_flight.get(&kind) == Some(&request.response_nonce) {
                    in_flight.remove(&kind);
                }
                for any in request.error_detail.iter().flat_map(|status| &status.details) {
                    let refusal = mesh::Refusal::decode(any.value.as_slice()).unwrap();
                    shared.refusals.send_modify(|all| all.push(refusal.resource));
                }
                for name in request.resource_names_unsubscribe {
                    wanted.remove(&(kind, name));
                }
                for name in request.resource_names_subscribe {
                    held.remove(&(kind, name.clone()));
                    wanted.insert((kind, name));
                }
                for (name, version) in request.initial_resource_versions {
                    held.insert((kind, name), version);
                }
            }
        }
    }
}
