//! Pods for tests: each a real worker with a real certificate, its listeners on loopback addresses of its own.
//! Everything runs on the test's thread, as everything of a worker does.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use smallvec::smallvec;
use tokio::task::{AbortHandle, LocalSet};
use weft_certs::{
    AuthoritySettings, CertificateAuthority, Csr, Identity, KeyExchange, MeshTls, PrivateKey,
    SystemClock, TrustStore, WorkloadIdentity,
};
use weft_identity::{SpiffeId, TrustDomain};
use weft_proxy_config::{
    AddressTarget, Backend, BackendKey, BackendSnapshot, Endpoint, EndpointPort, HttpRule, Inbound,
    Locality, MeshConfig, MtlsMode, OutboundPolicy, Port, Protocol, Service, ServiceName, Store,
    StoreLimits, TrafficPolicy, Writer,
};
use weft_proxy_net::{Leaving, Limits, Listener, Proxy, Role, run_worker, seats};
use weft_proxy_telemetry::Telemetry;

use crate::{Server, Settings};

/// Runs a test on a worker's kind of runtime.
pub(crate) fn run(test: impl Future<Output = ()> + 'static) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limited = async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs");
    };
    LocalSet::new().block_on(&runtime, limited);
}

/// One mesh: a CA.
pub(crate) struct Mesh {
    authority: CertificateAuthority,
    _state: tempfile::TempDir,
}

/// One pod's proxy.
pub(crate) struct Pod {
    pub(crate) id: SpiffeId,
    pub(crate) writer: RefCell<Writer>,
    pub(crate) leaving: Leaving,
    pub(crate) server: Server,
    /// Where its listener is: that of the application's calls, or that of calls to it.
    pub(crate) listener: SocketAddr,
    tasks: Vec<AbortHandle>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn next_ip() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(10);
    Ipv4Addr::new(127, 0, 7, NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

/// The address that clients dial; nothing listens there.
pub(crate) const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), 80);

impl Mesh {
    pub(crate) fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let settings = AuthoritySettings::new(TrustDomain::default());
        let authority =
            CertificateAuthority::open(state.path(), settings, SystemTime::now()).unwrap();
        Self {
            authority,
            _state: state,
        }
    }

    fn tls(&self, id: &SpiffeId) -> MeshTls {
        let key = PrivateKey::generate().unwrap();
        let csr = key.csr(id).unwrap();
        let verified = Csr::verify(&csr, id).unwrap();
        let chain = self
            .authority
            .issue(&verified, Duration::from_secs(3600), SystemTime::now())
            .unwrap();
        let identity = Arc::new(WorkloadIdentity::new());
        identity.set(Identity::new(key, chain).unwrap());
        let trust = Arc::new(TrustStore::new(self.authority.bundle()));
        MeshTls::new(
            trust,
            identity,
            Arc::new(SystemClock),
            KeyExchange::default(),
        )
        .unwrap()
    }

    async fn pod(
        &self,
        account: &str,
        telemetry: Arc<Telemetry>,
        role: impl FnOnce(IpAddr) -> Role,
    ) -> Pod {
        let id = SpiffeId::new(&TrustDomain::default(), "shop", account).unwrap();
        let ip = next_ip();
        let (store, writer) = Store::new(StoreLimits::default());
        writer.set_mesh(MeshConfig {
            access_log: true,
            outbound: OutboundPolicy::AllowAny,
            ..MeshConfig::default()
        });
        writer.set_connected(true);
        let leaving = Leaving::new();
        let role = role(ip);
        let address = match role {
            Role::InboundTo { pod, .. } => pod,
            _ => SocketAddr::new(ip, 0),
        };
        let listener = Listener::bind(address, role).unwrap();
        let bound = listener.address().unwrap();
        let proxy = Proxy {
            store,
            tls: self.tls(&id),
            telemetry,
            leaving: leaving.clone(),
            addresses: [ip].into(),
            applications: [].into(),
            limits: Limits::default(),
        };
        let (acceptors, mut seats) = seats(vec![listener], 1, &leaving, 10_000);
        let server = Rc::new(RefCell::new(None));
        let made = server.clone();
        let worker = run_worker(proxy, seats.pop().unwrap(), move |context| {
            let server = Server::new(context, Settings::default());
            *made.borrow_mut() = Some(server.clone());
            server
        });
        let tasks = vec![
            tokio::task::spawn_local(async move {
                let _ = worker.await;
            })
            .abort_handle(),
            tokio::task::spawn_local(async move {
                let _ = acceptors.run().await;
            })
            .abort_handle(),
        ];
        while server.borrow().is_none() {
            tokio::task::yield_now().await;
        }
        let server = server.borrow_mut().take().unwrap();
        Pod {
            id,
            writer: RefCell::new(writer),
            leaving,
            server,
            listener: bound,
            tasks,
        }
    }

    /// A pod whose application calls [`SERVICE`] by dialling its `listener`.
    pub(crate) async fn client(&self) -> Pod {
        self.client_with(Telemetry::new(Default::default())).await
    }

    pub(crate) async fn client_with(&self, telemetry: Arc<Telemetry>) -> Pod {
        self.pod("client", telemetry, |_| Role::OutboundTo(SERVICE))
            .await
    }

    /// A pod with an application at `app`.
    pub(crate) async fn server(&self, app: SocketAddr) -> Pod {
        self.server_with(app, Telemetry::new(Default::default()))
            .await
    }

    pub(crate) async fn server_with(&self, app: SocketAddr, telemetry: Arc<Telemetry>) -> Pod {
        let role = |ip| Role::InboundTo {
            pod: SocketAddr::new(ip, 8080),
            app,
        };
        let pod = self.pod("server", telemetry, role).await;
        pod.writer
            .borrow()
            .set_inbound(Inbound::new("shop", "server", MtlsMode::Permissive));
        pod
    }
}

