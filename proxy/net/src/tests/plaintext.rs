//! What comes in the clear: strict refuses it, permissive understands it, garbage hurts nobody.

use std::io::Read as _;

use super::*;

fn client_hello(alpn: &[&[u8]]) -> Vec<u8> {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = "db.example".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    assert!(client.reader().read(&mut [0]).is_err());
    bytes
}

async fn server(mesh: &Mesh, mtls: MtlsMode) -> (TestProxy, SocketAddr) {
    let mut server = mesh.proxy("web", 2);
    server.takes(mtls);
    let pod = server.before(shouting_app(2).await);
    server.start();
    (server, pod)
}

const GARBAGE: &[&[u8]] = &[
    b"",
    b"\n",
    b"\x00\x01\x02\x03",
    b"GET / HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01",
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    b"\x16\x03\x01\xff\xff\x01",
    b"\x16\x03\x01\x00\x00",
    &[0xff; 4096],
];

#[tokio::test]
async fn strict_lets_no_plaintext_in_and_survives_garbage() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let (_server, pod) = server(&mesh, MtlsMode::Strict).await;
        for garbage in GARBAGE {
            assert_eq!(say(pod, garbage).await, "", "{garbage:x?}");
        }
        let foreign = client_hello(&[b"h2"]);
        assert_eq!(say(pod, &foreign).await, "");
    })
    .await;
}

#[tokio::test]
async fn permissive_understands_what_comes_from_outside() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let (_server, pod) = server(&mesh, MtlsMode::Permissive).await;
        assert_eq!(say(pod, b"\x00out\n").await, "\0OUT\n");
        assert_eq!(say(pod, b"get key\r\n").await, "GET KEY\r\n");
        assert_eq!(
            say(pod, b"GET / HTTP/1.1\r\n").await,
            "inbound http1 nobody mesh=false GET / HTTP/1.1\n"
        );
        assert_eq!(
            say(pod, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await,
            "inbound http2 nobody mesh=false PRI * HTTP/2.0\n"
        );
    })
    .await;
}

#[tokio::test]
async fn tls_of_the_applications_own_passes_through_permissive_whole() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let (_server, pod) = server(&mesh, MtlsMode::Permissive).await;
        let hello = client_hello(&[b"h2", b"http/1.1"]);
        let mut socket = dial(pod).await;
        for part in hello.chunks(100) {
            socket.write_all(part).await.unwrap();
            tokio::task::yield_now().await;
        }
        socket.shutdown().await.unwrap();
        let mut heard = Vec::new();
        socket.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, hello.to_ascii_uppercase());
    })
    .await;
}

#[tokio::test]
async fn a_hello_of_the_mesh_without_a_certificate_gets_no_further() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let (_server, pod) = server(&mesh, MtlsMode::Permissive).await;
        let hello = client_hello(&[b"weft/tcp"]);
        let mut socket = dial(pod).await;
        socket.write_all(&hello).await.unwrap();
        socket
            .write_all(b"\x14\x03\x03\x00\x01\x01garbage after the hello")
            .await
            .unwrap();
        let mut heard = Vec::new();
        let _ = socket.read_to_end(&mut heard).await;
        assert!(!heard.windows(7).any(|w| w == b"GARBAGE"));
    })
    .await;
}

#[tokio::test]
async fn a_client_hello_that_never_ends_is_given_up() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut proxy = mesh.proxy("web", 2);
        proxy.takes(MtlsMode::Permissive);
        proxy.proxy.limits.detect_timeout = Duration::from_millis(50);
        let pod = proxy.before(shouting_app(2).await);
        proxy.start();
        let hello = client_hello(&[b"weft/h2"]);
        let mut socket = dial(pod).await;
        socket.write_all(&hello[..hello.len() / 2]).await.unwrap();
        assert_eq!(hear_out(socket).await, "");
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_stalls_is_given_up() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut proxy = mesh.proxy("web", 2);
        proxy.takes(MtlsMode::Strict);
        proxy.proxy.limits.handshake_timeout = Duration::from_millis(50);
        let pod = proxy.before(shouting_app(2).await);
        proxy.start();
        let mut socket = dial(pod).await;
        socket
            .write_all(&client_hello(&[b"weft/h2"]))
            .await
            .unwrap();
        let mut heard = Vec::new();
        // The server's flight comes; then the end, since nothing follows.
        let _ = socket.read_to_end(&mut heard).await;
    })
    .await;
}

#[tokio::test]
async fn without_policy_nobody_gets_in() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut proxy = mesh.proxy("web", 2);
        let pod = proxy.before(shouting_app(2).await);
        proxy.start();
        assert_eq!(say(pod, b"\x00hello").await, "");
        proxy.takes(MtlsMode::Permissive);
        assert_eq!(say(pod, b"\x00hello").await, "\0HELLO");
    })
    .await;
}

#[tokio::test]
async fn many_dribblers_do_not_keep_others_waiting() {
    in_one_thread(async {
        let mesh = Mesh::new();
        let mut proxy = mesh.proxy("web", 2);
        proxy.takes(MtlsMode::Permissive);
        proxy.proxy.limits.handshakes = 1;
        let pod = proxy.before(shouting_app(2).await);
        proxy.start();
        let hello = client_hello(&[b"weft/h2"]);
        let mut stalled = Vec::new();
        for _ in 0..8 {
            let mut socket = dial(pod).await;
            socket.write_all(&hello).await.unwrap();
            stalled.push(socket);
        }
        let mut dribbler = dial(pod).await;
        dribbler.write_all(b"GE").await.unwrap();
        assert_eq!(say(pod, b"\x00hello").await, "\0HELLO");
    })
    .await;
}
