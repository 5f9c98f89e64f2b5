//! Heads between codecs: what belongs to one connection only is taken off, what a proxy must not believe
//! is taken off, and a request for one version is made one for the other.
//!
//! Owns the names of Weft's own headers. The rest of the crate sees heads without connection headers.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{
    CONNECTION, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, Method, Request, Version};
use smallvec::SmallVec;
use weft_proxy_config::RequestView;

/// Inside a hop: the version that the client spoke, `1.0` or `1.1`; absent for HTTP/2.
pub(crate) const CLIENT_VERSION: HeaderName = HeaderName::from_static("weft-client-version");
/// Inside an HTTP/1.1 hop: nothing of the request was delivered (REFUSED_STREAM on an HTTP/2 hop).
pub(crate) const UNDELIVERED: HeaderName = HeaderName::from_static("weft-undelivered");
/// To the client: why the proxy answered itself.
pub(crate) const RESPONSE_FLAG: HeaderName = HeaderName::from_static("weft-response-flag");
/// To the client: the authorization decision that refused.
pub(crate) const DECISION: HeaderName = HeaderName::from_static("weft-decision");

const CONTINUE: &str = "100-continue";
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// Every header that Weft gives a meaning begins so; none is ever taken from an application.
const OWN_PREFIX: &str = "weft-";

/// What a request's head asked of the connection it came on.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    /// It asks to leave HTTP (RFC 9110 7.8): the protocols named in `upgrade`.
    pub(crate) upgrade: Option<HeaderValue>,
    /// The version that the client spoke, as a mesh peer tells it; unchecked where from.
    pub(crate) client_version: Option<HeaderValue>,
    /// The client waits to be told to go on before it sends its body (RFC 9110 10.1.1).
    pub(crate) expects: bool,
}

/// Takes off a request what belongs to the connection it came on (RFC 9110 7.6.1) and whatever only
/// Weft may say.
pub(crate) fn arrive(headers: &mut HeaderMap) -> Connection {
    let mut connection = Connection::default();
    let mut own = false;
    let mut seen = Seen::default();
    for name in headers.keys() {
        seen.note(name);
        own |= is_own(name);
    }
    if own {
        connection.client_version = headers.remove(CLIENT_VERSION);
        remove_own(headers);
    }
    if seen.upgrade && lists(headers, "upgrade") {
        connection.upgrade = headers.get(UPGRADE).cloned();
    }
    connection.expects = seen.expect && expects(headers);
    seen.remove(headers);
    connection
}

/// Does its sender wait to be told to go on?
pub(crate) fn expects(headers: &HeaderMap) -> bool {
    headers
        .get(EXPECT)
        .is_some_and(|what| what.as_bytes().eq_ignore_ascii_case(CONTINUE.as_bytes()))
}

/// Asks the other proxy to say when the body is wanted.
pub(crate) fn expect(headers: &mut HeaderMap) {
    headers.insert(EXPECT, HeaderValue::from_static(CONTINUE));
}

/// Takes off an answer what belongs to the connection it came on. `believed`: a peer of the mesh sends
/// it, whose own headers go on to the client.
pub(crate) fn depart(headers: &mut HeaderMap, believed: bool) {
    let mut own = false;
    let mut seen = Seen::default();
    for name in headers.keys() {
        seen.note(name);
        own |= is_own(name);
    }
    if own && !believed {
        remove_own(headers);
    }
    seen.remove(headers);
}

/// Takes off what HTTP/2 forbids, for an answer that skipped [`depart`] (a refused upgrade).
pub(crate) fn strip_for_http2(headers: &mut HeaderMap) {
    let mut seen = Seen::default();
    for name in headers.keys() {
        seen.note(name);
    }
    seen.remove(headers);
}

#[derive(Default)]
struct Seen {
    connection: bool,
    keep_alive: bool,
    proxy_connection: bool,
    te: bool,
    transfer_encoding: bool,
    upgrade: bool,
    expect: bool,
}

impl Seen {
    fn note(&mut self, name: &HeaderName) {
        match *name {
            CONNECTION => self.connection = true,
            TE => self.te = true,
            TRANSFER_ENCODING => self.transfer_encoding = true,
            UPGRADE => self.upgrade = true,
            EXPECT => self.expect = true,
            _ if *name == KEEP_ALIVE => self.keep_alive = true,
            _ if *name == PROXY_CONNECTION => self.proxy_connection = true,
            _ => {}
        }
    }

    fn remove(&self, headers: &mut HeaderMap) {
        if self.connection {
            remove_listed(headers);
        }
        if self.te && headers.get(TE).is_some_and(|te| te != "trailers") {
            let trailers = headers.get_all(TE).iter().any(names_trailers);
            headers.remove(TE);
            if trailers {
                headers.insert(TE, HeaderValue::from_static("trailers"));
            }
        }
        for (seen, name) in [
            (self.keep_alive, KEEP_ALIVE),
            (self.proxy_connection, PROXY_CONNECTION),
            (self.transfer_encoding, TRANSFER_ENCODING),
            (self.upgrade, UPGRADE),
            (self.expect, EXPECT),
        ] {
            if seen {
                headers.remove(name);
            }
        }
    }
}

