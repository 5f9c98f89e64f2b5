//! A pod that leaves: nobody's request is lost.

use http::Version;
use weft_proxy_config::TrafficPolicy;
use weft_proxy_net::Phase;

use super::app::{App, Client, empty, full};
use super::forwarding::pair;
use super::mesh::{Mesh, run};

#[test]
fn goodbye_is_said_on_the_next_answer_and_accepting_goes_on() {
    run(async {
        let app = App::echo().await;
        let (client, server) = pair(&app).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        assert_eq!(calling.get("/").await.0, 200);
        let before = client.server.0.pool.http2_connections().remove(0);
        server.leaving.advance(Phase::Draining);
        for _ in 0..20 {
            let answer = calling
                .send(calling.request("POST", "/", full("x")))
                .await
                .unwrap();
            assert_eq!(answer.status(), 200);
            super::app::body(answer).await;
        }
        assert!(before.is_retired(), "GOAWAY was heard");

        let mut plain = Client::connect(server.listener, Version::HTTP_11).await;
        let answer = plain
            .send(plain.request("GET", "/", empty()))
            .await
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["connection"]),
            (200, &"close".parse().unwrap())
        );
    });
}

#[test]
fn what_the_application_did_not_get_goes_to_another_pod() {
    run(async {
        let (leaving, staying) = (App::echo().await, App::echo().await);
        let mesh = Mesh::new();
        let (one, two) = (
            mesh.server(leaving.address).await,
            mesh.server(staying.address).await,
        );
        let client = mesh.client().await;
        client.declare(
            [one.endpoint(), two.endpoint()],
            TrafficPolicy::default(),
            |_| None,
        );
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        for _ in 0..20 {
            assert_eq!(calling.get("/").await.0, 200);
        }
        one.leaving.advance(Phase::Draining);
        drop(leaving);
        for _ in 0..50 {
            let answer = calling
                .send(calling.request("POST", "/", full("x")))
                .await
                .unwrap();
            assert_eq!(answer.status(), 200);
            super::app::body(answer).await;
        }
    });
}

#[test]
fn a_client_outside_the_mesh_is_told_in_http_that_the_application_is_not_there() {
    run(async {
        let mesh = Mesh::new();
        let server = mesh.server("127.0.0.1:1".parse().unwrap()).await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut plain = Client::connect(server.listener, version).await;
            let answer = plain
                .send(plain.request("POST", "/", full("x")))
                .await
                .unwrap();
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.headers()["weft-response-flag"], "connect-failed");
            let text = super::app::body(answer).await;
            assert!(text.contains("127.0.0.1:1"), "{text}");
        }
    });
}