impl Pod {
    /// This server pod as an endpoint of a service.
    pub(crate) fn endpoint(&self) -> Endpoint {
        endpoint(self.listener, Some(self.id.clone()))
    }

    /// Declares the service behind [`SERVICE`] with these endpoints and rules.
    pub(crate) fn declare(
        &self,
        endpoints: impl IntoIterator<Item = Endpoint>,
        policy: TrafficPolicy,
        rules: impl FnOnce(&Arc<Backend>) -> Option<Vec<HttpRule>>,
    ) -> Arc<Backend> {
        let mut writer = self.writer.borrow_mut();
        let backend = writer.backend(&key("web"));
        let policy = Arc::new(policy);
        let endpoints = keep_states(&mut writer, "web", endpoints);
        let snapshot = BackendSnapshot::new(endpoints, 80, policy.clone(), Protocol::Detect);
        writer.set_endpoints(&backend, snapshot);
        let rules = rules(&backend);
        let service = Service {
            namespace: "shop".into(),
            name: "web".into(),
            addresses: vec![SERVICE.ip()],
            ports: vec![Port {
                port: 80,
                name: "http".into(),
                protocol: Protocol::Http,
                routed: rules.is_some(),
                rules: rules.unwrap_or_default(),
                own: backend.clone(),
            }],
            policy,
        };
        let service = writer.set_service(Arc::new(service));
        writer.set_address(SERVICE, AddressTarget::Service { service, port: 80 });
        backend
    }

    /// Another service's backend, for routes to lead to.
    pub(crate) fn backend(
        &self,
        name: &str,
        endpoints: impl IntoIterator<Item = Endpoint>,
    ) -> Arc<Backend> {
        let mut writer = self.writer.borrow_mut();
        let backend = writer.backend(&key(name));
        let endpoints = keep_states(&mut writer, name, endpoints);
        writer.set_endpoints(
            &backend,
            BackendSnapshot::new(endpoints, 80, Arc::default(), Protocol::Detect),
        );
        backend
    }
}

fn key(name: &str) -> BackendKey {
    BackendKey {
        namespace: "shop".into(),
        name: name.into(),
        port: 80,
    }
}

fn keep_states(
    writer: &mut Writer,
    name: &str,
    endpoints: impl IntoIterator<Item = Endpoint>,
) -> Vec<Arc<Endpoint>> {
    let service = ServiceName {
        namespace: "shop".into(),
        name: name.into(),
    };
    endpoints
        .into_iter()
        .map(|mut endpoint| {
            // The port tells apart what shares an address in tests.
            let of_port = IpAddr::V4(Ipv4Addr::from(
                u32::from(endpoint.ports[0].port)
                    ^ u32::from(endpoint.address.to_string().parse::<Ipv4Addr>().unwrap()),
            ));
            endpoint.state = writer.endpoint_state(&service, of_port);
            Arc::new(endpoint)
        })
        .collect()
}

/// An endpoint of port 80 at `address`; with an identity it takes mTLS.
pub(crate) fn endpoint(address: SocketAddr, identity: Option<SpiffeId>) -> Endpoint {
    Endpoint {
        address: address.ip(),
        ports: smallvec![EndpointPort {
            service_port: 80,
            port: address.port(),
            mtls: identity.is_some(),
            protocol: Protocol::Detect,
        }],
        identity,
        namespace: "shop".into(),
        workload: "web".into(),
        locality: Locality {
            region: "".into(),
            zone: "".into(),
        },
        weight: 1,
        ready: true,
        terminating: false,
        state: weft_proxy_config::EndpointState::new(),
    }
}