fn names_trailers(te: &HeaderValue) -> bool {
    te.to_str().is_ok_and(|te| {
        te.split(',')
            .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
    })
}

/// Removes `connection` and the headers it lists. The few whose loss would change the meaning of the
/// message or open a hole are not a client's to remove.
fn remove_listed(headers: &mut HeaderMap) {
    let mut listed: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for value in headers.get_all(CONNECTION) {
        let Ok(value) = value.to_str() else { continue };
        for name in value.split(',').map(str::trim) {
            if !name.eq_ignore_ascii_case("close") && !name.eq_ignore_ascii_case("keep-alive") {
                listed.extend(HeaderName::from_bytes(name.as_bytes()).ok());
            }
        }
    }
    headers.remove(CONNECTION);
    for name in listed {
        // `te` is dealt with by itself; the others carry the request's framing, target and credentials.
        if ![
            TE,
            HOST,
            CONTENT_TYPE,
            http::header::CONTENT_LENGTH,
            http::header::AUTHORIZATION,
            COOKIE,
        ]
        .contains(&name)
        {
            headers.remove(name);
        }
    }
}

fn lists(headers: &HeaderMap, token: &str) -> bool {
    headers.get_all(CONNECTION).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value
                .split(',')
                .any(|name| name.trim().eq_ignore_ascii_case(token))
        })
    })
}

fn is_own(name: &HeaderName) -> bool {
    name.as_str().starts_with(OWN_PREFIX) || *name == CLIENT_CERT
}

fn remove_own(headers: &mut HeaderMap) {
    let own: SmallVec<[HeaderName; 4]> = headers
        .keys()
        .filter(|name| is_own(name))
        .cloned()
        .collect();
    for name in own {
        headers.remove(name);
    }
}

/// Checks what the codecs leave unchecked, and leaves one host: `:authority` and the absolute form stand above
/// `Host` (RFC 9112 3.2.2, RFC 9113 8.3.1), so that policy and application see the same.
///
/// # Errors
/// What makes it a bad request.
pub(crate) fn one_host<B>(request: &mut Request<B>) -> Result<(), &'static str> {
    if request.method() == Method::CONNECT && request.version() == Version::HTTP_2 {
        return Err("CONNECT is not served over HTTP/2");
    }
    if request.uri().authority().is_some() {
        request.headers_mut().remove(HOST);
        return Ok(());
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err("more than one Host"),
        (None, _) if request.version() == Version::HTTP_11 => Err("no Host"),
        _ => Ok(()),
    }
}

/// Is it gRPC? Proxy-made answers then speak gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.starts_with(b"application/grpc") && matches!(value.get(16), None | Some(b'+' | b';'))
    })
}

/// Whom the request names as its host, with port: `:authority`, the absolute form, or `Host`.
pub(crate) fn host<B>(request: &Request<B>) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request
            .headers()
            .get(HOST)
            .and_then(|host| host.to_str().ok()),
    }
}

/// The same as a header's value.
pub(crate) fn host_value<B>(request: &Request<B>) -> Option<HeaderValue> {
    match request.uri().authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => request.headers().get(HOST).cloned(),
    }
}

/// What of a request decides about it.
pub(crate) fn view<B>(request: &Request<B>) -> RequestView<'_> {
    RequestView {
        method: request.method(),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
        host: host(request),
    }
}

/// Makes the head one that an HTTP/1.1 server expects: origin form, one `Host`, one `Cookie`
/// (RFC 9113 8.2.3).
pub(crate) fn for_http1<B>(request: &mut Request<B>) {
    if let Some(Ok(host)) = request
        .uri()
        .authority()
        .map(|host| HeaderValue::from_str(host.as_str()))
    {
        request.headers_mut().insert(HOST, host);
        // The target of CONNECT is the authority itself (RFC 9112 3.2.3).
        if request.method() != Method::CONNECT {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = path
                .unwrap_or_else(|| PathAndQuery::from_static("/"))
                .into();
        }
    }
    if request.version() == Version::HTTP_2 {
        join_cookies(request.headers_mut());
    }
    *request.version_mut() = Version::HTTP_11;
}

/// Makes the head one that an HTTP/2 server expects: `:authority` from `Host`.
pub(crate) fn for_http2<B>(request: &mut Request<B>) {
    if request.uri().authority().is_none()
        && let Some(host) = request.headers_mut().remove(HOST)
        && let Ok(authority) = Authority::try_from(host.as_bytes())
    {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(authority);
        uri.path_and_query
            .get_or_insert(PathAndQuery::from_static("/"));
        // Scheme, authority and path together always make a URI.
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    }
}

fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// The value of `date` for now, made once a second.
pub(crate) fn date() -> HeaderValue {
    thread_local! {
        static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
    }
    let now = SystemTime::now();
    let second = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(made, value)| {
        if *made != second
            && let Ok(text) = HeaderValue::from_str(&httpdate::fmt_http_date(now))
        {
            (*made, *value) = (second, text);
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests;
