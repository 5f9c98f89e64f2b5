//! The rules within a `Service`. A match or filter of a kind that this proxy does not know refuses the
//! service: leaving it out would send requests where they do not belong.

use weft_proto::mesh;
use weft_proto::mesh::weighted_backend::Target;
use weft_proxy_config::{
    BackendKey, HeaderMatch, HeaderModifier, HttpFilter, HttpMatch, HttpRule, Invalid, PathMatch,
    PathRewrite, QueryMatch, Redirect, Rewrite, ValueMatch, WeightedBackend, WeightedBackendTarget,
};

use super::service::Backends;
use super::{duration, each, port};

fn unknown(field: &str) -> Invalid {
    Invalid::new(field, "is of a kind this proxy does not know")
}

pub(super) fn rule(wire: mesh::HttpRule, backends: Backends<'_>) -> Result<HttpRule, Invalid> {
    let matches = matches(wire.r#match.unwrap_or_default()).map_err(|f| f.within("match"))?;
    let filters = each("filters", wire.filters, filter)?;
    let targets = each("backends", wire.backends, |one| backend(one, backends))?;
    let mut rule = HttpRule::new(wire.name, matches, filters, targets);
    rule.request_timeout = duration("request_timeout", wire.request_timeout)?;
    rule.backend_timeout = duration("backend_timeout", wire.backend_timeout)?;
    Ok(rule)
}

fn matches(wire: mesh::HttpMatch) -> Result<HttpMatch, Invalid> {
    use mesh::path_match::Kind;
    let path = wire
        .path
        .map(|path| match path.kind {
            Some(Kind::Exact(path)) => PathMatch::exact(&path),
            Some(Kind::Prefix(path)) => PathMatch::prefix(&path),
            Some(Kind::Regex(path)) => PathMatch::regex(&path),
            None => Err(unknown("")),
        })
        .transpose()
        .map_err(|fault| fault.within("path"))?;
    let method = match wire.method.as_str() {
        "" => None,
        method => Some(
            method
                .parse()
                .map_err(|_| Invalid::new("method", format!("{method:?} is no method")))?,
        ),
    };
    Ok(HttpMatch {
        path,
        headers: each("headers", wire.headers, |one| {
            let (name, value) = value(one)?;
            HeaderMatch::new(&name, value)
        })?,
        query: each("query_parameters", wire.query_parameters, |one| {
            let (name, value) = value(one)?;
            QueryMatch::new(&name, value)
        })?,
        method,
    })
}

fn value(wire: mesh::HeaderMatch) -> Result<(String, ValueMatch), Invalid> {
    use mesh::header_match::Kind;
    let value = match wire.kind {
        Some(Kind::Exact(exact)) => ValueMatch::exact(exact),
        Some(Kind::Regex(pattern)) => ValueMatch::regex(&pattern)?,
        None => return Err(unknown("value")),
    };
    Ok((wire.name, value))
}

fn filter(wire: mesh::HttpFilter) -> Result<HttpFilter, Invalid> {
    use mesh::http_filter::Kind;
    match wire.kind {
        Some(Kind::RequestHeaders(wire)) => headers(&wire)
            .map(HttpFilter::RequestHeaders)
            .map_err(|fault| fault.within("request_headers")),
        Some(Kind::ResponseHeaders(wire)) => headers(&wire)
            .map(HttpFilter::ResponseHeaders)
            .map_err(|fault| fault.within("response_headers")),
        Some(Kind::Redirect(wire)) => path(wire.path)
            .and_then(|path| {
                Redirect::new(&wire.scheme, &wire.hostname, wire.port, wire.status, path)
            })
            .map(HttpFilter::Redirect)
            .map_err(|fault| fault.within("redirect")),
        Some(Kind::Rewrite(wire)) => path(wire.path)
            .and_then(|path| Rewrite::new(&wire.hostname, path))
            .map(HttpFilter::Rewrite)
            .map_err(|fault| fault.within("rewrite")),
        None => Err(unknown("")),
    }
}

fn headers(wire: &mesh::HeaderModifier) -> Result<HeaderModifier, Invalid> {
    fn pairs(wire: &[mesh::HeaderValue]) -> impl Iterator<Item = (&str, &str)> {
        wire.iter()
            .map(|pair| (pair.name.as_str(), pair.value.as_str()))
    }
    HeaderModifier::new(
        pairs(&wire.set),
        pairs(&wire.add),
        wire.remove.iter().map(String::as_str),
    )
}

fn path(wire: Option<mesh::PathRewrite>) -> Result<Option<PathRewrite>, Invalid> {
    use mesh::path_rewrite::Kind;
    wire.map(|wire| match wire.kind {
        Some(Kind::Full(path)) => PathRewrite::full(&path),
        Some(Kind::Prefix(path)) => PathRewrite::prefix(&path),
        None => Err(unknown("")),
    })
    .transpose()
    .map_err(|fault| fault.within("path"))
}

fn backend(
    wire: mesh::WeightedBackend,
    backends: Backends<'_>,
) -> Result<WeightedBackend, Invalid> {
    let target = match wire.target {
        Some(Target::Backend(to)) => WeightedBackendTarget::Backend(backends(BackendKey {
            port: port("backend.port", to.port)?,
            namespace: to.namespace.into(),
            name: to.name.into(),
        })),
        Some(Target::Invalid(reason)) => WeightedBackendTarget::Invalid(reason.into()),
        None => return Err(unknown("target")),
    };
    Ok(WeightedBackend {
        weight: wire.weight,
        target,
        filters: each("filters", wire.filters, filter)?,
    })
}
