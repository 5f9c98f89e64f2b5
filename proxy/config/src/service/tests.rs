//! Which rule and which backend.

use http::{HeaderMap, Method};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::backend::BackendKey;
use crate::route::PathMatch;

fn backend(name: &str) -> Arc<Backend> {
    Backend::new(BackendKey {
        namespace: "shop".into(),
        name: name.into(),
        port: 80,
    })
}

fn weighted(name: &str, weight: u32) -> WeightedBackend {
    WeightedBackend {
        weight,
        target: WeightedBackendTarget::Backend(backend(name)),
        filters: vec![],
    }
}

fn rule(name: &str, prefix: &str, backends: Vec<WeightedBackend>) -> HttpRule {
    let matches = HttpMatch {
        path: Some(PathMatch::prefix(prefix).unwrap()),
        ..HttpMatch::default()
    };
    HttpRule::new(name, matches, vec![], backends)
}

fn port(routed: bool, rules: Vec<HttpRule>) -> Port {
    Port {
        port: 80,
        name: "".into(),
        protocol: Protocol::Http,
        routed,
        rules,
        own: backend("web"),
    }
}

fn outcome(port: &Port, path: &str) -> String {
    let headers = HeaderMap::new();
    let request = RequestView {
        method: &Method::GET,
        path,
        query: None,
        headers: &headers,
        host: None,
    };
    match port.route(&request) {
        RouteOutcome::Rule(rule) => rule.name.to_string(),
        RouteOutcome::NoRoutes => "no routes".to_owned(),
        RouteOutcome::NoMatch => "no match".to_owned(),
        RouteOutcome::BadPath(_) => "bad path".to_owned(),
    }
}

#[test]
fn the_first_rule_that_matches_takes_the_request() {
    let port = port(
        true,
        vec![
            rule("a", "/a", vec![]),
            rule("b", "/a/b", vec![]),
            rule("c", "/c", vec![]),
        ],
    );
    assert_eq!(outcome(&port, "/a/b"), "a");
    assert_eq!(outcome(&port, "/a/../c"), "c");
    assert_eq!(outcome(&port, "/d"), "no match");
    assert_eq!(outcome(&port, "/%00"), "bad path");
}

#[test]
fn no_routes_and_no_rules_are_different_things() {
    assert_eq!(outcome(&port(false, vec![]), "/%00"), "no routes");
    assert_eq!(outcome(&port(true, vec![]), "/"), "no match");
}

#[test]
fn backends_get_their_share() {
    let rule = rule(
        "r",
        "/",
        vec![weighted("a", 9), weighted("b", 0), weighted("c", 1)],
    );
    let mut rng = SmallRng::seed_from_u64(7);
    let mut counts = [0_u32; 3];
    for _ in 0..10_000 {
        let picked = rule.pick(&mut rng).unwrap();
        let at = rule.backends().iter().position(|b| std::ptr::eq(b, picked));
        counts[at.unwrap()] += 1;
    }
    assert_eq!(counts[1], 0);
    assert!((8_800..9_200).contains(&counts[0]), "{counts:?}");
}

#[test]
fn weights_beyond_32_bits_are_summed() {
    let rule = rule(
        "r",
        "/",
        vec![weighted("a", u32::MAX), weighted("b", u32::MAX)],
    );
    let mut rng = SmallRng::seed_from_u64(7);
    let firsts = (0..1_000)
        .filter(|_| std::ptr::eq(rule.pick(&mut rng).unwrap(), &rule.backends()[0]))
        .count();
    assert!((400..600).contains(&firsts), "{firsts}");
}

#[test]
fn nothing_to_pick_from_is_none() {
    let mut rng = SmallRng::seed_from_u64(7);
    assert!(rule("r", "/", vec![]).pick(&mut rng).is_none());
    assert!(
        rule("r", "/", vec![weighted("a", 0)])
            .pick(&mut rng)
            .is_none()
    );
}
