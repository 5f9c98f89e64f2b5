//! Requests and answers as they come out at the other end.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weft_proxy_config::TrafficPolicy;

use super::app::{AnyBody, App, Client, body, empty, full, text};
use super::mesh::{Mesh, Pod, endpoint, run};

/// A client pod and a server pod in front of `app`.
pub(super) async fn pair(app: &App) -> (Pod, Pod) {
    let mesh = Mesh::new();
    let server = mesh.server(app.address).await;
    let client = mesh.client().await;
    client.declare([server.endpoint()], TrafficPolicy::default(), |_| None);
    (client, server)
}

#[test]
fn the_application_gets_what_its_client_spoke_over_one_http2_hop() {
    run(async {
        let app = App::echo().await;
        let (client, _server) = pair(&app).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut calling = Client::connect(client.listener, version).await;
            for _ in 0..3 {
                let (status, text) = calling.get("/a?b=c").await;
                assert_eq!((status, text), (200, format!("{version:?} GET /a")));
            }
        }
        assert_eq!(
            client.server.0.pool.http2_connections().len(),
            1,
            "one hop carries both"
        );
        assert_eq!(
            app.connections.get(),
            2,
            "one connection per version is kept"
        );
        assert_eq!(app.requests.get(), 6);
    });
}

#[test]
fn without_a_mesh_peer_it_is_plaintext_in_the_version_that_the_client_spoke() {
    run(async {
        let app = App::echo().await;
        let mesh = Mesh::new();
        let client = mesh.client().await;
        client.declare(
            [endpoint(app.address, None)],
            TrafficPolicy::default(),
            |_| None,
        );
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut calling = Client::connect(client.listener, version).await;
            for _ in 0..2 {
                assert_eq!(
                    calling.get("/x").await,
                    (200, format!("{version:?} GET /x"))
                );
            }
        }
        assert_eq!(app.connections.get(), 2);
    });
}

#[test]
fn bodies_pass_in_both_directions_small_and_large() {
    run(async {
        let app = App::start(|request| async move {
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(full(sent))
        })
        .await;
        let (client, _server) = pair(&app).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut calling = Client::connect(client.listener, version).await;
            for size in [1, 70_000, 3 << 20] {
                let sent = Bytes::from(vec![b'x'; size]);
                let request = calling.request("POST", "/", full(sent.clone()));
                let answer = calling.send(request).await.unwrap();
                let got = answer.into_body().collect().await.unwrap().to_bytes();
                assert!(got == sent, "{version:?} {size}");
            }
        }
        let hops = client.server.0.pool.http2_connections().len();
        assert_eq!(
            hops, 2,
            "the large HTTP/2 body had a hop of its own, the large HTTP/1 one an HTTP/1 hop"
        );
    });
}

/// Frames one by one, then trailers.
fn streamed(frames: Vec<&'static str>, trailers: Option<HeaderMap>) -> AnyBody {
    let data = frames
        .into_iter()
        .map(|text| Frame::data(Bytes::from(text)));
    let frames: Vec<_> = data.chain(trailers.map(Frame::trailers)).map(Ok).collect();
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

fn trailer(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
}

#[test]
fn trailers_pass_in_both_directions() {
    run(async {
        let app = App::start(|request| async move {
            assert_eq!(request.headers()["te"], "trailers");
            let sent = request.into_body().collect().await.unwrap();
            assert_eq!(sent.trailers().unwrap()["x-sum"], "7");
            let mut answer =
                Response::new(streamed(vec!["a", "b"], Some(trailer("grpc-status", "0"))));
            answer
                .headers_mut()
                .insert("content-type", "application/grpc".parse().unwrap());
            answer
        })
        .await;
        let (client, _server) = pair(&app).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_2).await;
        let mut request = calling.request(
            "POST",
            "/p.S/M",
            streamed(vec!["1", "2"], Some(trailer("x-sum", "7"))),
        );
        request
            .headers_mut()
            .insert("content-type", "application/grpc".parse().unwrap());
        request
            .headers_mut()
            .insert("te", "trailers".parse().unwrap());
        let answer = calling
            .send(request)
            .await
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap();
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(answer.to_bytes(), "ab");
    });
}

#[test]
fn answers_without_a_body_keep_their_headers() {
    run(async {
        let app = App::start(|request| async move {
            let mut answer = Response::new(empty());
            match request.uri().path() {
                "/204" => *answer.status_mut() = http::StatusCode::NO_CONTENT,
                "/304" => *answer.status_mut() = http::StatusCode::NOT_MODIFIED,
                _ => {
                    assert_eq!(request.method(), http::Method::HEAD);
                    answer.headers_mut().insert("content-length", 5.into());
                }
            }
            answer
        })
        .await;
        let (client, _server) = pair(&app).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut calling = Client::connect(client.listener, version).await;
            for path in ["/204", "/304"] {
                assert_eq!(
                    calling.get(path).await,
                    (path[1..].parse().unwrap(), String::new())
                );
            }
            let request = calling.request("HEAD", "/", empty());
            let answer = calling.send(request).await.unwrap();
            assert_eq!(answer.headers()["content-length"], "5");
            assert_eq!(body(answer).await, "");
            assert_eq!(
                calling.get("/204").await.0,
                204,
                "the connection is still in step"
            );
        }
    });
}

