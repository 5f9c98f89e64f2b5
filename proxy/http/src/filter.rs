//! What a rule does to a request and its answer (Gateway API's `HTTPRouteFilter`): header modifiers, redirect,
//! rewrite of host and path.

use http::header::{HOST, HeaderMap, HeaderValue, LOCATION};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Request, Response};
use weft_proxy_config::{
    HttpFilter, HttpRule, PathMatch, PathRewrite, Redirect, Rewrite, WeightedBackend, path,
};

use crate::body::Body;
use crate::head;

/// Applies the request's part of `filters`. A redirect ends it with its answer.
pub(crate) fn on_request(
    filters: &[HttpFilter],
    matched: Option<&PathMatch>,
    port: u16,
    request: &mut Request<Body>,
) -> Option<Response<Body>> {
    for filter in filters {
        match filter {
            HttpFilter::RequestHeaders(modifier) => modify_request(modifier, request),
            HttpFilter::ResponseHeaders(_) => {}
            HttpFilter::Redirect(redirect) => {
                return Some(redirected(redirect, matched, port, request));
            }
            HttpFilter::Rewrite(rewrite) => rewrite_request(rewrite, matched, request),
        }
    }
    None
}

/// Applies the answer's part of a rule's filters and of its backend's.
pub(crate) fn on_response(
    rule: &HttpRule,
    backend: Option<&WeightedBackend>,
    headers: &mut HeaderMap,
) {
    let of_backend = backend.map_or(&[][..], |backend| &backend.filters);
    for filter in rule.filters.iter().chain(of_backend) {
        if let HttpFilter::ResponseHeaders(modifier) = filter {
            modifier.apply(headers);
        }
    }
}

/// `Host` may be modified like any header; with HTTP/2 it is `:authority`.
fn modify_request(modifier: &weft_proxy_config::HeaderModifier, request: &mut Request<Body>) {
    modifier.apply(request.headers_mut());
    if request.uri().authority().is_some()
        && let Some(host) = request.headers_mut().remove(HOST)
        && let Ok(authority) = Authority::try_from(host.as_bytes())
    {
        set_host(request, authority);
    }
}

fn set_host(request: &mut Request<Body>, authority: Authority) {
    if request.uri().authority().is_none() {
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            request.headers_mut().insert(HOST, host);
        }
        return;
    }
    let mut parts = request.uri().clone().into_parts();
    parts.authority = Some(authority);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

fn rewrite_request(rewrite: &Rewrite, matched: Option<&PathMatch>, request: &mut Request<Body>) {
    if let Some(hostname) = &rewrite.hostname
        && let Ok(authority) = Authority::try_from(&**hostname)
    {
        set_host(request, authority);
    }
    if let Some(rewrite) = &rewrite.path {
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = new_path(rewrite, matched, request.uri());
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
}

/// The rewritten path with the query as it was. Prefixes are replaced in the normalised path, which is what was matched.
fn new_path(rewrite: &PathRewrite, matched: Option<&PathMatch>, uri: &Uri) -> Option<PathAndQuery> {
    // A path that cannot be normalised matched no rule.
    let path = path::normalize(uri.path()).ok()?;
    let path = rewrite.apply(&path, matched);
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    PathAndQuery::try_from(text).ok()
}

/// `Location` per Gateway API: what the redirect leaves out is as in the request; a port that the scheme implies is not
/// written, and without a port in the filter it is the scheme's if a scheme is given, else the one that was dialled.
fn redirected(
    redirect: &Redirect,
    matched: Option<&PathMatch>,
    dialled: u16,
    request: &Request<Body>,
) -> Response<Body> {
    let scheme = redirect.scheme.map_or("http", |scheme| scheme.as_str());
    let default_port = if scheme == "https" { 443 } else { 80 };
    let authority = head::host(request).and_then(|host| host.parse::<Authority>().ok());
    let host = match (&redirect.hostname, &authority) {
        (Some(hostname), _) => &**hostname,
        (None, Some(authority)) => authority.host(),
        (None, None) => "",
    };
    let port = match (redirect.port, redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(_)) => default_port,
        (None, None) => dialled,
    };
    let path = match &redirect.path {
        Some(rewrite) => new_path(rewrite, matched, request.uri()),
        None => request.uri().path_and_query().cloned(),
    };
    let path = path.as_ref().map_or("/", PathAndQuery::as_str);
    let location = if port == default_port {
        format!("{scheme}://{host}{path}")
    } else {
        format!("{scheme}://{host}:{port}{path}")
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = redirect.status;
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
