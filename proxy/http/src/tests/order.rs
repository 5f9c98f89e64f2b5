//! The documented order of phases is the order of the calls; and what a request costs in memory.

use http::Request;

use super::app::App;
use super::forwarding::pair;
use super::mesh::run;
use crate::body::Body;
use crate::{inbound, outbound, tunnel};

const INBOUND: &str = include_str!("../inbound.rs");
const OUTBOUND: &str = include_str!("../outbound.rs");

/// The body of the function whose signature begins like this.
fn body_of<'a>(source: &'a str, signature: &str) -> &'a str {
    let from = source.find(signature).unwrap();
    let rest = &source[from..];
    &rest[..rest.find("\n}\n").unwrap()]
}

fn in_order(text: &str, calls: &[&str]) {
    let mut at = 0;
    for call in calls {
        let found = text[at..].find(call);
        at += found.unwrap_or_else(|| panic!("{call} is missing or out of order in\n{text}"));
    }
}

/// The phases that the module's first lines name, those after `done` by proxy/net.
fn documented(source: &str, after: &str) -> Vec<String> {
    let head = source
        .split("\n\n")
        .next()
        .unwrap()
        .replace("//!", " ")
        .replace('\n', " ");
    let line = head
        .split(&format!("→ {after} →"))
        .nth(1)
        .unwrap()
        .split("  The phases")
        .next()
        .unwrap();
    line.split('→')
        .map(|phase| phase.trim().to_owned())
        .collect()
}

#[test]
fn inbound_phases_are_called_in_the_documented_order() {
    let phases = documented(INBOUND, "identity");
    assert_eq!(
        phases,
        [
            "route",
            "authenticate",
            "authorise",
            "limit",
            "app",
            "record"
        ]
    );
    let calls: Vec<String> = phases.iter().map(|phase| format!("{phase}(")).collect();
    let calls: Vec<&str> = ["accept("]
        .into_iter()
        .chain(calls.iter().map(String::as_str))
        .collect();
    in_order(body_of(INBOUND, "pub(crate) async fn request"), &calls);
}

#[test]
fn outbound_phases_are_called_in_the_documented_order() {
    let phases = documented(OUTBOUND, "detect");
    assert_eq!(&phases[..3], ["resolve", "route", "limit"]);
    assert_eq!(phases.last().unwrap(), "record");
    let request = body_of(OUTBOUND, "pub(crate) async fn request");
    in_order(
        request,
        &[
            "accept(",
            "resolve(",
            "route(",
            "limit(",
            "attempts(",
            "record(",
        ],
    );
    in_order(
        body_of(OUTBOUND, "async fn attempts"),
        &["balance(", "attempt(", "judge(", "next("],
    );
}

#[test]
fn futures_stay_small() {
    run(async {
        let app = App::echo().await;
        let (client, server) = pair(&app).await;
        let conn = outbound::Connection {
            client: client.listener,
            destination: client.listener,
            resolution: weft_proxy_config::Resolution::Passthrough,
            tunnel: tunnel::Slot::default(),
        };
        let future = outbound::request(&client.server.0, &conn, Request::new(Body::empty()));
        let outbound = size_of_val(&future);
        drop(future);
        let conn = inbound::Connection {
            peer: weft_proxy_net::PeerInfo {
                identity: None,
                address: server.listener,
                mesh: false,
                not_after: None,
            },
            local: server.listener,
            app: app.address,
            drain: server.leaving.drain(),
            tunnel: tunnel::Slot::default(),
        };
        let future = inbound::request(&server.server.0, &conn, Request::new(Body::empty()));
        let inbound = size_of_val(&future);
        drop(future);
        assert!(
            outbound <= 5000 && inbound <= 4000,
            "outbound {outbound}, inbound {inbound}"
        );
    });
}
