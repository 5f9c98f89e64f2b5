//! `HTTPRoute` and `GRPCRoute`: the values that the Gateway API's own schema bounds. Whether
//! filters and references make sense together is for compile to say.

use super::{Faults, spec_path};
use crate::duration::Duration;
use crate::field_path::FieldPath;
use crate::gateway::httproutes::{
    HttpRouteRulesMatches, HttpRouteRulesMatchesPathType as PathType,
};
use crate::gateway::{GrpcRoute, HttpRoute};
use crate::route_rule::{
    BackendRef, HeaderModifier, PathModifier, RouteFilter, RouteRule, route_rules,
};

const MAX_WEIGHT: i32 = 1_000_000;

pub(super) fn http_route(route: &HttpRoute, faults: &mut Faults) {
    parents(&route.spec.parent_refs, |parent| parent.port, faults);
    rules(&route.spec.rules, faults);
    for (index, rule) in route.spec.rules.iter().flatten().enumerate() {
        let at = spec_path().key("rules").index(index).key("matches");
        for (index, entry) in rule.matches.iter().flatten().enumerate() {
            http_match(entry, &at.index(index), faults);
        }
    }
}

pub(super) fn grpc_route(route: &GrpcRoute, faults: &mut Faults) {
    parents(&route.spec.parent_refs, |parent| parent.port, faults);
    rules(&route.spec.rules, faults);
    for (index, rule) in route.spec.rules.iter().flatten().enumerate() {
        let at = spec_path().key("rules").index(index).key("matches");
        for (index, entry) in rule.matches.iter().flatten().enumerate() {
            let at = at.index(index);
            if let Some(method) = &entry.method
                && method.service.is_none()
                && method.method.is_none()
            {
                faults.invalid(at.key("method"), "names neither a service nor a method");
            }
            for (index, header) in entry.headers.iter().flatten().enumerate() {
                let at = at.key("headers").index(index).key("name");
                header_name(&header.name, at, faults);
            }
        }
    }
}

fn parents<T>(parents: &Option<Vec<T>>, port: impl Fn(&T) -> Option<i32>, faults: &mut Faults) {
    let at = spec_path().key("parentRefs");
    for (index, parent) in parents.iter().flatten().enumerate() {
        faults.range(at.index(index).key("port"), port(parent), 1, 65535);
    }
}

fn http_match(entry: &HttpRouteRulesMatches, at: &FieldPath, faults: &mut Faults) {
    if let Some(path) = &entry.path
        && let Some(value) = &path.value
        && path.r#type != Some(PathType::RegularExpression)
        && !value.starts_with('/')
    {
        let message = format!("{value:?} does not begin with '/'");
        faults.invalid(at.key("path").key("value"), message);
    }
    for (index, header) in entry.headers.iter().flatten().enumerate() {
        let at = at.key("headers").index(index).key("name");
        header_name(&header.name, at, faults);
    }
    for (index, parameter) in entry.query_params.iter().flatten().enumerate() {
        if parameter.name.is_empty() {
            faults.invalid(at.key("queryParams").index(index).key("name"), "is empty");
        }
    }
}

fn rules<T: serde::Serialize>(typed: &Option<Vec<T>>, faults: &mut Faults) {
    let at = spec_path().key("rules");
    match route_rules(typed) {
        Ok(rules) => {
            for (index, entry) in rules.iter().enumerate() {
                rule(entry, &at.index(index), faults);
            }
        }
        Err(error) => faults.invalid(at, error.to_string()),
    }
}

fn rule(rule: &RouteRule, at: &FieldPath, faults: &mut Faults) {
    for (index, entry) in rule.filters.iter().enumerate() {
        filter(entry, &at.key("filters").index(index), faults);
    }
    for (index, entry) in rule.backend_refs.iter().enumerate() {
        backend(entry, &at.key("backendRefs").index(index), faults);
    }
    let at = at.key("timeouts");
    let timeouts = &rule.timeouts;
    let whole = duration(timeouts.request.as_deref(), at.key("request"), faults);
    let one = duration(
        timeouts.backend_request.as_deref(),
        at.key("backendRequest"),
        faults,
    );
    if let (Some(whole), Some(one)) = (whole, one)
        && one > whole
        && !std::time::Duration::from(whole).is_zero()
    {
        let message = format!("{one} is longer than timeouts.request, which is {whole}");
        faults.invalid(at.key("backendRequest"), message);
    }
}

