//! Two or three proxies on loopback, with real certificates and explicit listeners, in one runtime.

mod interception;
mod leaving;
mod mesh_hops;
mod opaque;
mod plaintext;

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use weft_certs::{
    AuthoritySettings, CertificateAuthority, Csr, Identity, KeyExchange, MeshTls, PrivateKey,
    SystemClock, TrustBundle, TrustStore, WorkloadIdentity,
};
use weft_identity::{SpiffeId, TrustDomain};
use weft_proxy_config::{
    AddressTarget, BackendKey, BackendSnapshot, Endpoint, EndpointPort, Inbound, Locality,
    MeshConfig, MtlsMode, OutboundPolicy, Port, Protocol, Service, ServiceName, Store, StoreLimits,
    Writer,
};
use weft_proxy_telemetry::Telemetry;

use crate::{
    HttpVersion, InboundConn, Io, Leaving, Limits, Listener, OutboundConn, Proxy, Role, ServeHttp,
    run_worker, seats,
};

/// A certificate authority and what all proxies of a test trust.
pub(crate) struct Mesh {
    _directory: TempDir,
    authority: CertificateAuthority,
}

impl Mesh {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let settings = AuthoritySettings::new(TrustDomain::default());
        let authority =
            CertificateAuthority::open(directory.path(), settings, SystemTime::now()).unwrap();
        Self {
            _directory: directory,
            authority,
        }
    }

    /// Keys and trust of a service account in namespace `shop`.
    fn tls(&self, account: &str) -> MeshTls {
        let trust = Arc::new(TrustStore::new(self.authority.bundle()));
        let identity = Arc::new(WorkloadIdentity::new());
        let key = PrivateKey::generate().unwrap();
        let csr = Csr::verify(&key.csr(&id(account)).unwrap(), &id(account)).unwrap();
        let day = Duration::from_secs(86_400);
        let chain = self.authority.issue(&csr, day, SystemTime::now()).unwrap();
        identity.set(Identity::new(key, chain).unwrap());
        MeshTls::new(
            trust,
            identity,
            Arc::new(SystemClock),
            KeyExchange::default(),
        )
        .unwrap()
    }

    /// A proxy of that account for a pod at 127.0.0.`host`, which trusts what the mesh trusts.
    pub(crate) fn proxy(&self, account: &str, host: u8) -> TestProxy {
        TestProxy::new(self.tls(account), host)
    }
}

fn id(account: &str) -> SpiffeId {
    SpiffeId::new(&TrustDomain::default(), "shop", account).unwrap()
}

fn ip(host: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, host).into()
}

/// What a worker's request path was handed, as it was written back to the client.
#[derive(Clone, Default)]
pub(crate) struct HandedOn(Rc<RefCell<Vec<String>>>);

impl HandedOn {
    /// Notes what is known of the connection and answers with it and the first line that came.
    async fn answer(&self, mut io: Io, known: String) {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\n") {
            match io.read_buf(&mut bytes).await {
                Ok(n) if n > 0 => {}
                _ => break,
            }
        }
        let line = String::from_utf8_lossy(&bytes);
        let known = format!("{known} {}\n", line.lines().next().unwrap_or_default());
        let _ = io.write_all(known.as_bytes()).await;
        let _ = io.shutdown().await;
        self.0.borrow_mut().push(known);
    }
}

impl ServeHttp for HandedOn {
    async fn inbound(&self, conn: InboundConn) {
        let identity = conn.peer.identity.as_ref().map(|id| id.service_account());
        let known = format!(
            "inbound {} {} mesh={}",
            version(conn.version),
            identity.unwrap_or("nobody"),
            conn.peer.mesh,
        );
        self.answer(conn.io, known).await;
    }

    async fn outbound(&self, conn: OutboundConn) {
        let known = format!("outbound {}", version(conn.version));
        self.answer(conn.io, known).await;
    }
}

fn version(version: HttpVersion) -> &'static str {
    match version {
        HttpVersion::Http1 => "http1",
        HttpVersion::Http2 => "http2",
    }
}

/// A proxy under test: configuration is written straight into its store.
pub(crate) struct TestProxy {
    pub(crate) proxy: Proxy,
    writer: Writer,
    host: u8,
    listeners: Vec<Listener>,
    handed_on: HandedOn,
}

impl TestProxy {
    fn new(tls: MeshTls, host: u8) -> Self {
        let (store, writer) = Store::new(StoreLimits::default());
        writer.set_connected(true);
        writer.set_mesh(MeshConfig {
            outbound: OutboundPolicy::AllowAny,
            ..MeshConfig::default()
        });
        Self {
            proxy: Proxy {
                store,
                tls,
                telemetry: Telemetry::new(Default::default()),
                leaving: Leaving::new(),
                addresses: [ip(host)].into(),
                applications: [].into(),
                limits: Limits::default(),
            },
            writer,
            host,
            listeners: Vec::new(),
            handed_on: HandedOn::default(),
        }
    }

