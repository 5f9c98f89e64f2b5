//! What is sent again, what is not, and how long it takes at most.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use http::{Response, StatusCode, Version};
use http_body_util::BodyExt;
use weft_proxy_config::{
    Balancing, ConnectionLimits, OutlierDetection, RetryOn, RetryPolicy, TrafficPolicy,
};

use super::app::{AnyBody, App, Client, body, empty, full, text};
use super::forwarding::pair;
use super::mesh::{Mesh, Pod, endpoint, run};

fn retrying(attempts: u8, on: &[RetryOn]) -> TrafficPolicy {
    TrafficPolicy {
        retries: RetryPolicy {
            attempts,
            on: on.to_vec(),
            backoff_base: Duration::from_millis(1),
            ..RetryPolicy::default()
        },
        ..TrafficPolicy::default()
    }
}

fn status(status: u16) -> Response<AnyBody> {
    let mut answer = text("failed");
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    answer
}

/// An application that fails so often and then echoes the body.
async fn flaky(failures: usize, failure: impl Fn() -> Response<AnyBody> + 'static) -> App {
    let left = Cell::new(failures);
    App::start(move |request| {
        let failed = (left.get() > 0).then(|| {
            left.set(left.get() - 1);
            failure()
        });
        async move {
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            failed.unwrap_or_else(|| Response::new(full(sent)))
        }
    })
    .await
}

async fn calls(app: &App, policy: TrafficPolicy) -> (Pod, Pod) {
    let mesh = Mesh::new();
    let server = mesh.server(app.address).await;
    let client = mesh.client().await;
    client.declare([server.endpoint()], policy, |_| None);
    (client, server)
}

#[test]
fn an_idempotent_request_is_retried_with_its_body() {
    run(async {
        let app = flaky(2, || status(503)).await;
        let (client, _server) = calls(&app, retrying(2, &[RetryOn::GatewayError])).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut calling = Client::connect(client.listener, version).await;
            let answer = calling
                .send(calling.request("PUT", "/", full("kept")))
                .await
                .unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(
                answer.into_body().collect().await.unwrap().to_bytes(),
                "kept"
            );
        }
        assert_eq!(app.requests.get(), 4);
    });
}

#[test]
fn a_request_that_may_have_had_an_effect_is_not_retried_unless_declared_safe() {
    run(async {
        let app = flaky(2, || status(503)).await;
        let (client, _server) = calls(&app, retrying(3, &[RetryOn::ServerError])).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let answer = calling
            .send(calling.request("POST", "/", full("x")))
            .await
            .unwrap();
        assert_eq!((answer.status().as_u16(), app.requests.get()), (503, 1));
        drop(answer);
        let mut safe = retrying(3, &[RetryOn::ServerError]);
        safe.retries.non_idempotent = true;
        let endpoints: Vec<_> = {
            let backend = client.declare([_server.endpoint()], safe, |_| None);
            backend
                .load()
                .targets()
                .iter()
                .map(|target| target.addr)
                .collect()
        };
        assert_eq!(endpoints.len(), 1);
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let answer = calling
            .send(calling.request("POST", "/", full("x")))
            .await
            .unwrap();
        assert_eq!((answer.status().as_u16(), app.requests.get()), (200, 3));
    });
}

#[test]
fn a_body_that_is_too_large_to_keep_is_sent_once() {
    run(async {
        let app = flaky(1, || status(503)).await;
        let mut policy = retrying(2, &[RetryOn::GatewayError]);
        policy.retries.replay_limit = 10;
        let (client, _server) = calls(&app, policy).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let answer = calling
            .send(calling.request("PUT", "/", full("more than ten bytes")))
            .await
            .unwrap();
        assert_eq!((answer.status().as_u16(), app.requests.get()), (503, 1));
        assert_eq!(client.server.0.settings.replay_budget.used(), 0);
    });
}

#[test]
fn a_grpc_status_in_the_headers_decides_about_retries() {
    run(async {
        let unavailable = || {
            let mut answer = Response::new(empty());
            answer
                .headers_mut()
                .insert("content-type", "application/grpc".parse().unwrap());
            answer
                .headers_mut()
                .insert("grpc-status", "14".parse().unwrap());
            answer
        };
        let app = flaky(1, unavailable).await;
        let mut policy = retrying(2, &[RetryOn::GrpcUnavailable]);
        policy.retries.non_idempotent = true;
        let (client, _server) = calls(&app, policy).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_2).await;
        let mut request = calling.request("POST", "/p.S/M", full("m"));
        request
            .headers_mut()
            .insert("content-type", "application/grpc".parse().unwrap());
        let answer = calling.send(request).await.unwrap();
        assert!(!answer.headers().contains_key("grpc-status"));
        assert_eq!(app.requests.get(), 2);
    });
}

#[test]
fn the_budget_bounds_retries() {
    run(async {
        let app = App::start(|_| async { status(503) }).await;
        let mut policy = retrying(3, &[RetryOn::GatewayError]);
        policy.retries.budget_percent = 20;
        policy.retries.budget_min_per_second = 0;
        let (client, _server) = calls(&app, policy).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        for _ in 0..100 {
            assert_eq!(calling.get("/").await.0, 503);
        }
        assert!(app.requests.get() <= 120, "{}", app.requests.get());
    });
}

