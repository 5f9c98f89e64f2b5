//! What is an identity and what only looks like one.

use proptest::prelude::*;

use super::*;

fn td() -> TrustDomain {
    TrustDomain::new("cluster.local").unwrap()
}

#[test]
fn an_id_comes_apart_into_its_parts() {
    let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
    assert_eq!(id.trust_domain(), &td());
    assert_eq!((id.namespace(), id.service_account()), ("shop", "web"));
    assert_eq!(id, SpiffeId::new(&td(), "shop", "web").unwrap());
    assert_eq!(id.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
}

#[test]
fn the_control_plane_has_a_well_known_id() {
    assert_eq!(
        SpiffeId::control_plane(&td()).as_str(),
        "spiffe://cluster.local/ns/weft-system/sa/weft-control-plane"
    );
    let longest = TrustDomain::new(&"a".repeat(255)).unwrap();
    assert_eq!(SpiffeId::control_plane(&longest).trust_domain(), &longest);
}

#[test]
fn what_only_looks_like_an_id_is_refused_with_the_place() {
    use NameError as E;
    use NamePart as P;
    let path = |expected, at| E::Path { expected, at };
    let character = |part, found, at| E::Character { part, found, at };
    let cases = [
        ("", E::Scheme),
        ("http://td/ns/a/sa/b", E::Scheme),
        ("SPIFFE://td/ns/a/sa/b", E::Scheme),
        ("spiffe:/td/ns/a/sa/b", E::Scheme),
        (" spiffe://td/ns/a/sa/b", E::Scheme),
        (
            "spiffe:///ns/a/sa/b",
            E::Empty {
                part: P::TrustDomain,
                at: 9,
            },
        ),
        ("spiffe://Td/ns/a/sa/b", character(P::TrustDomain, 'T', 9)),
        (
            "spiffe://td:1/ns/a/sa/b",
            character(P::TrustDomain, ':', 11),
        ),
        (
            "spiffe://u@td/ns/a/sa/b",
            character(P::TrustDomain, '@', 10),
        ),
        (
            "spiffe://t%64/ns/a/sa/b",
            character(P::TrustDomain, '%', 10),
        ),
        ("spiffe://tä/ns/a/sa/b", character(P::TrustDomain, 'ä', 10)),
        ("spiffe://td", path("/ns/", 11)),
        ("spiffe://td/", path("/ns/", 11)),
        ("spiffe://td/sa/b/ns/a", path("/ns/", 11)),
        ("spiffe://td//ns/a/sa/b", path("/ns/", 11)),
        (
            "spiffe://td/ns//sa/b",
            E::Empty {
                part: P::Namespace,
                at: 15,
            },
        ),
        ("spiffe://td/ns/a", path("/sa/", 16)),
        ("spiffe://td/ns/a/SA/b", path("/sa/", 16)),
        (
            "spiffe://td/ns/a/sa/",
            E::Empty {
                part: P::ServiceAccount,
                at: 20,
            },
        ),
        ("spiffe://td/ns/a/sa/b/", path("the end", 21)),
        ("spiffe://td/ns/a/sa/b/c", path("the end", 21)),
        (
            "spiffe://td/ns/a/sa/b?x",
            character(P::ServiceAccount, '?', 21),
        ),
        (
            "spiffe://td/ns/a/sa/b#x",
            character(P::ServiceAccount, '#', 21),
        ),
        (
            "spiffe://td/ns/a%2fb/sa/b",
            character(P::Namespace, '%', 16),
        ),
        (
            "spiffe://td/ns/a/sa/b\n",
            character(P::ServiceAccount, '\n', 21),
        ),
        (
            "spiffe://td/ns/a/sa/b\0",
            character(P::ServiceAccount, '\0', 21),
        ),
        (
            "spiffe://td/ns/../sa/b",
            E::Relative {
                part: P::Namespace,
                at: 15,
            },
        ),
        (
            "spiffe://td/ns/a/sa/.",
            E::Relative {
                part: P::ServiceAccount,
                at: 20,
            },
        ),
    ];
    for (text, error) in cases {
        assert_eq!(SpiffeId::parse(text), Err(error), "{text:?}");
    }
}

#[test]
fn lengths_are_bounded_where_the_specification_does() {
    let prefix = "spiffe://td/ns/a/sa/";
    let fits = format!("{prefix}{}", "b".repeat(2048 - prefix.len()));
    assert!(SpiffeId::parse(&fits).is_ok());
    assert_eq!(
        SpiffeId::parse(&format!("{fits}b")),
        Err(NameError::IdTooLong(2049))
    );
    assert_eq!(
        TrustDomain::new(&"a".repeat(256)),
        Err(NameError::TooLong {
            part: NamePart::TrustDomain,
            len: 256,
            max: 255
        })
    );
}

#[test]
fn a_part_cannot_smuggle_in_a_path() {
    for (namespace, account) in [
        ("a/sa/b", "c"),
        ("a", "b/c"),
        ("", "b"),
        ("a", ".."),
        ("a", ""),
    ] {
        assert!(SpiffeId::new(&td(), namespace, account).is_err());
    }
}

#[test]
fn pods_are_namespace_slash_name() {
    let pod: PodRef = "shop/web-5d9c.x".parse().unwrap();
    assert_eq!((pod.namespace(), pod.name()), ("shop", "web-5d9c.x"));
    assert_eq!(pod.to_string(), "shop/web-5d9c.x");
    for bad in [
        "", "shop", "/web", "shop/", "shop/a/b", "Shop/a", "s.h/a", "shop/a b",
    ] {
        assert!(bad.parse::<PodRef>().is_err(), "{bad:?}");
    }
}

#[test]
fn names_serialise_as_text_and_are_checked_on_the_way_in() {
    let id = SpiffeId::new(&td(), "shop", "web").unwrap();
    let json = serde_json::to_string(&id).unwrap();
    assert_eq!(json, "\"spiffe://cluster.local/ns/shop/sa/web\"");
    assert_eq!(serde_json::from_str::<SpiffeId>(&json).unwrap(), id);
    assert!(serde_json::from_str::<SpiffeId>("\"spiffe://x\"").is_err());
    assert!(serde_json::from_str::<TrustDomain>("\"A\"").is_err());
    assert_eq!(
        serde_json::from_str::<PodRef>("\"a/b\"").unwrap(),
        PodRef::new("a", "b").unwrap()
    );
}

proptest! {
    #[test]
    fn valid_parts_survive_the_round_trip(
        domain in "[a-z0-9._-]{1,60}",
        namespace in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,60}",
        account in "[A-Za-z0-9_-][A-Za-z0-9._-]{0,60}",
    ) {
        let domain = TrustDomain::new(&domain).unwrap();
        let id = SpiffeId::new(&domain, &namespace, &account).unwrap();
        let again = SpiffeId::parse(id.as_str()).unwrap();
        prop_assert_eq!(again.trust_domain(), &domain);
        prop_assert_eq!(again.namespace(), namespace);
        prop_assert_eq!(again.service_account(), account);
        prop_assert_eq!(again, id);
    }

    #[test]
    fn whatever_parses_is_written_back_unchanged(text in "spiffe://[a-zA./:%?#]{0,9}(/ns|/|sa/|x|[./%]){0,9}") {
        if let Ok(id) = SpiffeId::parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
            let rebuilt = SpiffeId::new(id.trust_domain(), id.namespace(), id.service_account());
            prop_assert_eq!(rebuilt.unwrap(), id);
        }
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in any::<String>()) {
        let _ = SpiffeId::parse(&text);
        let _ = SpiffeId::parse(&format!("spiffe://{text}"));
        let _ = SpiffeId::parse(&format!("spiffe://td/ns/{text}"));
        let _ = text.parse::<PodRef>();
        let _ = TrustDomain::new(&text);
    }
}