    /// Sets what the pod takes.
    fn takes(&self, mtls: MtlsMode) -> &Self {
        self.inbound(Inbound::new("shop", "pod", mtls))
    }

    fn inbound(&self, inbound: Inbound) -> &Self {
        self.writer.set_inbound(inbound);
        self
    }

    /// Listens at a port of the pod for its application.
    fn before(&mut self, app: SocketAddr) -> SocketAddr {
        let any = SocketAddr::new(ip(self.host), 0);
        let mut listener = Listener::bind(any, Role::Inbound).unwrap();
        let pod = listener.address().unwrap();
        listener.role = Role::InboundTo { pod, app };
        self.proxy.applications = [(pod, app)].into();
        self.listeners.push(listener);
        pod
    }

    /// Listens for the application's connections to `to`.
    fn listen_for(&mut self, to: SocketAddr) -> SocketAddr {
        self.listen(Role::OutboundTo(to))
    }

    fn listen(&mut self, role: Role) -> SocketAddr {
        let listener = Listener::bind(SocketAddr::new(ip(self.host), 0), role).unwrap();
        let address = listener.address().unwrap();
        self.listeners.push(listener);
        address
    }

    /// Publishes a service with these endpoints; `identity` with mTLS, none in plaintext.
    fn service(
        &mut self,
        address: SocketAddr,
        protocol: Protocol,
        endpoints: &[(SocketAddr, Option<SpiffeId>)],
    ) {
        let name = ServiceName {
            namespace: "shop".into(),
            name: "web".into(),
        };
        let key = BackendKey {
            namespace: "shop".into(),
            name: "web".into(),
            port: address.port(),
        };
        let own = self.writer.backend(&key);
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(at, identity)| {
                Arc::new(Endpoint {
                    address: at.ip(),
                    ports: [EndpointPort {
                        service_port: address.port(),
                        port: at.port(),
                        mtls: identity.is_some(),
                        protocol,
                    }]
                    .into_iter()
                    .collect(),
                    identity: identity.clone(),
                    namespace: "shop".into(),
                    workload: "web".into(),
                    locality: Locality {
                        region: "".into(),
                        zone: "".into(),
                    },
                    weight: 1,
                    ready: true,
                    terminating: false,
                    state: self.writer.endpoint_state(&name, at.ip()),
                })
            })
            .collect();
        let snapshot = BackendSnapshot::new(endpoints, address.port(), Arc::default(), protocol);
        self.writer.set_endpoints(&own, snapshot);
        let service = self.writer.set_service(Arc::new(Service {
            namespace: "shop".into(),
            name: "web".into(),
            addresses: vec![address.ip()],
            ports: vec![Port {
                port: address.port(),
                name: "".into(),
                protocol,
                routed: false,
                rules: Vec::new(),
                own,
            }],
            policy: Arc::default(),
        }));
        let port = address.port();
        self.writer
            .set_address(address, AddressTarget::Service { service, port });
    }

    /// Starts accepting and one worker on the current `LocalSet`.
    fn start(&mut self) {
        let listeners = std::mem::take(&mut self.listeners);
        let (acceptors, mut workers) = seats(listeners, 1, &self.proxy.leaving, 1024);
        tokio::task::spawn_local(acceptors.run());
        let handed_on = self.handed_on.clone();
        let (proxy, seat) = (self.proxy.clone(), workers.remove(0));
        tokio::task::spawn_local(run_worker(proxy, seat, |_| handed_on));
    }

    fn trusts(&self, bundle: TrustBundle) {
        self.proxy.tls.trust().replace(bundle);
    }
}

/// An application that echoes what it reads until its client is done, in upper case.
async fn shouting_app(host: u8) -> SocketAddr {
    let listener = TcpListener::bind((ip(host), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let mut heard = Vec::new();
                let _ = socket.read_to_end(&mut heard).await;
                let _ = socket.write_all(&heard.to_ascii_uppercase()).await;
            });
        }
    });
    address
}

/// An application that greets before it reads, then echoes lines.
async fn greeting_app(host: u8) -> SocketAddr {
    let listener = TcpListener::bind((ip(host), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let _ = socket.write_all(b"220 ready\n").await;
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn dial(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).await.unwrap()
}

/// Says `what`, ends its half, and returns all that comes back.
async fn say(to: SocketAddr, what: &[u8]) -> String {
    let mut socket = dial(to).await;
    let _ = socket.write_all(what).await;
    let _ = socket.shutdown().await;
    hear_out(socket).await
}

/// All that comes until the end; a reset counts as the end.
async fn hear_out(mut socket: TcpStream) -> String {
    let mut heard = Vec::new();
    let _ = socket.read_to_end(&mut heard).await;
    String::from_utf8_lossy(&heard).into_owned()
}

async fn in_one_thread(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}