#[test]
fn what_was_never_delivered_is_sent_elsewhere_whatever_its_method() {
    run(async {
        let app = flaky(0, || status(500)).await;
        let mesh = Mesh::new();
        let server = mesh.server(app.address).await;
        // One whose proxy runs and whose application is gone, and an address where nobody is.
        let gone = mesh.server("127.0.0.1:1".parse().unwrap()).await;
        let nobody = endpoint("127.0.7.9:8080".parse().unwrap(), Some(server.id.clone()));
        let client = mesh.client().await;
        client.declare(
            [server.endpoint(), gone.endpoint(), nobody],
            TrafficPolicy::default(),
            |_| None,
        );
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut calling = Client::connect(client.listener, version).await;
            for _ in 0..30 {
                let answer = calling
                    .send(calling.request("POST", "/", full("once")))
                    .await
                    .unwrap();
                assert_eq!(answer.status(), 200);
                assert_eq!(
                    answer.into_body().collect().await.unwrap().to_bytes(),
                    "once"
                );
            }
        }
        assert_eq!(app.requests.get(), 60, "nothing was done twice");
    });
}

#[test]
fn with_nobody_reachable_the_answer_names_the_service() {
    run(async {
        let mesh = Mesh::new();
        let client = mesh.client().await;
        client.declare(
            [endpoint("127.0.7.9:8080".parse().unwrap(), None)],
            TrafficPolicy::default(),
            |_| None,
        );
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let answer = calling
            .send(calling.request("GET", "/", empty()))
            .await
            .unwrap();
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["weft-response-flag"], "connect-failed");
        let text = body(answer).await;
        assert!(
            text.contains("shop/web:80") && text.contains("127.0.7.9:8080"),
            "{text}"
        );
    });
}

#[test]
fn a_wrong_identity_is_never_talked_to() {
    run(async {
        let app = App::echo().await;
        let (client, server) = pair(&app).await;
        let mut impostor = server.endpoint();
        impostor.identity = Some(client.id.clone());
        client.declare([impostor], TrafficPolicy::default(), |_| None);
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        assert_eq!(calling.get("/").await.0, 503);
        assert_eq!(app.requests.get(), 0);
    });
}

#[test]
fn time_runs_out_for_the_request_and_for_an_attempt() {
    run(async {
        let hangs = Rc::new(Cell::new(1));
        let app = App::start(move |_| {
            let hang = hangs.get() > 0;
            hangs.set(hangs.get() - 1);
            async move {
                if hang {
                    std::future::pending::<()>().await;
                }
                text("late")
            }
        })
        .await;
        let mut policy = retrying(1, &[RetryOn::AttemptTimeout]);
        // Time enough for the handshake and the second attempt on a machine that is busy.
        policy.retries.per_try_timeout = Some(Duration::from_secs(2));
        let (client, server) = calls(&app, policy).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        assert_eq!(
            calling.get("/").await,
            (200, "late".into()),
            "the attempt's time, then another"
        );

        let stuck = App::start(|_| std::future::pending()).await;
        drop((client, server));
        let policy = TrafficPolicy {
            request_timeout: Some(Duration::from_millis(50)),
            ..TrafficPolicy::default()
        };
        let (client, _server) = calls(&stuck, policy).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let answer = calling
            .send(calling.request("GET", "/", empty()))
            .await
            .unwrap();
        assert_eq!(
            (
                answer.status().as_u16(),
                &answer.headers()["weft-response-flag"]
            ),
            (504, &"timeout".parse().unwrap())
        );
    });
}

#[test]
fn the_breaker_and_the_circuit_open() {
    run(async {
        let waiting: Rc<RefCell<Vec<tokio::sync::oneshot::Receiver<()>>>> = Rc::default();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        waiting.borrow_mut().push(released);
        let app = App::start(move |_| {
            let wait = waiting.borrow_mut().pop();
            async move {
                if let Some(wait) = wait {
                    let _ = wait.await;
                }
                text("done")
            }
        })
        .await;
        let policy = TrafficPolicy {
            limits: ConnectionLimits {
                max_requests: 1,
                ..ConnectionLimits::default()
            },
            ..TrafficPolicy::default()
        };
        let (client, _server) = calls(&app, policy).await;
        let mut first = Client::connect(client.listener, Version::HTTP_11).await;
        let slow = tokio::task::spawn_local(async move { first.get("/").await });
        while app.requests.get() == 0 {
            tokio::task::yield_now().await;
        }
        let mut second = Client::connect(client.listener, Version::HTTP_11).await;
        let answer = second
            .send(second.request("GET", "/", empty()))
            .await
            .unwrap();
        assert_eq!(
            (
                answer.status().as_u16(),
                &answer.headers()["weft-response-flag"]
            ),
            (503, &"overloaded".parse().unwrap())
        );
        drop(answer);
        release.send(()).unwrap();
        assert_eq!(slow.await.unwrap().0, 200);
    });
}

#[test]
fn an_endpoint_that_fails_is_taken_out() {
    run(async {
        let (bad, good) = (
            App::start(|_| async { status(500) }).await,
            App::echo().await,
        );
        let mesh = Mesh::new();
        let (one, two) = (
            mesh.server(bad.address).await,
            mesh.server(good.address).await,
        );
        let client = mesh.client().await;
        let policy = TrafficPolicy {
            balancing: Balancing::RoundRobin,
            outlier: Some(OutlierDetection {
                consecutive_failures: 3,
                ..OutlierDetection::default()
            }),
            ..TrafficPolicy::default()
        };
        client.declare([one.endpoint(), two.endpoint()], policy, |_| None);
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        for _ in 0..100 {
            calling.get("/").await;
        }
        assert_eq!(bad.requests.get(), 3);
        assert_eq!(good.requests.get(), 97);
    });
}
