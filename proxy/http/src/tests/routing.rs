//! Rules as requests meet them: what they match, change, answer, and where they lead.

use std::sync::Arc;

use http::{Response, StatusCode, Version};
use weft_proxy_config::{
    Backend, HeaderModifier, HttpFilter, HttpMatch, HttpRule, PathMatch, PathRewrite, Redirect,
    Rewrite, TrafficPolicy, WeightedBackend, WeightedBackendTarget,
};

use super::app::{App, Client, body, empty, text};
use super::mesh::{Mesh, Pod, endpoint, run};

pub(super) fn to(backend: &Arc<Backend>, weight: u32) -> WeightedBackend {
    WeightedBackend {
        weight,
        target: WeightedBackendTarget::Backend(backend.clone()),
        filters: Vec::new(),
    }
}

fn prefix(path: &str) -> HttpMatch {
    HttpMatch {
        path: Some(PathMatch::prefix(path).unwrap()),
        ..HttpMatch::default()
    }
}

/// A client pod whose service has unmeshed endpoints and these rules.
async fn routed(app: &App, rules: impl FnOnce(&Pod, &Arc<Backend>) -> Vec<HttpRule>) -> Pod {
    let mesh = Mesh::new();
    let client = mesh.client().await;
    let other = client.backend("other", []);
    let backend = client.declare(
        [endpoint(app.address, None)],
        TrafficPolicy::default(),
        |_| None,
    );
    let rules = rules(&client, &backend);
    client.declare(
        [endpoint(app.address, None)],
        TrafficPolicy::default(),
        |_| Some(rules),
    );
    drop(other);
    client
}

#[test]
fn filters_change_requests_and_answers() {
    run(async {
        let app = App::start(|request| async move {
            let header = |name| {
                request
                    .headers()
                    .get(name)
                    .map_or("-", |value| value.to_str().unwrap())
            };
            let host = request
                .uri()
                .authority()
                .map_or(header("host"), |host| host.as_str());
            let seen = format!(
                "{host} {} {} {}",
                request.uri().path(),
                header("x-set"),
                header("x-gone")
            );
            let mut answer = text(&seen);
            answer
                .headers_mut()
                .insert("x-secret", "1".parse().unwrap());
            answer
        })
        .await;
        let client = routed(&app, |_, backend| {
            let filters = vec![
                HttpFilter::RequestHeaders(
                    HeaderModifier::new([("x-set", "1")], [], ["x-gone"]).unwrap(),
                ),
                HttpFilter::Rewrite(
                    Rewrite::new("inner.host", Some(PathRewrite::prefix("/new").unwrap())).unwrap(),
                ),
                HttpFilter::ResponseHeaders(
                    HeaderModifier::new([], [("x-added", "2")], ["x-secret"]).unwrap(),
                ),
            ];
            vec![HttpRule::new(
                "HTTPRoute/shop/web/0",
                prefix("/old"),
                filters,
                vec![to(backend, 1)],
            )]
        })
        .await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut calling = Client::connect(client.listener, version).await;
            let mut request = calling.request("GET", "/old/a?q=1", empty());
            request
                .headers_mut()
                .insert("x-gone", "here".parse().unwrap());
            let answer = calling.send(request).await.unwrap();
            assert_eq!(answer.headers()["x-added"], "2");
            assert!(!answer.headers().contains_key("x-secret"));
            assert_eq!(body(answer).await, "inner.host /new/a 1 -", "{version:?}");
        }
    });
}

#[test]
fn a_redirect_is_answered_by_the_proxy() {
    run(async {
        let app = App::echo().await;
        let client = routed(&app, |_, _| {
            let elsewhere = Redirect::new(
                "https",
                "new.host",
                0,
                301,
                Some(PathRewrite::full("/moved").unwrap()),
            );
            let filters = vec![HttpFilter::Redirect(elsewhere.unwrap())];
            vec![HttpRule::new(
                "HTTPRoute/shop/web/0",
                prefix("/"),
                filters,
                vec![],
            )]
        })
        .await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        let answer = calling
            .send(calling.request("GET", "/a?x=1", empty()))
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(answer.headers()["location"], "https://new.host/moved?x=1");
        assert_eq!(app.requests.get(), 0);
    });
}

#[test]
fn weights_share_out_requests() {
    run(async {
        let (one, two) = (
            App::start(|_| async { text("1") }).await,
            App::start(|_| async { text("2") }).await,
        );
        let second = two.address;
        let client = routed(&one, |client, backend| {
            let canary = client.backend("canary", [endpoint(second, None)]);
            vec![HttpRule::new(
                "HTTPRoute/shop/web/0",
                prefix("/"),
                vec![],
                vec![to(backend, 3), to(&canary, 1)],
            )]
        })
        .await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        for _ in 0..400 {
            assert_eq!(calling.get("/").await.0, 200);
        }
        assert!(
            (60..140).contains(&two.requests.get()),
            "{}",
            two.requests.get()
        );
        assert_eq!(one.requests.get() + two.requests.get(), 400);
    });
}

/// Status, flag and gRPC status of an answer that the proxy makes.
async fn refusal(calling: &mut Client, path: &str, grpc: bool) -> (u16, String, Option<String>) {
    let mut request = calling.request("GET", path, empty());
    if grpc {
        request
            .headers_mut()
            .insert("content-type", "application/grpc+proto".parse().unwrap());
    }
    let answer: Response<_> = calling.send(request).await.unwrap();
    let text = |name| {
        answer
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    (
        answer.status().as_u16(),
        text("weft-response-flag").unwrap_or_default(),
        text("grpc-status"),
    )
}

#[test]
fn what_leads_nowhere_says_so_in_the_clients_protocol() {
    run(async {
        let app = App::echo().await;
        let client = routed(&app, |client, _| {
            let nobody = client.backend("nobody", []);
            let invalid = WeightedBackend {
                weight: 1,
                target: WeightedBackendTarget::Invalid("Service shop/gone does not exist".into()),
                filters: vec![],
            };
            vec![
                HttpRule::new(
                    "HTTPRoute/shop/web/0",
                    prefix("/invalid"),
                    vec![],
                    vec![invalid],
                ),
                HttpRule::new("HTTPRoute/shop/web/1", prefix("/none"), vec![], vec![]),
                HttpRule::new(
                    "HTTPRoute/shop/web/2",
                    prefix("/nobody"),
                    vec![],
                    vec![to(&nobody, 1)],
                ),
            ]
        })
        .await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut calling = Client::connect(client.listener, version).await;
            for (path, status, flag, grpc) in [
                ("/invalid", 500, "invalid-backend", "14"),
                ("/none", 500, "invalid-backend", "14"),
                ("/nobody", 503, "no-endpoint", "14"),
                ("/elsewhere", 404, "no-route", "12"),
            ] {
                assert_eq!(
                    refusal(&mut calling, path, false).await,
                    (status, flag.into(), None),
                    "{path}"
                );
                assert_eq!(
                    refusal(&mut calling, path, true).await,
                    (200, flag.into(), Some(grpc.into())),
                    "{path}"
                );
            }
        }
    });
}
