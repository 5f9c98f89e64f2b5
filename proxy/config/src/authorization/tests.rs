//! What conditions mean, and that the unknown never widens access.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;
use weft_identity::SpiffeId;

use super::*;
use crate::decision::Decision;
use crate::inbound::{Inbound, PolicyBinding};
use crate::protocol::MtlsMode;

fn id(namespace: &str, account: &str) -> SpiffeId {
    SpiffeId::parse(&format!(
        "spiffe://cluster.local/ns/{namespace}/sa/{account}"
    ))
    .unwrap()
}

fn peer(identity: Option<&SpiffeId>) -> Peer<'_> {
    Peer {
        identity,
        address: IpAddr::from([10, 0, 0, 7]),
        port: 8080,
    }
}

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.to_owned())
}

fn with_request(condition: &Condition, headers: &HeaderMap, path: &str) -> Truth {
    let request = RequestView {
        method: &Method::GET,
        path,
        query: None,
        headers,
        host: Some("Shop.example:8080"),
    };
    let normal = path::normalize(path).ok();
    let literal = path::literal(path);
    let facts = HttpFacts::new(
        &request,
        normal.as_deref(),
        literal.as_deref(),
        "shop.example",
    );
    let web = id("shop", "web");
    condition.holds(&peer(Some(&web)), Some(&facts))
}

#[test]
fn who_calls_is_compared_with_what_it_proved() {
    let web = id("shop", "web");
    let holds = |condition: &Condition, who: Option<&SpiffeId>| condition.holds(&peer(who), None);
    let account = Condition::ServiceAccount {
        namespace: "shop".into(),
        name: "web".into(),
    };
    for condition in [
        Condition::Principal(exact(web.as_str())),
        Condition::Principal(StringMatch::Prefix(
            "spiffe://cluster.local/ns/shop/".into(),
        )),
        Condition::Principal(StringMatch::Present),
        Condition::Namespace(exact("shop")),
        account,
    ] {
        assert_eq!(holds(&condition, Some(&web)), Truth::True, "{condition:?}");
        assert_eq!(holds(&condition, None), Truth::False, "{condition:?}");
    }
    assert_eq!(
        holds(
            &Condition::Namespace(exact("shop")),
            Some(&id("evil", "web"))
        ),
        Truth::False
    );
}

#[test]
fn addresses_and_ports_are_of_the_connection() {
    let block = |text: &str| Condition::SourceIp(text.parse().unwrap());
    let mapped = Peer {
        address: "::ffff:10.0.0.7".parse().unwrap(),
        ..peer(None)
    };
    assert_eq!(block("10.0.0.0/24").holds(&mapped, None), Truth::True);
    assert_eq!(block("10.0.1.0/24").holds(&mapped, None), Truth::False);
    assert_eq!(Condition::Port(8080).holds(&mapped, None), Truth::True);
    assert_eq!(Condition::Port(80).holds(&mapped, None), Truth::False);
}

#[test]
fn http_is_unknown_where_bytes_are_opaque() {
    let nobody = peer(None);
    for condition in [
        Condition::Method(exact("GET")),
        Condition::path(exact("/x")),
        Condition::host(exact("x")),
        Condition::header("x", None).unwrap(),
        Condition::Unreadable,
    ] {
        assert_eq!(condition.holds(&nobody, None), Truth::Unknown);
        let not = Condition::Not(Box::new(condition));
        assert_eq!(not.holds(&nobody, None), Truth::Unknown);
    }
}

#[test]
fn the_logic_is_kleenes() {
    let (yes, no) = (Condition::All(vec![]), Condition::Any(vec![]));
    let unknown = Condition::Unreadable;
    let holds = |condition: Condition| condition.holds(&peer(None), None);
    assert_eq!(
        holds(Condition::All(vec![unknown.clone(), no.clone()])),
        Truth::False
    );
    assert_eq!(
        holds(Condition::All(vec![unknown.clone(), yes.clone()])),
        Truth::Unknown
    );
    assert_eq!(
        holds(Condition::Any(vec![unknown.clone(), yes])),
        Truth::True
    );
    assert_eq!(holds(Condition::Any(vec![unknown, no])), Truth::Unknown);
}

#[test]
fn requests_are_compared_in_their_one_form() {
    let headers = HeaderMap::new();
    let path = Condition::path(exact("/admin"));
    assert_eq!(with_request(&path, &headers, "/x/../%61dmin"), Truth::True);
    assert_eq!(with_request(&path, &headers, "/admin/x"), Truth::False);
    assert_eq!(with_request(&path, &headers, "/%00"), Truth::Unknown);
    let spelled = Condition::path(exact("//%61dmin"));
    assert_eq!(with_request(&spelled, &headers, "/admin"), Truth::True);
    let host = Condition::host(exact("SHOP.example"));
    assert_eq!(with_request(&host, &headers, "/"), Truth::True);
}

