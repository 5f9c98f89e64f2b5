//! HTTP/1 as it stands on the wire: what is no request, what could be read in two ways, old clients.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use http::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_proxy_config::TrafficPolicy;

use super::app::{App, Client, empty, text};
use super::forwarding::pair;
use super::mesh::{Mesh, Pod, endpoint, run};

/// Sends bytes as they are and reads until the proxy closes.
async fn raw(pod: &Pod, request: &str) -> String {
    let mut socket = TcpStream::connect(pod.listener).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn what_is_no_request_is_refused_and_nobody_else_notices() {
    run(async {
        let app = App::echo().await;
        let (client, server) = pair(&app).await;
        let long = "x".repeat(100_000);
        for pod in [&client, &server] {
            for (request, status) in [
                (
                    "GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n".to_owned(),
                    "400",
                ),
                ("GET  two HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), "400"),
                (
                    "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n".to_owned(),
                    "400",
                ),
                (
                    "GET / HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(),
                    "400",
                ),
                (
                    format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"),
                    "431",
                ),
                (
                    "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(),
                    "400",
                ),
                (
                    "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"
                        .to_owned(),
                    "400",
                ),
            ] {
                let answer = raw(pod, &request).await;
                let shown: String = request.chars().take(60).collect();
                assert_eq!(answer.get(9..12), Some(status), "{shown:?}: {answer}");
            }
        }
        assert_eq!(app.requests.get(), 0);
        let answer = raw(
            &client,
            "GET /fine HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.ends_with("GET /fine"), "{answer}");
    });
}

#[test]
fn a_body_with_two_lengths_is_read_one_way_and_ends_its_connection() {
    run(async {
        let app = App::start(|request| async move {
            assert!(!request.headers().contains_key("content-length"));
            let path = request.uri().path().to_owned();
            let body = http_body_util::BodyExt::collect(request.into_body())
                .await
                .unwrap()
                .to_bytes();
            text(&format!("{path}={}", String::from_utf8_lossy(&body)))
        })
        .await;
        let (client, _server) = pair(&app).await;
        let smuggled = "POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n\
                        2\r\nhi\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = raw(&client, smuggled).await;
        assert!(answer.contains("/one=hi"), "{answer}");
        assert!(!answer.contains("/smuggled"), "{answer}");
        assert_eq!(app.requests.get(), 1);
    });
}

#[test]
fn old_and_proxy_style_clients_are_understood() {
    run(async {
        let app = App::start(|request| async move {
            let host = request
                .headers()
                .get("host")
                .map_or("-", |host| host.to_str().unwrap());
            text(&format!("{} {host}", request.uri()))
        })
        .await;
        let (client, _server) = pair(&app).await;
        let answer = raw(&client, "GET /old HTTP/1.0\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.0 200") && answer.ends_with("/old -"),
            "{answer}"
        );
        let absolute =
            "GET http://web.shop/abs?q HTTP/1.1\r\nhost: other\r\nconnection: close\r\n\r\n";
        let answer = raw(&client, absolute).await;
        assert!(
            answer.ends_with("/abs?q web.shop"),
            "the absolute form stands above Host: {answer}"
        );
    });
}

#[test]
fn an_expectation_is_answered_at_the_edge() {
    run(async {
        let app = App::start(|request| async move {
            assert!(!request.headers().contains_key("expect"));
            let body = http_body_util::BodyExt::collect(request.into_body())
                .await
                .unwrap()
                .to_bytes();
            text(&String::from_utf8_lossy(&body))
        })
        .await;
        let (client, _server) = pair(&app).await;
        let mut socket = TcpStream::connect(client.listener).await.unwrap();
        let head = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n";
        socket.write_all(head).await.unwrap();
        let mut interim = [0; 25];
        socket.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        socket.write_all(b"body").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("body"),
            "{answer}"
        );
    });
}

/// An application that closes each connection under its second request, as after an idle time that nobody told.
async fn closing() -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Rc::new(Cell::new(0)));
    let count = seen.clone();
    tokio::task::spawn_local(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let count = count.clone();
            tokio::task::spawn_local(async move {
                let mut head = vec![0; 4096];
                for answered in 0..2 {
                    if socket.read(&mut head).await.unwrap_or(0) == 0 {
                        break;
                    }
                    count.set(count.get() + 1);
                    if answered == 0 {
                        let _ = socket
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                            .await;
                    }
                }
            });
        }
    });
    (address, seen)
}

#[test]
fn a_kept_connection_that_closes_under_a_request_costs_no_idempotent_one() {
    run(async {
        let mesh = Mesh::new();
        let (address, _) = closing().await;
        let (unmeshed, seen) = closing().await;
        let server = mesh.server(address).await;
        let client = mesh.client().await;
        for to in [server.endpoint(), endpoint(unmeshed, None)] {
            client.declare([to], TrafficPolicy::default(), |_| None);
            let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
            for _ in 0..6 {
                assert_eq!(calling.get("/").await, (200, "ok".to_owned()));
            }
        }
        let before = seen.get();
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let answer = calling
            .send(calling.request("POST", "/", empty()))
            .await
            .unwrap();
        assert_eq!(answer.status(), 502, "nobody knows what became of it");
        assert_eq!(seen.get(), before + 1, "so it was not sent again");
    });
}

#[test]
fn an_old_application_that_ends_its_answers_by_closing_is_understood() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut head = vec![0; 4096];
                assert!(socket.read(&mut head).await.unwrap() > 0);
                let answer = format!(
                    "HTTP/1.0 200 OK\r\nserver: old\r\n\r\n{}",
                    "x".repeat(100_000)
                );
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let mesh = Mesh::new();
        let server = mesh.server(address).await;
        let client = mesh.client().await;
        client.declare([server.endpoint()], TrafficPolicy::default(), |_| None);
        for listener in [client.listener, server.listener] {
            let mut calling = Client::connect(listener, Version::HTTP_11).await;
            for _ in 0..3 {
                let (status, text) = calling.get("/").await;
                assert_eq!((status, text.len()), (200, 100_000));
            }
        }
    });
}
