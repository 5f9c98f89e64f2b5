//! Mutual TLS between proxies: who is believed, and that nothing falls back to plaintext.

use tokio::net::TcpSocket;
use weft_proxy_config::{Action, Condition, InboundPort, Policy, PolicyBinding, StringMatch};

use super::*;
use crate::{Alpn, ConnectErrorKind, Connector, Hop};

const VIP: &str = "10.96.0.5:5432";

fn vip() -> SocketAddr {
    VIP.parse().unwrap()
}

/// A server's proxy (account `web`, strict) before a shouting application, and a client's proxy that
/// knows it as a service.
async fn pair(mesh: &Mesh) -> (TestProxy, TestProxy, SocketAddr, SocketAddr) {
    let mut server = mesh.proxy("web", 2);
    server.takes(MtlsMode::Strict);
    let pod = server.before(shouting_app(2).await);
    let mut client = mesh.proxy("client", 3);
    client.service(vip(), Protocol::Detect, &[(pod, Some(id("web")))]);
    let listen = client.listen_for(vip());
    (server, client, listen, pod)
}

/// A worker's connector of its own.
async fn connector(tls: &MeshTls) -> Connector {
    let proxy = TestProxy::new(tls.clone(), 9).proxy;
    let (acceptors, mut seats) = seats(Vec::new(), 1, &proxy.leaving, 1);
    tokio::task::spawn_local(acceptors.run());
    let taken = Rc::new(RefCell::new(None));
    let give = taken.clone();
    let seat = seats.remove(0);
    tokio::task::spawn_local(run_worker(proxy, seat, move |context| {
        *give.borrow_mut() = Some(context.connector);
        HandedOn::default()
    }));
    tokio::task::yield_now().await;
    let connector = taken.borrow_mut().take();
    connector.unwrap()
}

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn opaque_bytes_cross_over_mutual_tls_and_half_close_is_kept() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let (mut server, mut client, listen, _) = pair(&mesh).await;
        server.start();
        client.start();
        assert_eq!(say(listen, b"\x00hello\n").await, "\0HELLO\n");
        let much = vec![b'x'; 3 << 20];
        let mut socket = dial(listen).await;
        socket.write_all(b"\x00").await.unwrap();
        socket.write_all(&much).await.unwrap();
        socket.shutdown().await.unwrap();
        assert_eq!(hear_out(socket).await.len(), much.len() + 1);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_the_one_expected_gets_nothing_and_neither_does_plaintext() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let (mut server, mut client, _, pod) = pair(&mesh).await;
        let other: SocketAddr = "10.96.0.6:5432".parse().unwrap();
        client.service(other, Protocol::Detect, &[(pod, Some(id("other")))]);
        let listen = client.listen_for(other);
        server.takes(MtlsMode::Permissive);
        server.start();
        client.start();
        assert_eq!(say(listen, b"\x00hello\n").await, "");
    })
    .await;
}

#[tokio::test]
async fn a_peer_of_another_root_is_refused_by_both_sides() {
    in_one_thread(async {
        let (mesh, stranger) = (Mesh::new(), Mesh::new());
        let (mut server, _, _, pod) = pair(&mesh).await;
        server.start();
        let connector = connector(&stranger.tls("client")).await;
        let failed = connector
            .connect(pod, Some((&id("web"), Alpn::Tcp)), LIMIT)
            .await
            .unwrap_err();
        assert!(matches!(failed.kind, ConnectErrorKind::Tls(_)), "{failed}");
        // It trusts the server, but the server does not trust it. In TLS 1.3 the client hears of that
        // on its first read.
        let tls = stranger.tls("client");
        tls.trust().replace(mesh.authority.bundle());
        let mut hop = self::connector(&tls)
            .await
            .connect(pod, Some((&id("web"), Alpn::Tcp)), LIMIT)
            .await
            .unwrap();
        let _ = hop.io.write_all(b"hello").await;
        let mut heard = Vec::new();
        assert!(hop.io.read_to_end(&mut heard).await.is_err());
        assert!(heard.is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_reached_is_left_for_another() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let (mut server, mut client, listen, pod) = pair(&mesh).await;
        // Bound, so that nobody else listens there, and not listening.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind((ip(4), 0).into()).unwrap();
        let gone = closed.local_addr().unwrap();
        let web = Some(id("web"));
        client.service(vip(), Protocol::Detect, &[(gone, web.clone()), (pod, web)]);
        server.start();
        client.start();
        for _ in 0..10 {
            assert_eq!(say(listen, b"\x00a\n").await, "\0A\n");
        }
    })
    .await;
}

#[tokio::test]
async fn alpn_chooses_the_parser_and_the_request_path_knows_the_peer() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let (mut server, _, _, pod) = pair(&mesh).await;
        server.start();
        let connector = connector(&mesh.tls("client")).await;
        for (alpn, version) in [(Alpn::H2, "http2"), (Alpn::Http1, "http1")] {
            let hop = connector
                .connect(pod, Some((&id("web"), alpn)), LIMIT)
                .await;
            let heard = exchange(hop.unwrap(), b"GET / HTTP/1.1\r\n").await;
            assert_eq!(
                heard,
                format!("inbound {version} client mesh=true GET / HTTP/1.1\n")
            );
        }
    })
    .await;
}