#[test]
fn headers_of_the_connection_and_of_weft_stay_outside() {
    run(async {
        let app = App::start(|request| async move {
            let mut names: Vec<_> = request.headers().keys().map(ToString::to_string).collect();
            names.sort();
            let mut answer = text(&names.join(" "));
            for (name, value) in [
                ("weft-decision", "forged"),
                ("x-own", "kept"),
                ("keep-alive", "timeout=9"),
            ] {
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            answer
        })
        .await;
        let (client, _server) = pair(&app).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let mut request = calling.request("GET", "/", empty());
        for (name, value) in [
            ("connection", "x-listed, keep-alive"),
            ("x-listed", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip"),
            ("weft-client-version", "1.0"),
            ("x-forwarded-client-cert", "forged"),
            ("x-end-to-end", "1"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = calling.send(request).await.unwrap();
        assert!(!answer.headers().contains_key("weft-decision"));
        assert!(!answer.headers().contains_key("keep-alive"));
        assert_eq!(answer.headers()["x-own"], "kept");
        assert_eq!(answer.headers().get_all("date").iter().count(), 1);
        assert_eq!(body(answer).await, "host traceparent x-end-to-end");
    });
}

#[test]
fn an_upgrade_becomes_a_tunnel_through_both_proxies() {
    run(async {
        let app = App::start(|mut request: Request<hyper::body::Incoming>| async move {
            assert_eq!(request.headers()["upgrade"], "websocket");
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::task::spawn_local(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut sent = [0; 4];
                io.read_exact(&mut sent).await.unwrap();
                io.write_all(&sent).await.unwrap();
                io.shutdown().await.unwrap();
            });
            let mut answer = Response::new(empty());
            *answer.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            answer
                .headers_mut()
                .insert("connection", "upgrade".parse().unwrap());
            answer
                .headers_mut()
                .insert("upgrade", "websocket".parse().unwrap());
            answer
        })
        .await;
        let (client, _server) = pair(&app).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let mut request = calling.request("GET", "/chat", empty());
        request
            .headers_mut()
            .insert("connection", "Upgrade".parse().unwrap());
        request
            .headers_mut()
            .insert("upgrade", "websocket".parse().unwrap());
        let answer = calling.send(request).await.unwrap();
        assert_eq!(answer.status(), http::StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()["upgrade"], "websocket");
        let mut io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        io.write_all(b"ping").await.unwrap();
        let mut got = Vec::new();
        io.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"ping");
        assert!(
            client.server.0.pool.http2_connections().is_empty(),
            "an upgrade takes an HTTP/1 hop"
        );
    });
}

#[test]
fn an_offer_of_another_http_is_ignored_lest_it_pass_by_the_policies() {
    run(async {
        let app = App::start(|request| async move {
            assert!(!request.headers().contains_key("upgrade"));
            assert!(!request.headers().contains_key("http2-settings"));
            text("plain")
        })
        .await;
        let (client, _server) = pair(&app).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let mut request = calling.request("GET", "/", empty());
        for (name, value) in [
            ("connection", "Upgrade, HTTP2-Settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = calling.send(request).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), body(answer).await),
            (200, "plain".to_owned())
        );
    });
}

#[test]
fn connect_becomes_a_tunnel_to_who_was_dialled() {
    run(async {
        let app = App::start(|mut request: Request<hyper::body::Incoming>| async move {
            assert_eq!(request.uri(), "far.away:443");
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::task::spawn_local(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                io.write_all(b"through").await.unwrap();
                io.shutdown().await.unwrap();
            });
            Response::new(empty())
        })
        .await;
        let (client, _server) = pair(&app).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let request = Request::connect("far.away:443").header("host", "far.away:443");
        let answer = calling.send(request.body(empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        let mut io = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        let mut got = Vec::new();
        io.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"through");
    });
}

#[test]
fn headers_that_are_too_large_are_refused_over_http2_too() {
    run(async {
        let app = App::echo().await;
        let (client, _server) = pair(&app).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_2).await;
        let mut request = calling.request("GET", "/", empty());
        request
            .headers_mut()
            .insert("x-large", "x".repeat(100_000).parse().unwrap());
        assert_eq!(calling.send(request).await.unwrap().status(), 431);
        assert_eq!(calling.get("/").await.0, 200);
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let mut request = calling.request("GET", "/", empty());
        request
            .headers_mut()
            .insert("x-fits", "x".repeat(60_000).parse().unwrap());
        assert_eq!(calling.send(request).await.unwrap().status(), 200);
    });
}
