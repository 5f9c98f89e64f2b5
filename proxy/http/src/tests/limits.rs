//! How many connections one backend may have, and how many requests may wait for one.

use std::rc::Rc;
use std::time::Duration;

use http::Version;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use weft_proxy_config::{Balancing, ConnectionLimits, RetryPolicy, TrafficPolicy};

use super::app::{App, Client, full, text};
use super::mesh::{Mesh, Pod, endpoint, run};

fn limited(limits: ConnectionLimits) -> TrafficPolicy {
    TrafficPolicy {
        limits,
        balancing: Balancing::RoundRobin,
        retries: RetryPolicy {
            attempts: 0,
            ..RetryPolicy::default()
        },
        ..TrafficPolicy::default()
    }
}

fn one_connection() -> TrafficPolicy {
    limited(ConnectionLimits {
        max_connections: 1,
        ..ConnectionLimits::default()
    })
}

async fn outcome(client: &Pod, version: Version, path: &str) -> (u16, Option<String>) {
    let mut calling = Client::connect(client.listener, version).await;
    let request = calling.request("GET", path, super::app::empty());
    let answer = calling.send(request).await.unwrap();
    let flag = answer.headers().get("weft-response-flag");
    let flag = flag.map(|flag| flag.to_str().unwrap().to_owned());
    (answer.status().as_u16(), flag)
}

fn overloaded() -> (u16, Option<String>) {
    (503, Some("overloaded".to_owned()))
}

/// Answers `/hold` when told to, everything else at once; a body is read to its end.
async fn holding() -> (App, Rc<Notify>) {
    let go = Rc::new(Notify::new());
    let told = go.clone();
    let app = App::start(move |request| {
        let told = told.clone();
        async move {
            if request.uri().path() == "/hold" {
                told.notified().await;
            }
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            text(&sent.len().to_string())
        }
    })
    .await;
    (app, go)
}

#[test]
fn over_the_limit_of_connections_a_request_is_refused_at_once() {
    run(async {
        let (app, go) = holding().await;
        let client = Mesh::new().client().await;
        client.declare([endpoint(app.address, None)], one_connection(), |_| None);
        let mut first = Client::connect(client.listener, Version::HTTP_11).await;
        let held = tokio::task::spawn_local(async move { first.get("/hold").await });
        while app.requests.get() == 0 {
            tokio::task::yield_now().await;
        }
        for version in [Version::HTTP_11, Version::HTTP_2] {
            assert_eq!(outcome(&client, version, "/").await, overloaded());
        }
        go.notify_one();
        assert_eq!(held.await.unwrap().0, 200);
        // The same connection, and then one of the other version in its place.
        assert_eq!(outcome(&client, Version::HTTP_11, "/").await, (200, None));
        assert_eq!(app.connections.get(), 1);
        assert_eq!(outcome(&client, Version::HTTP_2, "/").await, (200, None));
        assert_eq!(outcome(&client, Version::HTTP_11, "/").await, (200, None));
        assert_eq!(app.connections.get(), 3);
    });
}

#[test]
fn a_connection_that_rests_keeps_no_other_endpoint_from_its_first() {
    run(async {
        let (one, _) = holding().await;
        let (other, _) = holding().await;
        let client = Mesh::new().client().await;
        let endpoints = [endpoint(one.address, None), endpoint(other.address, None)];
        client.declare(endpoints, one_connection(), |_| None);
        for _ in 0..4 {
            assert_eq!(outcome(&client, Version::HTTP_11, "/").await, (200, None));
        }
        assert_eq!((one.requests.get(), other.requests.get()), (2, 2));
    });
}

#[test]
fn a_large_body_shares_where_it_may_have_no_hop_of_its_own() {
    run(async {
        let (app, go) = holding().await;
        let mesh = Mesh::new();
        let server = mesh.server(app.address).await;
        let client = mesh.client().await;
        client.declare([server.endpoint()], one_connection(), |_| None);
        let mut first = Client::connect(client.listener, Version::HTTP_2).await;
        let held = tokio::task::spawn_local(async move { first.get("/hold").await });
        while app.requests.get() == 0 {
            tokio::task::yield_now().await;
        }
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut calling = Client::connect(client.listener, version).await;
            let request = calling.request("POST", "/", full(vec![b'x'; 2 << 20]));
            let answer = calling.send(request).await.unwrap();
            let told = super::app::body(answer).await;
            assert_eq!(told, (2 << 20).to_string(), "{version:?}");
        }
        assert_eq!(client.server.0.pool.http2_connections().len(), 1);
        go.notify_one();
        assert_eq!(held.await.unwrap().0, 200);
    });
}

#[test]
fn over_the_limit_of_those_who_wait_a_request_is_refused_at_once() {
    run(async {
        let mesh = Mesh::new();
        let (app, _) = holding().await;
        let server = mesh.server(app.address).await;
        // Accepts, and never shakes hands.
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = mesh.client().await;
        let policy = limited(ConnectionLimits {
            max_pending: 2,
            connect_timeout: Duration::from_secs(60),
            ..ConnectionLimits::default()
        });
        let at = mute.local_addr().unwrap();
        let silent = endpoint(at, Some(server.id.clone()));
        let backend = client.declare([silent], policy.clone(), |_| None);
        let mut waiting = Vec::new();
        for _ in 0..2 {
            let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
            waiting.push(tokio::task::spawn_local(
                async move { calling.get("/").await },
            ));
        }
        while backend.state.pending() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(outcome(&client, Version::HTTP_11, "/").await, overloaded());
        for one in waiting {
            one.abort();
        }
        while backend.state.pending() > 0 {
            tokio::task::yield_now().await;
        }
        client.declare([server.endpoint()], policy, |_| None);
        assert_eq!(outcome(&client, Version::HTTP_11, "/").await, (200, None));
    });
}