fn duration(text: Option<&str>, at: FieldPath, faults: &mut Faults) -> Option<Duration> {
    match text?.parse() {
        Ok(duration) => Some(duration),
        Err(error) => {
            faults.invalid(at, format!("{error}"));
            None
        }
    }
}

fn backend(backend: &BackendRef, at: &FieldPath, faults: &mut Faults) {
    faults.range(at.key("weight"), backend.weight, 0, MAX_WEIGHT);
    faults.range(at.key("port"), backend.port, 1, 65535);
    let is_service = backend.group.as_deref().unwrap_or("").is_empty()
        && backend.kind.as_deref().unwrap_or("Service") == "Service";
    if is_service && backend.port.is_none() {
        faults.invalid(at.key("port"), "is required for a Service");
    }
    for (index, entry) in backend.filters.iter().enumerate() {
        filter(entry, &at.key("filters").index(index), faults);
    }
}

fn filter(filter: &RouteFilter, at: &FieldPath, faults: &mut Faults) {
    for (kind, field, present) in [
        (
            "RequestHeaderModifier",
            "requestHeaderModifier",
            filter.request_header_modifier.is_some(),
        ),
        (
            "ResponseHeaderModifier",
            "responseHeaderModifier",
            filter.response_header_modifier.is_some(),
        ),
        (
            "RequestRedirect",
            "requestRedirect",
            filter.request_redirect.is_some(),
        ),
        ("URLRewrite", "urlRewrite", filter.url_rewrite.is_some()),
    ] {
        match (filter.r#type == kind, present) {
            (true, false) => faults.invalid(
                at.key(field),
                format!("is required for a filter of type {kind}"),
            ),
            (false, true) => faults.invalid(
                at.key(field),
                format!("does not belong to a filter of type {}", filter.r#type),
            ),
            _ => {}
        }
    }
    for (field, modifier) in [
        ("requestHeaderModifier", &filter.request_header_modifier),
        ("responseHeaderModifier", &filter.response_header_modifier),
    ] {
        if let Some(modifier) = modifier {
            headers(modifier, &at.key(field), faults);
        }
    }
    if let Some(redirect) = &filter.request_redirect {
        let at = at.key("requestRedirect");
        faults.range(at.key("port"), redirect.port, 1, 65535);
        if let Some(code) = redirect.status_code
            && ![301, 302, 303, 307, 308].contains(&code)
        {
            let message = format!("{code} is none of 301, 302, 303, 307, 308");
            faults.invalid(at.key("statusCode"), message);
        }
        path_modifier(redirect.path.as_ref(), &at.key("path"), faults);
    }
    if let Some(rewrite) = &filter.url_rewrite {
        path_modifier(
            rewrite.path.as_ref(),
            &at.key("urlRewrite").key("path"),
            faults,
        );
    }
}

fn headers(modifier: &HeaderModifier, at: &FieldPath, faults: &mut Faults) {
    for (field, list) in [("set", &modifier.set), ("add", &modifier.add)] {
        let mut seen = std::collections::BTreeSet::new();
        for (index, header) in list.iter().enumerate() {
            let at = at.key(field).index(index);
            header_name(&header.name, at.key("name"), faults);
            if header
                .value
                .bytes()
                .any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f)
            {
                faults.invalid(at.key("value"), "holds a control character");
            }
            if !seen.insert(header.name.to_ascii_lowercase()) {
                faults.duplicate(at.key("name"), format!("{:?} stands above", header.name));
            }
        }
    }
    for (index, name) in modifier.remove.iter().enumerate() {
        header_name(name, at.key("remove").index(index), faults);
    }
}

fn path_modifier(path: Option<&PathModifier>, at: &FieldPath, faults: &mut Faults) {
    let Some(path) = path else {
        return;
    };
    for (kind, field, value) in [
        (
            "ReplaceFullPath",
            "replaceFullPath",
            &path.replace_full_path,
        ),
        (
            "ReplacePrefixMatch",
            "replacePrefixMatch",
            &path.replace_prefix_match,
        ),
    ] {
        match (path.r#type == kind, value) {
            (true, None) => {
                faults.invalid(at.key(field), format!("is required for the type {kind}"))
            }
            (false, Some(_)) => faults.invalid(
                at.key(field),
                format!("does not belong to the type {}", path.r#type),
            ),
            _ => {}
        }
    }
}

/// RFC 9110, section 5.1: a header's name is a token.
pub(super) fn header_name(name: &str, at: FieldPath, faults: &mut Faults) {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        faults.invalid(at, format!("{name:?} is not the name of a header"));
    }
}
