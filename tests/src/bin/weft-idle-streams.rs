//! What an idle stream costs the control plane: `weft-idle-streams [STREAMS [SERVICES]]` starts a `weft-control-plane` (the one beside
//! this program) over a generated folder, opens so many streams as so many pods at loopback addresses of their own, each subscribed to what a
//! proxy that talks to five services has, and prints the resident memory before and after as JSON. A measurement, not a test.
//!
//! Needs a file descriptor per stream: `ulimit -n 20000`.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tonic::Streaming;
use tonic::transport::Endpoint;
use weft_certs::{
    AuthoritySettings, CertificateAuthority, Csr, Identity, KeyExchange, MeshTls, PrivateKey,
    SystemClock, TrustStore, WorkloadIdentity, peer_name,
};
use weft_identity::{SpiffeId, TrustDomain};
use weft_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use weft_proto::envoy::config::core::v3::Node;
use weft_xds::Kind;

type Fault = Box<dyn std::error::Error + Send + Sync>;

const CONTROL_PLANE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15910);
/// How many streams are being opened at once.
const AT_ONCE: usize = 16;
/// Services that each proxy talks to.
const TALKS_TO: usize = 5;
/// Endpoints of a service.
const ENDPOINTS: usize = 10;
/// How long the control plane may take to read its folder.
const START: Duration = Duration::from_secs(300);
/// How long memory is left alone before it is read.
const CALM: Duration = Duration::from_secs(3);

/// A stream that is kept open.
struct Open {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    _responses: Streaming<DeltaDiscoveryResponse>,
}

#[tokio::main]
async fn main() -> Result<(), Fault> {
    let mut words = std::env::args().skip(1);
    let mut number = |default: usize| words.next().map_or(Ok(default), |word| word.parse());
    let (streams, services) = (number(2000)?, number(10_000)?);
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("source"))?;
    std::fs::write(
        folder.path().join("source/objects.yaml"),
        objects(streams, services),
    )?;
    let mut control_plane = start(folder.path())?;
    let measured = measure(folder.path(), control_plane.id(), streams, services).await;
    control_plane.kill()?;
    control_plane.wait()?;
    println!("{:#}", measured?);
    Ok(())
}

async fn measure(
    folder: &Path,
    pid: u32,
    streams: usize,
    services: usize,
) -> Result<serde_json::Value, Fault> {
    let deadline = tokio::time::Instant::now() + START;
    let tls = loop {
        // The first stream is opened as soon as the folder has been read.
        let opened = match tls(&folder.join("state")) {
            Ok(tls) => open(&tls, 0, services).await.map(|_| tls),
            Err(error) => Err(error),
        };
        match opened {
            Ok(tls) => break tls,
            Err(error) if tokio::time::Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    tokio::time::sleep(CALM).await;
    let before = resident(pid)?;
    let opening = stream::iter(0..streams).map(|nth| open(&tls, nth, services));
    let held: Vec<Open> = opening.buffer_unordered(AT_ONCE).try_collect().await?;
    tokio::time::sleep(CALM).await;
    let after = resident(pid)?;
    let alive = held
        .iter()
        .filter(|open| !open.requests.is_closed())
        .count();
    Ok(json!({
        "services": services,
        "endpoints": services * ENDPOINTS,
        "streams": alive,
        "residentBeforeKiB": before,
        "residentAfterKiB": after,
        "perStreamKiB": (after.saturating_sub(before) as f64 / alive as f64 * 10.0).round() / 10.0,
    }))
}

fn start(folder: &Path) -> Result<Child, Fault> {
    let program = std::env::current_exe()?.with_file_name("weft-control-plane");
    let log = std::fs::File::create(folder.join("log"))?;
    Ok(Command::new(program)
        .args(["run", "--source"])
        .arg(folder.join("source"))
        .arg("--state")
        .arg(folder.join("state"))
        .args(["--listen", &CONTROL_PLANE.to_string()])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?)
}

fn pod_address(nth: usize) -> Ipv4Addr {
    let [_, _, high, low] = (nth as u32).to_be_bytes();
    Ipv4Addr::new(127, 77, high, low)
}

fn service_address(nth: usize) -> Ipv4Addr {
    let [_, _, high, low] = (nth as u32).to_be_bytes();
    Ipv4Addr::new(10, 96, high, low)
}

fn objects(pods: usize, services: usize) -> String {
    let mut yaml = String::new();
    for nth in 0..pods {
        let ip = pod_address(nth);
        let _ = writeln!(
            yaml,
            "---\n{}",
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("pod-{nth}"), "namespace": "shop", "annotations": {"mesh.weft.dev/status": "injected"}},
                "spec": {"serviceAccountName": "web", "containers": [{"name": "app", "image": "app", "ports": [{"containerPort": 8080}]}]},
                "status": {"podIP": ip, "podIPs": [{"ip": ip}]},
            })
        );
    }
    for nth in 0..services {
        let name = format!("service-{nth}");
        let [_, a, b, c] = ((nth * ENDPOINTS) as u32).to_be_bytes();
        let addresses = (0..ENDPOINTS as u32).map(|more| {
            let first = u32::from(Ipv4Addr::new(172, a, b, c));
            json!({"addresses": [Ipv4Addr::from(first + more)], "conditions": {"ready": true}})
        });
        let _ = writeln!(
            yaml,
            "---\n{}\n---\n{}",
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
                "spec": {"clusterIP": service_address(nth), "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
            }),
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": format!("{name}-a"), "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
                "ports": [{"name": "http", "port": 8080}],
                "endpoints": addresses.collect::<Vec<_>>(),
            })
        );
    }
    yaml
}

