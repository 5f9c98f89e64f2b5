//! What a rule does to requests and answers: header modifiers, redirect, rewrite (Gateway API's
//! `HTTPRouteFilter`), with every name and value parsed beforehand.

use std::sync::Arc;

use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::invalid::Invalid;
use crate::route::PathMatch;

/// One filter.
#[derive(Debug, Clone)]
pub enum HttpFilter {
    /// On the way to the backend.
    RequestHeaders(HeaderModifier),
    /// On the way back.
    ResponseHeaders(HeaderModifier),
    /// Answered here.
    Redirect(Redirect),
    /// Host and path as the backend sees them.
    Rewrite(Rewrite),
}

/// Changes of headers: `set` replaces, `add` appends, `remove` takes away, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderModifier {
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
    remove: Box<[HeaderName]>,
}

impl HeaderModifier {
    /// Parses names and values.
    ///
    /// # Errors
    /// A name or value that HTTP does not allow.
    pub fn new<'a>(
        set: impl IntoIterator<Item = (&'a str, &'a str)>,
        add: impl IntoIterator<Item = (&'a str, &'a str)>,
        remove: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Invalid> {
        Ok(Self {
            set: headers("set", set)?,
            add: headers("add", add)?,
            remove: remove
                .into_iter()
                .enumerate()
                .map(|(i, name)| header_name(name).map_err(|e| e.within(format!("remove[{i}]"))))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Changes `headers`.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

fn headers<'a>(
    field: &str,
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Box<[(HeaderName, HeaderValue)]>, Invalid> {
    pairs
        .into_iter()
        .enumerate()
        .map(|(i, (name, value))| {
            header_name(name)
                .and_then(|name| Ok((name, header_value(value)?)))
                .map_err(|e| e.within(format!("{field}[{i}]")))
        })
        .collect()
}

/// Parses the name of a header.
pub(crate) fn header_name(name: &str) -> Result<HeaderName, Invalid> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Invalid::new("name", format!("{name:?} is no header name")))
}

fn header_value(value: &str) -> Result<HeaderValue, Invalid> {
    HeaderValue::from_str(value)
        .map_err(|_| Invalid::new("value", format!("{value:?} is no header value")))
}

/// The path that a redirect or rewrite leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// The whole path.
    Full(Arc<str>),
    /// In place of the prefix that the rule matched.
    Prefix(Arc<str>),
}

impl PathRewrite {
    /// A whole path.
    ///
    /// # Errors
    /// It does not begin with `/`, or could not stand in a request line.
    pub fn full(path: &str) -> Result<Self, Invalid> {
        checked_path("full", path).map(Self::Full)
    }

    /// A replacement for the matched prefix.
    ///
    /// # Errors
    /// It does not begin with `/`, or could not stand in a request line.
    pub fn prefix(path: &str) -> Result<Self, Invalid> {
        checked_path("prefix", path).map(Self::Prefix)
    }

    /// The new path. `path` is the request's normalised path without its query, `matched` what the rule
    /// matched it by; a prefix replacement without a prefix match leaves the path alone.
    pub fn apply(&self, path: &str, matched: Option<&PathMatch>) -> String {
        match (self, matched) {
            (Self::Full(full), _) => full.to_string(),
            (Self::Prefix(new), Some(PathMatch::Prefix(old))) if path.starts_with(&**old) => {
                let rest = path[old.len()..].trim_start_matches('/');
                let new = new.trim_end_matches('/');
                match (new.is_empty(), rest.is_empty(), path.ends_with('/')) {
                    (true, true, _) => "/".to_owned(),
                    (false, true, false) => new.to_owned(),
                    (false, true, true) if path.len() > old.len() => format!("{new}/"),
                    (false, true, true) => new.to_owned(),
                    (_, false, _) => format!("{new}/{rest}"),
                }
            }
            (Self::Prefix(_), _) => path.to_owned(),
        }
    }
}

fn checked_path(field: &str, path: &str) -> Result<Arc<str>, Invalid> {
    let fits = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
    if !fits || path.contains(['?', '#']) {
        return Err(Invalid::new(field, format!("{path:?} is no absolute path")));
    }
    Ok(path.into())
}

/// The scheme of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that need not be written.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// An answer that sends the client elsewhere. None: as in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Scheme of the new URL.
    pub scheme: Option<Scheme>,
    /// Host of the new URL, without a port.
    pub hostname: Option<Arc<str>>,
    /// Port of the new URL.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// Path of the new URL.
    pub path: Option<PathRewrite>,
}