#[test]
fn a_path_that_reads_two_ways_is_unknown_where_they_differ() {
    let headers = HeaderMap::new();
    let prefix = |text: &str| Condition::path(StringMatch::Prefix(text.into()));
    let public = "/public/..%2fadmin";
    assert_eq!(
        with_request(&prefix("/public/"), &headers, public),
        Truth::Unknown
    );
    assert_eq!(
        with_request(&prefix("/admin"), &headers, public),
        Truth::Unknown
    );
    assert_eq!(
        with_request(&prefix("/other"), &headers, public),
        Truth::False
    );
    let project = "/projects/a%2Fb";
    assert_eq!(
        with_request(&prefix("/projects/"), &headers, project),
        Truth::True
    );
    let named = Condition::path(exact(project));
    assert_eq!(with_request(&named, &headers, project), Truth::True);
    assert_eq!(
        with_request(&named, &headers, "/projects/a%2fb"),
        Truth::True
    );
}

#[test]
fn a_header_that_says_two_things_is_unknown() {
    let role = |value: Option<&str>| Condition::header("x-role", value.map(exact)).unwrap();
    let mut headers = HeaderMap::new();
    assert_eq!(with_request(&role(None), &headers, "/"), Truth::False);
    assert_eq!(
        with_request(&role(Some("admin")), &headers, "/"),
        Truth::False
    );
    headers.append("x-role", HeaderValue::from_static("admin"));
    assert_eq!(with_request(&role(None), &headers, "/"), Truth::True);
    assert_eq!(
        with_request(&role(Some("admin")), &headers, "/"),
        Truth::True
    );
    headers.append("x-role", HeaderValue::from_static("guest"));
    assert_eq!(with_request(&role(None), &headers, "/"), Truth::True);
    assert_eq!(
        with_request(&role(Some("admin")), &headers, "/"),
        Truth::Unknown
    );
    assert!(Condition::header("not a name", None).is_err());
}

fn condition() -> impl Strategy<Value = Condition> {
    let leaf = prop_oneof![
        Just(Condition::All(vec![])),
        Just(Condition::Any(vec![])),
        Just(Condition::Namespace(exact("shop"))),
        Just(Condition::Port(8080)),
        Just(Condition::Port(1)),
        Just(Condition::Method(exact("GET"))),
        Just(Condition::path(exact("/a"))),
        Just(Condition::Unreadable),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Condition::All),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Condition::Any),
            inner.prop_map(|one| Condition::Not(Box::new(one))),
        ]
    })
}

/// Replaces the part that is `at` in depth-first order.
fn with_unreadable(condition: &Condition, at: &mut usize) -> Condition {
    if *at == 0 {
        *at = usize::MAX;
        return Condition::Unreadable;
    }
    *at -= 1;
    let mut all = |parts: &[Condition]| parts.iter().map(|p| with_unreadable(p, at)).collect();
    match condition {
        Condition::All(parts) => Condition::All(all(parts)),
        Condition::Any(parts) => Condition::Any(all(parts)),
        Condition::Not(inner) => Condition::Not(Box::new(with_unreadable(inner, at))),
        leaf => leaf.clone(),
    }
}

fn allowed(policies: &[(Action, Condition)], opaque: bool) -> bool {
    let bindings = policies.iter().map(|(action, condition)| PolicyBinding {
        policy: Arc::new(Policy::new(
            "n/p",
            "v",
            *action,
            [("r".to_owned(), condition.clone())],
        )),
        ports: Default::default(),
    });
    let inbound = Inbound::new("n", "p", MtlsMode::Strict).guarded("v", vec![], bindings.collect());
    let web = id("shop", "web");
    let peer = peer(Some(&web));
    let headers = HeaderMap::new();
    let request = RequestView {
        method: &Method::GET,
        path: "/a",
        query: None,
        headers: &headers,
        host: None,
    };
    let decision = if opaque {
        inbound.authorize_connection(&peer)
    } else {
        inbound.authorize_request(&peer, &request)
    };
    if decision.is_allowed() {
        assert_eq!(
            inbound.authorize_handshake(&peer),
            Decision::Allow,
            "too strict too early"
        );
    }
    decision.is_allowed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn the_unknown_never_widens_access(
        policies in prop::collection::vec((prop_oneof![Just(Action::Allow), Just(Action::Deny)], condition()), 1..4),
        which in 0_usize..4,
        part in 0_usize..12,
        opaque: bool,
    ) {
        let mut blurred = policies.clone();
        let which = which % blurred.len();
        let mut at = part;
        blurred[which].1 = with_unreadable(&policies[which].1, &mut at);
        if allowed(&blurred, opaque) {
            prop_assert!(allowed(&policies, opaque), "{policies:?} → {blurred:?}");
        }
    }

    #[test]
    fn what_passes_unseen_passes_seen(
        policies in prop::collection::vec((prop_oneof![Just(Action::Allow), Just(Action::Deny)], condition()), 1..4),
    ) {
        if allowed(&policies, true) {
            prop_assert!(allowed(&policies, false), "{policies:?}");
        }
    }
}
