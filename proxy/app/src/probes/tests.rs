use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An application that answers every connection with these bytes.
async fn application(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(answer).await;
        }
    });
    port
}

async fn ask(json: String) -> Answer {
    let probes = Probes::parse(&json).unwrap();
    probes.ask("web/readiness", HERE).await.unwrap()
}

#[tokio::test]
async fn http_passes_with_200_to_399() {
    for (answer, well) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..], true),
        (b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", true),
        (
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            false,
        ),
        (b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", false),
        (b"SSH-2.0-OpenSSH\r\n", false),
    ] {
        let port = application(answer).await;
        let json =
            format!(r#"{{"web/readiness":{{"httpGet":{{"port":{port},"path":"/ok?a=b"}}}}}}"#);
        assert_eq!(ask(json).await == Answer::Well, well);
    }
}

#[tokio::test]
async fn https_passes_with_any_certificate_but_not_without_one() {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["not.this.name".to_owned()];
    let own = rcgen::CertificateParams::new(names).unwrap();
    let own = own.self_signed(&key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![own.der().clone()],
        rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    )
    .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(socket).await.unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await;
    });
    let json = |port: u16| {
        format!(
            r#"{{"web/readiness":{{"httpGet":{{"port":{port},"scheme":"HTTPS"}},"timeoutSeconds":60}}}}"#
        )
    };
    assert_eq!(ask(json(port)).await, Answer::Well);
    let plain = application(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert!(matches!(ask(json(plain)).await, Answer::Unwell(_)));
}

#[tokio::test]
async fn tcp_passes_when_somebody_listens() {
    let port = application(b"").await;
    let json = |port| format!(r#"{{"web/readiness":{{"tcpSocket":{{"port":{port}}}}}}}"#);
    assert_eq!(ask(json(port)).await, Answer::Well);
    // Bound, so that nobody else listens there, and not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((HERE, 0).into()).unwrap();
    let closed = socket.local_addr().unwrap().port();
    assert!(matches!(ask(json(closed)).await, Answer::Unwell(_)));
}

#[tokio::test]
async fn grpc_passes_with_serving() {
    for (status, well) in [(1_u8, true), (2, false)] {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let service =
            hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let asked = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(&asked[..], b"\0\0\0\0\x06\x0a\x04shop");
                let answer = Bytes::from(vec![0, 0, 0, 0, 2, 0x08, status]);
                Ok::<_, hyper::Error>(http::Response::new(Full::new(answer)))
            });
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
        let json = format!(
            r#"{{"web/readiness":{{"grpc":{{"port":{port},"service":"shop"}},"timeoutSeconds":5}}}}"#
        );
        assert_eq!(ask(json).await == Answer::Well, well);
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_answer_is_unwell_after_its_timeout() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let json = format!(r#"{{"web/readiness":{{"httpGet":{{"port":{port}}},"timeoutSeconds":3}}}}"#);
    assert_eq!(
        ask(json).await,
        Answer::Unwell("no answer within 3s".to_owned())
    );
}

#[test]
fn what_cannot_be_asked_is_named() {
    for (json, named) in [
        (r#"{"a/b":{}}"#, "a/b: exactly one"),
        (
            r#"{"a/b":{"tcpSocket":{"port":1},"grpc":{"port":1}}}"#,
            "a/b: exactly one",
        ),
        (
            r#"{"a/b":{"httpGet":{"port":1,"scheme":"FTP"}}}"#,
            "a/b: scheme \"FTP\"",
        ),
        (r#"{"a/b":{"tcpSocket":{"port":"http"}}}"#, "invalid type"),
        ("[]", "invalid type"),
    ] {
        let error = Probes::parse(json).unwrap_err().to_string();
        assert!(error.contains(named), "{json}: {error}");
    }
}

#[tokio::test]
async fn an_unknown_probe_is_none() {
    assert_eq!(Probes::default().ask("web/liveness", HERE).await, None);
}