impl Redirect {
    /// Parses what the wire has; empty and 0 mean "as in the request", status 0 means 302.
    ///
    /// # Errors
    /// A scheme other than http and https, a host that is none, a status that is no redirect.
    pub fn new(
        scheme: &str,
        hostname: &str,
        port: u32,
        status: u32,
        path: Option<PathRewrite>,
    ) -> Result<Self, Invalid> {
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "" => None,
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            _ => {
                return Err(Invalid::new(
                    "scheme",
                    format!("{scheme:?} is not http or https"),
                ));
            }
        };
        let port = match port {
            0 => None,
            port => Some(
                u16::try_from(port)
                    .map_err(|_| Invalid::new("port", format!("{port} is no port")))?,
            ),
        };
        let status = match status {
            0 => StatusCode::FOUND,
            301 | 302 | 303 | 307 | 308 => StatusCode::from_u16(status as u16)
                .map_err(|_| Invalid::new("status", "no status"))?,
            other => return Err(Invalid::new("status", format!("{other} is no redirect"))),
        };
        Ok(Self {
            scheme,
            hostname: parse_hostname(hostname)?,
            port,
            status,
            path,
        })
    }
}

/// Host and path as the backend sees them. None: as in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The new host.
    pub hostname: Option<Arc<str>>,
    /// The new path.
    pub path: Option<PathRewrite>,
}

impl Rewrite {
    /// Parses what the wire has; an empty host means "as in the request".
    ///
    /// # Errors
    /// A host that is none.
    pub fn new(hostname: &str, path: Option<PathRewrite>) -> Result<Self, Invalid> {
        Ok(Self {
            hostname: parse_hostname(hostname)?,
            path,
        })
    }
}

fn parse_hostname(hostname: &str) -> Result<Option<Arc<str>>, Invalid> {
    if hostname.is_empty() {
        return Ok(None);
    }
    let is_host = hostname
        .parse::<Authority>()
        .is_ok_and(|authority| authority.host() == hostname);
    if !is_host {
        return Err(Invalid::new(
            "hostname",
            format!("{hostname:?} is no host name"),
        ));
    }
    Ok(Some(hostname.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_set_added_and_removed_in_this_order() {
        let modifier = HeaderModifier::new(
            [("X-Set", "new")],
            [("x-add", "more"), ("x-gone", "x")],
            ["x-gone"],
        )
        .unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-set", "old"), ("x-set", "older"), ("x-add", "one")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        modifier.apply(&mut headers);
        assert_eq!(headers.get_all("x-set").iter().count(), 1);
        assert_eq!(headers["x-set"], "new");
        assert_eq!(headers.get_all("x-add").iter().count(), 2);
        assert!(!headers.contains_key("x-gone"));
    }

    #[test]
    fn faults_name_their_field() {
        let bad = HeaderModifier::new([], [("a", "b"), ("a", "\n")], []).unwrap_err();
        assert_eq!(bad.field, "add[1].value");
        let bad = HeaderModifier::new([], [], ["a:"]).unwrap_err();
        assert_eq!(bad.field, "remove[0].name");
        let fault = |redirect: Result<Redirect, Invalid>| redirect.unwrap_err().field;
        assert_eq!(fault(Redirect::new("ftp", "", 0, 0, None)), "scheme");
        assert_eq!(fault(Redirect::new("", "a:1", 0, 0, None)), "hostname");
        assert_eq!(fault(Redirect::new("", "", 70_000, 0, None)), "port");
        assert_eq!(fault(Redirect::new("", "", 0, 200, None)), "status");
        assert!(PathRewrite::full("no-slash").is_err() && PathRewrite::prefix("/a b").is_err());
    }

    #[test]
    fn a_redirect_says_found_unless_told_otherwise() {
        let plain = Redirect::new("HTTPS", "shop", 0, 0, None).unwrap();
        assert_eq!(plain.status, StatusCode::FOUND);
        assert_eq!(plain.scheme, Some(Scheme::Https));
        assert_eq!(plain.port, None);
    }

    /// The table of Gateway API's `HTTPPathModifier.replacePrefixMatch`.
    #[test]
    fn prefixes_are_replaced_as_the_gateway_api_says() {
        for (path, matched, new, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/bar", "/", "/xyz", "/xyz/bar"),
            ("/", "/", "/xyz", "/xyz/"),
        ] {
            let matched = PathMatch::prefix(matched).unwrap();
            let rewrite = PathRewrite::prefix(new).unwrap();
            assert_eq!(
                rewrite.apply(path, Some(&matched)),
                expected,
                "{path} by {new}"
            );
        }
        let full = PathRewrite::full("/x").unwrap();
        assert_eq!(full.apply("/foo", None), "/x");
        let prefix = PathRewrite::prefix("/x").unwrap();
        assert_eq!(prefix.apply("/foo", None), "/foo");
    }
}
