//! Heads in and out.

use super::*;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_client_cannot_have_headers_removed_that_guard_or_frame_its_request() {
    let mut headers = headers(&[
        ("connection", "authorization, Host"),
        ("connection", "cookie, content-length, x-other, close"),
        ("authorization", "a"),
        ("host", "b"),
        ("cookie", "c"),
        ("content-length", "1"),
        ("x-other", "d"),
    ]);
    arrive(&mut headers);
    assert_eq!(
        names(&headers),
        ["authorization", "content-length", "cookie", "host"]
    );
}

#[test]
fn only_trailers_remain_of_te() {
    for (te, left) in [
        ("trailers", true),
        ("gzip, Trailers", true),
        ("gzip", false),
    ] {
        let mut headers = headers(&[("te", te)]);
        arrive(&mut headers);
        assert_eq!(
            headers.get(TE).is_some_and(|te| te == "trailers"),
            left,
            "{te}"
        );
    }
}

#[test]
fn an_upgrade_is_asked_for_only_if_the_connection_names_it() {
    let asked = arrive(&mut headers(&[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
    ]));
    assert_eq!(asked.upgrade.unwrap(), "websocket");
    let mut alone = headers(&[("upgrade", "websocket")]);
    assert!(arrive(&mut alone).upgrade.is_none());
    assert!(alone.is_empty());
}

#[test]
fn the_marker_is_taken_off_whoever_sent_it() {
    let mut headers = headers(&[("weft-client-version", "1.1"), ("weft-anything", "x")]);
    assert_eq!(arrive(&mut headers).client_version.unwrap(), "1.1");
    assert!(headers.is_empty());
}

#[test]
fn http2_becomes_http1_and_back() {
    let request = Request::get("http://web.shop/a?b").version(Version::HTTP_2);
    let mut request = request
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(())
        .unwrap();
    for_http1(&mut request);
    assert_eq!(request.uri(), "/a?b");
    assert_eq!(request.headers()[HOST], "web.shop");
    assert_eq!(request.headers()[COOKIE], "a=1; b=2");
    for_http2(&mut request);
    assert_eq!(request.uri(), "http://web.shop/a?b");
    assert!(!request.headers().contains_key(HOST));
}

#[test]
fn connect_keeps_its_target_and_names_it_as_host() {
    let mut request = Request::connect("far.away:443").body(()).unwrap();
    for_http1(&mut request);
    assert_eq!(
        (request.uri().to_string().as_str(), &request.headers()[HOST]),
        ("far.away:443", &"far.away:443".parse().unwrap())
    );
    *request.version_mut() = Version::HTTP_2;
    assert!(one_host(&mut request).is_err());
}

#[test]
fn grpc_is_known_by_its_content_type() {
    for (value, grpc) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc; x=y", true),
        ("application/grpc-web", false),
        ("application/json", false),
    ] {
        assert_eq!(
            is_grpc(&headers(&[("content-type", value)])),
            grpc,
            "{value}"
        );
    }
}
