//! Who may: asked for each request, answered with the decision's name in the client's protocol.

use std::sync::Arc;

use http::Version;
use smallvec::smallvec;
use weft_proxy_config::{
    Action, Condition, Inbound, InboundPort, MtlsMode, Policy, PolicyBinding, Protocol, StringMatch,
};

use super::app::{App, Client, empty};
use super::forwarding::pair;
use super::mesh::{Pod, run};

fn guard(server: &Pod, mtls: MtlsMode, action: Action, condition: Condition) {
    let policy = Policy::new(
        "shop/guard",
        "0123456789",
        action,
        [("first".to_owned(), condition)],
    );
    let binding = PolicyBinding {
        policy: Arc::new(policy),
        ports: smallvec![],
    };
    let port = InboundPort {
        port: server.listener.port(),
        protocol: Protocol::Detect,
        routed: false,
        mtls,
    };
    let inbound = Inbound::new("shop", "server", mtls).guarded("set", vec![port], vec![binding]);
    server.writer.borrow().set_inbound(inbound);
}

#[test]
fn a_refusal_names_its_decision_and_changes_take_effect_on_open_connections() {
    run(async {
        let app = App::echo().await;
        let (client, server) = pair(&app).await;
        let mut calling = Client::connect(client.listener, Version::HTTP_2).await;
        assert_eq!(calling.get("/admin").await.0, 200);
        guard(
            &server,
            MtlsMode::Permissive,
            Action::Deny,
            Condition::path(StringMatch::Prefix("/admin".into())),
        );
        for path in ["/admin", "/a/../admin", "//admin", "/%61dmin"] {
            let answer = calling
                .send(calling.request("GET", path, empty()))
                .await
                .unwrap();
            assert_eq!(answer.status(), 403, "{path}");
            assert_eq!(
                answer.headers()["weft-decision"],
                "shop/guard#first@01234567"
            );
            assert_eq!(answer.headers()["weft-response-flag"], "denied");
        }
        let mut request = calling.request("POST", "/admin", empty());
        request
            .headers_mut()
            .insert("content-type", "application/grpc".parse().unwrap());
        let answer = calling.send(request).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["grpc-status"]),
            (200, &"7".parse().unwrap())
        );
        assert_eq!(calling.get("/fine").await.0, 200);
        assert_eq!(app.requests.get(), 2);
    });
}

#[test]
fn an_identity_is_what_its_certificate_says() {
    run(async {
        let app = App::echo().await;
        let (client, server) = pair(&app).await;
        let account = |name: &str| Condition::ServiceAccount {
            namespace: "shop".into(),
            name: name.into(),
        };
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        guard(
            &server,
            MtlsMode::Permissive,
            Action::Allow,
            account("client"),
        );
        assert_eq!(calling.get("/").await.0, 200);
        let mut plain = Client::connect(server.listener, Version::HTTP_11).await;
        assert_eq!(plain.get("/").await.0, 403, "nobody is not the client");
        guard(
            &server,
            MtlsMode::Permissive,
            Action::Allow,
            account("other"),
        );
        assert_eq!(calling.get("/").await.0, 403);
    });
}

#[test]
fn strict_mode_refuses_plaintext_also_on_connections_that_were_open_before() {
    run(async {
        let app = App::echo().await;
        let (client, server) = pair(&app).await;
        let mut plain = Client::connect(server.listener, Version::HTTP_11).await;
        assert_eq!(plain.get("/").await.0, 200);
        guard(
            &server,
            MtlsMode::Strict,
            Action::Allow,
            Condition::All(vec![]),
        );
        let answer = plain
            .send(plain.request("GET", "/", empty()))
            .await
            .unwrap();
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.headers()["weft-response-flag"], "plaintext-refused");
        let mut calling = Client::connect(client.listener, Version::HTTP_11).await;
        assert_eq!(calling.get("/").await.0, 200, "mutual TLS passes");
    });
}
