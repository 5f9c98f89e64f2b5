//! A running control plane over folders of its own, and clients that speak to it as proxies do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use hyper_util::rt::TokioIo;
use prost::Message;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use weft_certs::{
    Identity, IssuedChain, KeyExchange, MeshTls, PrivateKey, SystemClock, TrustBundle, TrustStore,
    WorkloadIdentity, peer_name,
};
use weft_identity::{SpiffeId, TrustDomain};
use weft_proto::ca::certificate_service_client::CertificateServiceClient;
use weft_proto::ca::{IssueRequest, IssueResponse};
use weft_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use weft_proto::envoy::config::core::v3::Node;
use weft_proto::{google, mesh};
use weft_xds::Kind;

use crate::ControlPlane;
use crate::settings::{Command, CommandLine};

/// Everything that is awaited comes much sooner.
const PATIENCE: Duration = Duration::from_secs(30);

/// Two pods at loopback addresses, one Service; connections come from `web-1`'s address.
pub(super) const OBJECTS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.5, ports: [{port: 80, targetPort: 8080, name: http}], selector: {app: web}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}, annotations: {mesh.weft.dev/status: injected}}
spec: {serviceAccountName: web, containers: [{name: a, ports: [{containerPort: 8080}]}]}
status: {podIP: 127.0.0.1, podIPs: [{ip: 127.0.0.1}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere, namespace: shop, labels: {app: web}}
spec: {serviceAccountName: web, containers: [{name: a, ports: [{containerPort: 8080}]}]}
status: {podIP: 127.0.0.9, podIPs: [{ip: 127.0.0.9}], conditions: [{type: Ready, status: "True"}]}
"#;

pub(super) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waited = timeout(PATIENCE, future).await;
    waited.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// A control plane that runs.
pub(super) struct Running {
    folder: TempDir,
    grpc: SocketAddr,
    admin: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub async fn start(objects: &str) -> Self {
        Self::start_with(objects, &[]).await
    }

    pub async fn start_with(objects: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for sub in ["source", "join"] {
            std::fs::create_dir(folder.path().join(sub)).unwrap();
        }
        std::fs::write(folder.path().join("source/objects.yaml"), objects).unwrap();
        Self::launch(folder, arguments).await
    }

    /// Over what is in the folder.
    async fn launch(folder: TempDir, arguments: &[&str]) -> Self {
        let path = |sub: &str| folder.path().join(sub).display().to_string();
        let (source, state, join) = (path("source"), path("state"), path("join"));
        let mut line = vec!["weft-control-plane", "run", "--source", &source];
        line.extend(["--state", &state, "--join-dir", &join]);
        line.extend(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        line.extend(arguments);
        let Command::Run(settings) = CommandLine::parse_from(line).command;
        let control_plane = ControlPlane::start(*settings).await.unwrap();
        let (grpc, admin) = (
            control_plane.addresses()[0],
            control_plane.admin_addresses()[0],
        );
        let (shutdown, stopped) = oneshot::channel();
        let task = tokio::spawn(control_plane.run_until(async {
            let _ = stopped.await;
        }));
        let running = Self {
            folder,
            grpc,
            admin,
            shutdown: Some(shutdown),
            task,
        };
        let ready = async {
            while running.admin("GET", "/readyz").await.0 != 200 {
                tokio::task::yield_now().await;
            }
        };
        within("readiness", ready).await;
        running
    }

    pub async fn stop(mut self) {
        self.end().await;
    }

    /// Ends, and begins anew with the same state at another port.
    pub async fn restart(mut self) -> Self {
        self.end().await;
        Self::launch(self.folder, &[]).await
    }

    async fn end(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
        within("the end", &mut self.task).await.unwrap().unwrap();
    }

    pub fn grpc(&self) -> SocketAddr {
        self.grpc
    }

    /// Replaces a file of the source.
    pub fn write(&self, file: &str, text: &str) {
        let staged = self.folder.path().join("staged");
        std::fs::write(&staged, text).unwrap();
        std::fs::rename(staged, self.path(&format!("source/{file}"))).unwrap();
    }

    pub fn path(&self, sub: &str) -> PathBuf {
        self.folder.path().join(sub)
    }

    /// Writes a join record and returns its token.
    pub fn token(&self, pod: &str, valid: i64) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let expires = now.checked_add_signed(valid).unwrap();
        let token = format!("{:032x}", rand::random::<u128>());
        let hash = Sha256::digest(token.as_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let record = serde_json::json!({ "namespace": "shop", "pod": pod, "expires": expires });
        std::fs::write(self.path(&format!("join/{hash}.json")), record.to_string()).unwrap();
        token
    }

    /// One admin request: status and body.
    pub async fn admin(&self, method: &str, path: &str) -> (u16, String) {
        let exchange = async {
            let mut stream = TcpStream::connect(self.admin).await.unwrap();
            let request =
                format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            (status, body.to_owned())
        };
        within(path, exchange).await
    }

    pub async fn json(&self, path: &str) -> Value {
        let (status, body) = self.admin("GET", path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Asks until the answer is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let asking = async {
            loop {
                let answer = self.json(path).await;
                if wanted(&answer) {
                    return answer;
                }
            }
        };
        within(path, asking).await
    }

    /// A client with the trust that new pods get, and no certificate.
    pub fn client(&self) -> Client {
        let pem = std::fs::read_to_string(self.path("state/trust-bundle.pem")).unwrap();
        let bundle = TrustBundle::from_pem(&pem, &TrustDomain::default()).unwrap();
        let trust = Arc::new(TrustStore::new(bundle));
        let identity = Arc::new(WorkloadIdentity::new());
        let clock = Arc::new(SystemClock);
        let tls = MeshTls::new(
            Arc::clone(&trust),
            Arc::clone(&identity),
            clock,
            KeyExchange::default(),
        );
        Client {
            at: self.grpc,
            tls: tls.unwrap(),
            trust,
            identity,
        }
    }

    /// A client with the certificate of `web-1`.
    pub async fn joined(&self) -> Client {
        let client = self.client();
        let token = self.token("web-1", 60);
        client.join("web-1", "web", Some(&token)).await.unwrap();
        client
    }
}

/// The way of a proxy to the control plane.
#[derive(Clone)]
pub(super) struct Client {
    at: SocketAddr,
    tls: MeshTls,
    pub trust: Arc<TrustStore>,
    pub identity: Arc<WorkloadIdentity>,
}

impl Client {
    async fn channel(&self) -> Channel {
        let connector = TlsConnector::from(self.tls.client_config(&[b"h2"]));
        let at = self.at;
        let expected = SpiffeId::control_plane(&TrustDomain::default());
        let connect = tower::service_fn(move |_| {
            let (connector, name) = (connector.clone(), peer_name(&expected, at));
            async move {
                let stream = TcpStream::connect(at).await?;
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        });
        let endpoint = Endpoint::from_static("http://control-plane");
        let connected = endpoint.connect_with_connector(connect);
        within("a connection", connected).await.unwrap()
    }

    /// Asks for a certificate for `account`, as the pod `shop/pod`.
    pub async fn issue(
        &self,
        pod: &str,
        csr: Vec<u8>,
        token: Option<&str>,
    ) -> Result<IssueResponse, Status> {
        let mut request = Request::new(IssueRequest {
            csr,
            namespace: "shop".into(),
            pod: pod.into(),
        });
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut service = CertificateServiceClient::new(self.channel().await);
        let issued = within("an answer", service.issue(request)).await?;
        Ok(issued.into_inner())
    }

    /// Gets a certificate and uses it from now on.
    pub async fn join(&self, pod: &str, account: &str, token: Option<&str>) -> Result<(), Status> {
        let key = PrivateKey::generate().unwrap();
        let csr = key.csr(&identity(account)).unwrap();
        let issued = self.issue(pod, csr.to_vec(), token).await?;
        let chain = issued.chain.into_iter().map(Into::into).collect();
        let chain = IssuedChain::new(chain).unwrap();
        self.identity.set(Identity::new(key, chain).unwrap());
        Ok(())
    }

    /// This client, towards a control plane at another address.
    pub fn towards(&self, running: &Running) -> Self {
        Self {
            at: running.grpc,
            ..self.clone()
        }
    }

    /// Opens a stream as `pod` (`namespace/name`) and subscribes to something.
    pub async fn stream(&self, pod: &str, kind: Kind, names: &[&str]) -> Result<Proxy, Status> {
        self.resume(pod, kind, names, &[]).await
    }

    /// As [`Client::stream`], with versions that are held already.
    pub async fn resume(
        &self,
        pod: &str,
        kind: Kind,
        names: &[&str],
        held: &[(&str, &str)],
    ) -> Result<Proxy, Status> {
        let (requests, outgoing) = mpsc::channel(16);
        let held = held
            .iter()
            .map(|(name, version)| (name.to_string(), version.to_string()));
        let first = DeltaDiscoveryRequest {
            node: Some(Node {
                id: pod.into(),
                ..Default::default()
            }),
            initial_resource_versions: held.collect(),
            ..subscribe(kind, names)
        };
        requests.send(first).await.unwrap();
        let mut service = AggregatedDiscoveryServiceClient::new(self.channel().await);
        let opened = service.delta_aggregated_resources(ReceiverStream::new(outgoing));
        let responses = within("a stream", opened).await?.into_inner();
        Ok(Proxy {
            requests,
            responses,
        })
    }
}

pub(super) fn identity(account: &str) -> SpiffeId {
    SpiffeId::new(&TrustDomain::default(), "shop", account).unwrap()
}

fn subscribe(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// One stream.
#[derive(Debug)]
pub(super) struct Proxy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Proxy {
    pub async fn subscribe(&self, kind: Kind, names: &[&str]) {
        self.requests.send(subscribe(kind, names)).await.unwrap();
    }

    pub async fn response(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = within("a response", self.responses.message()).await?;
        next.ok_or_else(|| Status::cancelled("the stream has ended"))
    }

    pub async fn accept(&self, response: &DeltaDiscoveryResponse) {
        self.answer(response, None).await;
    }

    pub async fn refuse(&self, response: &DeltaDiscoveryResponse, field: &str, reason: &str) {
        let refusal = mesh::Refusal {
            resource: response.resources[0].name.clone(),
            field: field.into(),
            reason: reason.into(),
        };
        let detail = prost_types::Any {
            type_url: weft_proto::type_url::REFUSAL.into(),
            value: refusal.encode_to_vec(),
        };
        let status = google::rpc::Status {
            code: 3,
            message: "refused".into(),
            details: vec![detail],
        };
        self.answer(response, Some(status)).await;
    }

    async fn answer(
        &self,
        response: &DeltaDiscoveryResponse,
        error_detail: Option<google::rpc::Status>,
    ) {
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..Default::default()
        };
        self.requests.send(answer).await.unwrap();
    }

    /// The next response, accepted; its first resource.
    pub async fn accepted<M: Message + Default>(&mut self) -> Option<M> {
        let response = self.response().await.unwrap();
        self.accept(&response).await;
        body(&response)
    }
}

/// The first resource of a response; `None`: absent.
pub(super) fn body<M: Message + Default>(response: &DeltaDiscoveryResponse) -> Option<M> {
    let any = response.resources.first()?.resource.as_ref()?;
    Some(M::decode(any.value.as_slice()).unwrap())
}
