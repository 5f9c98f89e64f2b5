//! Who may do what in a pod.

use http::{HeaderMap, Method};

use super::*;
use crate::authorization::{Condition, StringMatch};

fn id(namespace: &str, account: &str) -> SpiffeId {
    SpiffeId::parse(&format!(
        "spiffe://cluster.local/ns/{namespace}/sa/{account}"
    ))
    .unwrap()
}

fn namespace(name: &str) -> Condition {
    Condition::Namespace(StringMatch::Exact(name.into()))
}

fn path(prefix: &str) -> Condition {
    Condition::path(StringMatch::Prefix(prefix.into()))
}

fn policy(name: &str, action: Action, rules: Vec<Condition>) -> PolicyBinding {
    let rules = rules
        .into_iter()
        .enumerate()
        .map(|(i, c)| (i.to_string(), c));
    PolicyBinding {
        policy: Arc::new(Policy::new(name, "0123456789abcdef", action, rules)),
        ports: SmallVec::new(),
    }
}

fn inbound(policies: Vec<PolicyBinding>) -> Inbound {
    Inbound::new("shop", "web-1", MtlsMode::Strict).guarded("fedcba9876543210", vec![], policies)
}

fn from(identity: &SpiffeId) -> Peer<'_> {
    Peer {
        identity: Some(identity),
        address: [10, 0, 0, 1].into(),
        port: 80,
    }
}

fn get(inbound: &Inbound, who: &SpiffeId, path: &str) -> Decision {
    let headers = HeaderMap::new();
    let request = RequestView {
        method: &Method::GET,
        path,
        query: None,
        headers: &headers,
        host: Some("web"),
    };
    inbound.authorize_request(&from(who), &request)
}

fn denied_by(decision: Decision) -> String {
    match decision {
        Decision::Deny(id) => id.to_string(),
        Decision::Allow => "allowed".to_owned(),
    }
}

#[test]
fn without_policies_everybody_may() {
    let who = id("x", "y");
    assert!(get(&inbound(vec![]), &who, "/").is_allowed());
    assert!(
        inbound(vec![])
            .authorize_connection(&from(&who))
            .is_allowed()
    );
}

#[test]
fn with_an_allow_something_must_match() {
    let inbound = inbound(vec![policy(
        "shop/a",
        Action::Allow,
        vec![namespace("shop")],
    )]);
    assert!(get(&inbound, &id("shop", "cart"), "/").is_allowed());
    assert_eq!(
        denied_by(get(&inbound, &id("x", "y"), "/")),
        "default-deny@fedcba98"
    );
}

#[test]
fn a_deny_wins_and_names_its_rule() {
    let inbound = inbound(vec![
        policy("shop/a", Action::Allow, vec![Condition::All(vec![])]),
        policy("root/d", Action::Deny, vec![namespace("x"), path("/admin")]),
    ]);
    let who = id("shop", "cart");
    assert!(get(&inbound, &who, "/").is_allowed());
    assert_eq!(
        denied_by(get(&inbound, &who, "/x/../admin")),
        "root/d#1@01234567"
    );
    assert_eq!(
        denied_by(get(&inbound, &id("x", "y"), "/")),
        "root/d#0@01234567"
    );
}

#[test]
fn a_policy_without_rules_never_matches() {
    let nobody = inbound(vec![policy("shop/none", Action::Allow, vec![])]);
    assert_eq!(
        denied_by(get(&nobody, &id("shop", "a"), "/")),
        "default-deny@fedcba98"
    );
    let harmless = inbound(vec![policy("shop/none", Action::Deny, vec![])]);
    assert!(get(&harmless, &id("shop", "a"), "/").is_allowed());
}

#[test]
fn opaque_bytes_pass_only_by_what_is_visible() {
    let who = id("shop", "cart");
    let by_path = |action| inbound(vec![policy("shop/p", action, vec![path("/")])]);
    assert!(
        !by_path(Action::Allow)
            .authorize_connection(&from(&who))
            .is_allowed()
    );
    assert!(
        !by_path(Action::Deny)
            .authorize_connection(&from(&who))
            .is_allowed()
    );
    let both = Condition::All(vec![namespace("x"), path("/admin")]);
    let deny = inbound(vec![policy("shop/d", Action::Deny, vec![both])]);
    assert!(deny.authorize_connection(&from(&who)).is_allowed());
    assert!(!deny.authorize_connection(&from(&id("x", "y"))).is_allowed());
}

#[test]
fn a_handshake_is_refused_only_if_no_request_could_pass() {
    let allow = inbound(vec![policy(
        "shop/a",
        Action::Allow,
        vec![Condition::All(vec![namespace("shop"), path("/a")])],
    )]);
    assert!(
        allow
            .authorize_handshake(&from(&id("shop", "x")))
            .is_allowed()
    );
    assert!(!allow.authorize_handshake(&from(&id("y", "x"))).is_allowed());
    let deny = inbound(vec![policy(
        "shop/d",
        Action::Deny,
        vec![path("/a"), namespace("y")],
    )]);
    assert!(
        deny.authorize_handshake(&from(&id("shop", "x")))
            .is_allowed()
    );
    assert_eq!(
        denied_by(deny.authorize_handshake(&from(&id("y", "x")))),
        "shop/d#1@01234567"
    );
}

#[test]
fn a_policy_guards_the_ports_it_is_limited_to() {
    let mut binding = policy("shop/a", Action::Allow, vec![namespace("shop")]);
    binding.ports = SmallVec::from_slice(&[443]);
    let inbound = inbound(vec![binding]);
    let stranger = id("x", "y");
    assert!(inbound.authorize_connection(&from(&stranger)).is_allowed());
    let guarded = Peer {
        port: 443,
        ..from(&stranger)
    };
    assert!(!inbound.authorize_connection(&guarded).is_allowed());
}

#[test]
fn what_cannot_be_read_denies_what_it_guards() {
    let mut binding = PolicyBinding {
        policy: Arc::new(Policy::unreadable("shop/new", "0123456789")),
        ports: SmallVec::from_slice(&[80]),
    };
    let who = id("shop", "cart");
    let guarded = inbound(vec![binding.clone()]);
    assert_eq!(
        denied_by(get(&guarded, &who, "/")),
        "shop/new#unreadable@01234567"
    );
    binding.ports = SmallVec::from_slice(&[81]);
    assert!(get(&inbound(vec![binding]), &who, "/").is_allowed());
}

#[test]
fn ports_that_are_not_listed_follow_the_pod() {
    let listed = InboundPort {
        port: 80,
        protocol: Protocol::Tcp,
        routed: true,
        mtls: MtlsMode::Permissive,
    };
    let other = InboundPort { port: 9, ..listed };
    let inbound = Inbound::new("a", "b", MtlsMode::Strict).guarded("", vec![listed, other], vec![]);
    assert_eq!(inbound.port(80), listed);
    assert!(inbound.port(80).is_http());
    let unlisted = inbound.port(81);
    assert_eq!(
        (unlisted.mtls, unlisted.protocol),
        (MtlsMode::Strict, Protocol::Detect)
    );
}

#[test]
fn hosts_lose_their_port_and_case() {
    for (authority, host) in [
        ("Shop", "shop"),
        ("shop:80", "shop"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("user@Shop:80", "shop"),
        ("", ""),
    ] {
        assert_eq!(bare_host(authority), host, "{authority:?}");
    }
}
