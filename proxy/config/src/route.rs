//! Matching of requests: paths, headers, query parameters, methods (Gateway API's `HTTPRouteMatch`).
//! Everything is compiled when it is built; matching itself allocates only for query parameters that are
//! percent-encoded and for headers that are repeated.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Method};
use percent_encoding::percent_decode_str;
use regex::Regex;

use crate::filter::header_name;
use crate::invalid::Invalid;
use crate::path;

/// Compiled size of a regex in bytes, so that one policy cannot eat the sidecar's memory.
const REGEX_LIMIT: usize = 256 * 1024;

/// What of a request decides about it.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as sent, without its query.
    pub path: &'a str,
    /// The query without `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// `:authority` or `Host`.
    pub host: Option<&'a str>,
}

/// How a value is compared.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// It is this.
    Exact(String),
    /// All of it matches this.
    Regex(Regex),
}

impl ValueMatch {
    /// Equal to `value`.
    pub fn exact(value: impl Into<String>) -> Self {
        Self::Exact(value.into())
    }

    /// Matched by `pattern` as a whole.
    ///
    /// # Errors
    /// A pattern that cannot be compiled, or that gets too large.
    pub fn regex(pattern: &str) -> Result<Self, Invalid> {
        compile(pattern).map(Self::Regex)
    }

    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, Invalid> {
    // Compiled alone first: `a)(b` must not become valid by the brackets around it.
    let build = |pattern: &str| {
        regex::RegexBuilder::new(pattern)
            .size_limit(REGEX_LIMIT)
            .build()
            .map_err(|error| Invalid::new("regex", error))
    };
    build(pattern)?;
    build(&format!("^(?:{pattern})$"))
}

/// How a path is compared, always in its normalised form.
#[derive(Debug, Clone)]
pub enum PathMatch {
    /// It is this.
    Exact(String),
    /// By path element, without a slash at the end: `/a` matches `/a` and `/a/b`, not `/ab`; empty matches all.
    Prefix(String),
    /// All of it matches this.
    Regex(Regex),
}

impl PathMatch {
    /// Equal to `value`.
    ///
    /// # Errors
    /// A path that cannot be normalised.
    pub fn exact(value: &str) -> Result<Self, Invalid> {
        normal("exact", value).map(Self::Exact)
    }

    /// At or below `value`.
    ///
    /// # Errors
    /// A path that cannot be normalised.
    pub fn prefix(value: &str) -> Result<Self, Invalid> {
        let mut prefix = normal("prefix", value)?;
        if prefix.ends_with('/') {
            prefix.pop();
        }
        Ok(Self::Prefix(prefix))
    }

    /// Matched by `pattern` as a whole.
    ///
    /// # Errors
    /// A pattern that cannot be compiled, or that gets too large.
    pub fn regex(pattern: &str) -> Result<Self, Invalid> {
        compile(pattern).map(Self::Regex)
    }

    /// Whether it matches a normalised path.
    pub fn matches(&self, normalised: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == normalised,
            Self::Prefix(prefix) => normalised
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            Self::Regex(regex) => regex.is_match(normalised),
        }
    }
}

fn normal(field: &str, value: &str) -> Result<String, Invalid> {
    path::normalize(value)
        .map(Cow::into_owned)
        .map_err(|error| Invalid::new(field, error))
}

/// A condition on a header. Repeated headers are compared as one, joined by commas.
#[derive(Debug, Clone)]
pub struct HeaderMatch {
    name: HeaderName,
    value: ValueMatch,
}

impl HeaderMatch {
    /// The header `name` must be there and its value match.
    ///
    /// # Errors
    /// `name` is no header name.
    pub fn new(name: &str, value: ValueMatch) -> Result<Self, Invalid> {
        Ok(Self {
            name: header_name(name)?,
            value,
        })
    }

    fn matches(&self, headers: &HeaderMap) -> bool {
        joined(headers, &self.name).is_some_and(|value| self.value.matches(&value))
    }
}

/// The value of a header; None where it is absent or not text.
fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.to_str().ok()?;
    let mut all = Cow::Borrowed(first);
    for value in values {
        let all = all.to_mut();
        all.push(',');
        all.push_str(value.to_str().ok()?);
    }
    Some(all)
}

/// A condition on a query parameter; of a repeated one the first counts.
#[derive(Debug, Clone)]
pub struct QueryMatch {
    name: String,
    value: ValueMatch,
}

impl QueryMatch {
    /// The parameter `name` must be there and its value match.
    ///
    /// # Errors
    /// The name is empty.
    pub fn new(name: &str, value: ValueMatch) -> Result<Self, Invalid> {
        if name.is_empty() {
            return Err(Invalid::new("name", "is empty"));
        }
        Ok(Self {
            name: name.to_owned(),
            value,
        })
    }

    fn matches(&self, query: &str) -> bool {
        query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(name, _)| form_decoded(name) == self.name)
            .is_some_and(|(_, value)| self.value.matches(&form_decoded(value)))
    }
}

/// `application/x-www-form-urlencoded`, as query strings are written.
fn form_decoded(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
    } else {
        percent_decode_str(text).decode_utf8_lossy()
    }
}

/// All parts must hold; an empty one matches every request.
#[derive(Debug, Clone, Default)]
pub struct HttpMatch {
    /// The path.
    pub path: Option<PathMatch>,
    /// Headers.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters.
    pub query: Vec<QueryMatch>,
    /// The method.
    pub method: Option<Method>,
}

impl HttpMatch {
    /// Whether the request matches; `normalised` is its normalised path.
    pub fn matches(&self, request: &RequestView<'_>, normalised: &str) -> bool {
        self.method.as_ref().is_none_or(|m| m == request.method)
            && self.path.as_ref().is_none_or(|p| p.matches(normalised))
            && self.headers.iter().all(|h| h.matches(request.headers))
            && self
                .query
                .iter()
                .all(|q| request.query.is_some_and(|query| q.matches(query)))
    }
}

#[cfg(test)]
mod tests;