/// TLS with a certificate that the control plane's own authority issues: all pods run under one account.
fn tls(state: &Path) -> Result<MeshTls, Fault> {
    let domain = TrustDomain::default();
    if !state.join("trust-bundle.pem").exists() {
        return Err("the authority is not there yet".into());
    }
    let now = SystemTime::now();
    let authority = CertificateAuthority::open(state, AuthoritySettings::new(domain.clone()), now)?;
    let id = SpiffeId::new(&domain, "shop", "web")?;
    let key = PrivateKey::generate()?;
    let csr = Csr::verify(&key.csr(&id)?, &id)?;
    let chain = authority.issue(&csr, Duration::from_secs(3600), now)?;
    let identity = Arc::new(WorkloadIdentity::new());
    identity.set(Identity::new(key, chain)?);
    let trust = Arc::new(TrustStore::new(authority.bundle()));
    Ok(MeshTls::new(
        trust,
        identity,
        Arc::new(SystemClock),
        KeyExchange::default(),
    )?)
}

/// Opens the stream of one pod and takes everything that it asks for.
async fn open(tls: &MeshTls, nth: usize, services: usize) -> Result<Open, Fault> {
    let connector = TlsConnector::from(tls.client_config(&[b"h2"]));
    let expected = SpiffeId::control_plane(&TrustDomain::default());
    let connect = tower::service_fn(move |_| {
        let (connector, name) = (connector.clone(), peer_name(&expected, CONTROL_PLANE));
        async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind((pod_address(nth), 0).into())?;
            let stream = socket.connect(CONTROL_PLANE).await?;
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://control-plane");
    let channel = endpoint.connect_with_connector(connect).await?;
    let (requests, outgoing) = mpsc::channel(8);
    let wanted = wanted(nth, services);
    let mut missing: usize = wanted.iter().map(|(_, names)| names.len()).sum();
    for (at, (kind, names)) in wanted.into_iter().enumerate() {
        let node = (at == 0).then(|| Node {
            id: format!("shop/pod-{nth}"),
            ..Node::default()
        });
        let request = DeltaDiscoveryRequest {
            node,
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(request).await?;
    }
    let outgoing = stream::unfold(outgoing, |mut requests| async move {
        requests.recv().await.map(|request| (request, requests))
    });
    let mut service = AggregatedDiscoveryServiceClient::new(channel);
    let opened = service.delta_aggregated_resources(outgoing).await?;
    let mut responses = opened.into_inner();
    while missing > 0 {
        let response = responses.message().await?.ok_or("the stream has ended")?;
        missing = missing.saturating_sub(response.resources.len());
        let taken = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(taken).await?;
    }
    Ok(Open {
        requests,
        _responses: responses,
    })
}

/// What the proxy of a pod that talks to a few services subscribes to.
fn wanted(nth: usize, services: usize) -> Vec<(Kind, Vec<String>)> {
    let talks_to = || (0..TALKS_TO).map(move |more| (nth * TALKS_TO + more) % services);
    let names = |name: fn(usize) -> String| talks_to().map(name).collect();
    vec![
        (Kind::TrustBundle, vec!["default".to_owned()]),
        (Kind::MeshConfig, vec!["default".to_owned()]),
        (Kind::Inbound, vec![format!("shop/pod-{nth}")]),
        (
            Kind::Address,
            names(|nth| format!("{}:80", service_address(nth))),
        ),
        (
            Kind::Service,
            names(|nth| format!("shop/service-{nth}?from=shop")),
        ),
        (
            Kind::Endpoints,
            names(|nth| format!("shop/service-{nth}/0")),
        ),
    ]
}

/// KiB.
fn resident(pid: u32) -> Result<u64, Fault> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmRSS")?.parse()?)
}
