//! Which requests match.

use http::HeaderValue;

use super::*;

fn matches(rule: &HttpMatch, method: Method, target: &str, headers: &[(&str, &str)]) -> bool {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let request = RequestView {
        method: &method,
        path,
        query,
        headers: &map,
        host: None,
    };
    rule.matches(&request, &path::normalize(path).unwrap())
}

fn by_path(path: PathMatch) -> HttpMatch {
    HttpMatch {
        path: Some(path),
        ..HttpMatch::default()
    }
}

#[test]
fn prefixes_match_by_element() {
    let rule = by_path(PathMatch::prefix("/a/b/").unwrap());
    for (path, expected) in [
        ("/a/b", true),
        ("/a/b/", true),
        ("/a/b/c", true),
        ("/a/bc", false),
        ("/a", false),
        ("/x/../a/b", true),
    ] {
        assert_eq!(matches(&rule, Method::GET, path, &[]), expected, "{path}");
    }
    let all = by_path(PathMatch::prefix("/").unwrap());
    assert!(matches(&all, Method::GET, "/", &[]) && matches(&all, Method::GET, "/x", &[]));
}

#[test]
fn exact_paths_and_regexes_match_the_whole() {
    let exact = by_path(PathMatch::exact("/a").unwrap());
    assert!(matches(&exact, Method::GET, "/%61", &[]));
    assert!(!matches(&exact, Method::GET, "/a/", &[]));
    let regex = by_path(PathMatch::regex("/v[0-9]+|/x").unwrap());
    assert!(matches(&regex, Method::GET, "/v12", &[]) && matches(&regex, Method::GET, "/x", &[]));
    assert!(!matches(&regex, Method::GET, "/v12/y", &[]));
    assert!(!matches(&regex, Method::GET, "/y/x", &[]));
}

#[test]
fn patterns_are_compiled_safely() {
    for pattern in ["(", "a)(b", "(?:a{1000}){1000}"] {
        let fault = PathMatch::regex(pattern).unwrap_err();
        assert_eq!(fault.field, "regex", "{pattern}");
    }
    assert_eq!(PathMatch::prefix("no-slash").unwrap_err().field, "prefix");
    assert_eq!(
        HeaderMatch::new("a b", ValueMatch::exact(""))
            .unwrap_err()
            .field,
        "name"
    );
}

#[test]
fn headers_and_method_must_all_hold() {
    let rule = HttpMatch {
        headers: vec![
            HeaderMatch::new("X-Version", ValueMatch::exact("v2")).unwrap(),
            HeaderMatch::new("x-user", ValueMatch::regex("[a-z]+").unwrap()).unwrap(),
        ],
        method: Some(Method::POST),
        ..HttpMatch::default()
    };
    let both = [("x-version", "v2"), ("x-user", "ann")];
    assert!(matches(&rule, Method::POST, "/", &both));
    assert!(!matches(&rule, Method::GET, "/", &both));
    assert!(!matches(&rule, Method::POST, "/", &both[..1]));
    assert!(!matches(
        &rule,
        Method::POST,
        "/",
        &[both[0], ("x-user", "Ann")]
    ));
    let twice = [both[0], both[0], both[1]];
    assert!(
        !matches(&rule, Method::POST, "/", &twice),
        "v2,v2 is not v2"
    );
}

#[test]
fn query_parameters_are_decoded_and_the_first_counts() {
    let rule = HttpMatch {
        query: vec![QueryMatch::new("a b", ValueMatch::exact("1+1")).unwrap()],
        ..HttpMatch::default()
    };
    for (target, expected) in [
        ("/?a+b=1%2B1", true),
        ("/?a%20b=1%2b1&a+b=2", true),
        ("/?a+b=2&a+b=1%2B1", false),
        ("/?a+b", false),
        ("/", false),
        ("/?x=1&a+b=1%2B1", true),
    ] {
        assert_eq!(
            matches(&rule, Method::GET, target, &[]),
            expected,
            "{target}"
        );
    }
}