async fn exchange(mut hop: Hop, what: &[u8]) -> String {
    let _ = hop.io.write_all(what).await;
    let _ = hop.io.shutdown().await;
    let mut heard = Vec::new();
    let _ = hop.io.read_to_end(&mut heard).await;
    String::from_utf8(heard).unwrap()
}

/// The pod's policies: one rule of one policy.
fn guarded(action: Action, condition: Condition, ports: Vec<InboundPort>) -> Inbound {
    let policy = Policy::new("shop/guard", "0011", action, [("0".to_owned(), condition)]);
    let binding = PolicyBinding {
        policy: Arc::new(policy),
        ports: Default::default(),
    };
    Inbound::new("shop", "pod", MtlsMode::Strict).guarded("0011", ports, vec![binding])
}

#[tokio::test]
async fn a_forged_alpn_neither_meets_an_allow_nor_evades_a_deny_of_layer_7() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let (mut server, _, _, pod) = pair(&mesh).await;
        server.start();
        let connector = connector(&mesh.tls("client")).await;
        let request = b"GET /public HTTP/1.1\r\n\r\n";
        let public = || Condition::path(StringMatch::Exact("/public".to_owned()));
        let private = Condition::path(StringMatch::Exact("/private".to_owned()));
        for inbound in [
            guarded(Action::Allow, public(), Vec::new()),
            guarded(Action::Deny, private, Vec::new()),
        ] {
            server.inbound(inbound);
            let hop = connector
                .connect(pod, Some((&id("web"), Alpn::Tcp)), LIMIT)
                .await;
            assert_eq!(exchange(hop.unwrap(), request).await, "");
        }
        server.inbound(guarded(Action::Allow, Condition::All(vec![]), Vec::new()));
        let web = id("web");
        let hop = connector.connect(pod, Some((&web, Alpn::Tcp)), LIMIT);
        assert_eq!(
            exchange(hop.await.unwrap(), request).await,
            "GET /PUBLIC HTTP/1.1\r\n\r\n"
        );
    })
    .await;
}

#[tokio::test]
async fn opaque_bytes_are_refused_on_a_port_that_is_http() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let (mut server, _, _, pod) = pair(&mesh).await;
        let port = InboundPort {
            port: pod.port(),
            protocol: Protocol::Http,
            routed: false,
            mtls: MtlsMode::Strict,
        };
        let inbound = Inbound::new("shop", "pod", MtlsMode::Strict);
        server.inbound(inbound.guarded("0011", vec![port], Vec::new()));
        server.start();
        let connector = connector(&mesh.tls("client")).await;
        let web = id("web");
        let hop = connector.connect(pod, Some((&web, Alpn::Tcp)), LIMIT);
        assert_eq!(exchange(hop.await.unwrap(), b"hello").await, "");
    })
    .await;
}

#[tokio::test]
async fn a_call_to_the_pods_own_service_meets_its_own_inbound_side() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut proxy = mesh.proxy("web", 5);
        proxy.takes(MtlsMode::Strict);
        let pod = proxy.before(shouting_app(5).await);
        proxy.service(vip(), Protocol::Detect, &[(pod, Some(id("web")))]);
        let listen = proxy.listen_for(vip());
        proxy.start();
        assert_eq!(say(listen, b"\x00mine\n").await, "\0MINE\n");
        proxy.inbound(guarded(Action::Deny, Condition::All(vec![]), Vec::new()));
        assert_eq!(say(listen, b"\x00mine\n").await, "");
    })
    .await;
}

#[tokio::test]
async fn without_a_certificate_nothing_goes_to_the_mesh() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let (mut server, _, _, pod) = pair(&mesh).await;
        server.takes(MtlsMode::Permissive);
        server.start();
        let trust = Arc::new(TrustStore::new(mesh.authority.bundle()));
        let nobody = MeshTls::new(
            trust,
            Arc::new(WorkloadIdentity::new()),
            Arc::new(SystemClock),
            KeyExchange::default(),
        );
        let failed = connector(&nobody.unwrap())
            .await
            .connect(pod, Some((&id("web"), Alpn::Tcp)), LIMIT)
            .await
            .unwrap_err();
        assert!(matches!(failed.kind, ConnectErrorKind::NoCertificate));
    })
    .await;
}

#[tokio::test]
async fn removing_a_root_drains_what_rests_on_it() {
    in_one_thread(async {
        let (mesh, other) = (Mesh::new(), Mesh::new());
        let (mut server, _, _, pod) = pair(&mesh).await;
        server.start();
        let tls = mesh.tls("client");
        let hop = connector(&tls)
            .await
            .connect(pod, Some((&id("web"), Alpn::H2)), LIMIT)
            .await
            .unwrap();
        assert!(!hop.drain.is_draining());
        tls.trust()
            .replace(mesh.authority.bundle().union(&other.authority.bundle()));
        tls.trust().replace(other.authority.bundle());
        hop.drain.draining().await;
        assert!(hop.drain.is_draining());
        server.trusts(mesh.authority.bundle());
    })
    .await;
}
