//! `HTTPRoute` and `GRPCRoute`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use weft_api::gateway::{grpcroutes as grpc, httproutes as http};
use weft_api::route_rule as api;
use weft_model::{
    Backend, Filter, GrpcMatch, GrpcRoute, HeaderModifier, HttpMatch, HttpRoute, MatchKind,
    MethodMatch, ParentRef, PathMatch, PathModifier, Redirect, Rewrite, Rule, Timeouts, ValueMatch,
};

use super::{Faults, port, spec_path, text, texts};

pub(super) fn http(route: &http::HttpRoute, faults: &mut Faults) -> HttpRoute {
    let spec = &route.spec;
    let matches = |index: usize| {
        let rule = spec.rules.as_ref().and_then(|rules| rules.get(index));
        let matches = rule.and_then(|rule| rule.matches.as_ref());
        matches.into_iter().flatten().map(http_match).collect()
    };
    HttpRoute {
        parents: spec.parent_refs.iter().flatten().map(http_parent).collect(),
        hostnames: texts(spec.hostnames.as_ref()),
        rules: rules(&spec.rules, matches, faults),
    }
}

pub(super) fn grpc(route: &grpc::GrpcRoute, faults: &mut Faults) -> GrpcRoute {
    let spec = &route.spec;
    let matches = |index: usize| {
        let rule = spec.rules.as_ref().and_then(|rules| rules.get(index));
        let matches = rule.and_then(|rule| rule.matches.as_ref());
        matches.into_iter().flatten().map(grpc_match).collect()
    };
    GrpcRoute {
        parents: spec.parent_refs.iter().flatten().map(grpc_parent).collect(),
        hostnames: texts(spec.hostnames.as_ref()),
        rules: rules(&spec.rules, matches, faults),
    }
}

/// The parts that a reference to a parent has in both kinds.
macro_rules! parent_ref {
    ($parent:expr) => {
        ParentRef {
            group: $parent
                .group
                .as_deref()
                .unwrap_or(weft_api::GATEWAY_GROUP)
                .into(),
            kind: $parent.kind.as_deref().unwrap_or("Gateway").into(),
            namespace: text(&$parent.namespace),
            name: $parent.name.as_str().into(),
            section_name: text(&$parent.section_name),
            port: $parent.port.and_then(port),
        }
    };
}

fn http_parent(parent: &http::HttpRouteParentRefs) -> ParentRef {
    parent_ref!(parent)
}

fn grpc_parent(parent: &grpc::GrpcRouteParentRefs) -> ParentRef {
    parent_ref!(parent)
}

fn http_match(entry: &http::HttpRouteRulesMatches) -> HttpMatch {
    use http::{
        HttpRouteRulesMatchesHeadersType as HeaderType, HttpRouteRulesMatchesPathType as PathType,
        HttpRouteRulesMatchesQueryParamsType as QueryType,
    };
    let path = entry.path.as_ref().map(|path| {
        let value = path.value.as_deref().unwrap_or("/").into();
        match path.r#type {
            None | Some(PathType::PathPrefix) => PathMatch::Prefix(value),
            Some(PathType::Exact) => PathMatch::Exact(value),
            Some(PathType::RegularExpression) => PathMatch::RegularExpression(value),
        }
    });
    let headers = entry.headers.iter().flatten().map(|header| {
        let kind = match header.r#type {
            None | Some(HeaderType::Exact) => MatchKind::Exact,
            Some(HeaderType::RegularExpression) => MatchKind::RegularExpression,
        };
        value_match(kind, &header.name, &header.value)
    });
    let query = entry.query_params.iter().flatten().map(|parameter| {
        let kind = match parameter.r#type {
            None | Some(QueryType::Exact) => MatchKind::Exact,
            Some(QueryType::RegularExpression) => MatchKind::RegularExpression,
        };
        value_match(kind, &parameter.name, &parameter.value)
    });
    HttpMatch {
        path,
        headers: headers.collect(),
        query: query.collect(),
        method: entry.method.as_ref().map(method),
    }
}

fn method(method: &http::HttpRouteRulesMatchesMethod) -> Arc<str> {
    use http::HttpRouteRulesMatchesMethod as Method;
    Arc::from(match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
    })
}

fn grpc_match(entry: &grpc::GrpcRouteRulesMatches) -> GrpcMatch {
    use grpc::{
        GrpcRouteRulesMatchesHeadersType as HeaderType,
        GrpcRouteRulesMatchesMethodType as MethodType,
    };
    let headers = entry.headers.iter().flatten().map(|header| {
        let kind = match header.r#type {
            None | Some(HeaderType::Exact) => MatchKind::Exact,
            Some(HeaderType::RegularExpression) => MatchKind::RegularExpression,
        };
        value_match(kind, &header.name, &header.value)
    });
    GrpcMatch {
        method: entry.method.as_ref().map(|method| MethodMatch {
            kind: match method.r#type {
                None | Some(MethodType::Exact) => MatchKind::Exact,
                Some(MethodType::RegularExpression) => MatchKind::RegularExpression,
            },
            service: text(&method.service),
            method: text(&method.method),
        }),
        headers: headers.collect(),
    }
}

fn value_match(kind: MatchKind, name: &str, value: &str) -> ValueMatch {
    ValueMatch {
        kind,
        name: name.into(),
        value: value.into(),
    }
}

/// The rules, with the matches of each by its index.
fn rules<T: Serialize, M>(
    typed: &Option<Vec<T>>,
    matches: impl Fn(usize) -> Vec<M>,
    faults: &mut Faults,
) -> Vec<Rule<M>> {
    let rules = api::route_rules(typed).unwrap_or_else(|error| {
        faults.invalid(spec_path().key("rules"), error.to_string());
        Vec::new()
    });
    let rule = |(index, rule): (usize, api::RouteRule)| Rule {
        name: text(&rule.name),
        matches: matches(index),
        filters: rule.filters.iter().map(filter).collect(),
        backends: rule.backend_refs.iter().map(backend).collect(),
        timeouts: Timeouts {
            request: duration(rule.timeouts.request.as_deref()),
            backend_request: duration(rule.timeouts.backend_request.as_deref()),
        },
    };
    rules.into_iter().enumerate().map(rule).collect()
}

fn duration(text: Option<&str>) -> Option<Duration> {
    let duration: weft_api::Duration = text?.parse().ok()?;
    Some(duration.into())
}

fn backend(backend: &api::BackendRef) -> Backend {
    Backend {
        group: backend.group.as_deref().unwrap_or("").into(),
        kind: backend.kind.as_deref().unwrap_or("Service").into(),
        namespace: text(&backend.namespace),
        name: backend.name.as_str().into(),
        port: backend.port.and_then(port),
        weight: backend.weight.unwrap_or(1).into(),
        filters: backend.filters.iter().map(filter).collect(),
    }
}

fn filter(filter: &api::RouteFilter) -> Filter {
    let found = match filter.r#type.as_str() {
        "RequestHeaderModifier" => {
            let modifier = filter.request_header_modifier.as_ref();
            modifier.map(|modifier| Filter::RequestHeaders(headers(modifier)))
        }
        "ResponseHeaderModifier" => {
            let modifier = filter.response_header_modifier.as_ref();
            modifier.map(|modifier| Filter::ResponseHeaders(headers(modifier)))
        }
        "RequestRedirect" => filter
            .request_redirect
            .as_ref()
            .map(|to| Filter::Redirect(redirect(to))),
        "URLRewrite" => filter.url_rewrite.as_ref().map(|rewrite| {
            Filter::Rewrite(Rewrite {
                hostname: text(&rewrite.hostname),
                path: rewrite.path.as_ref().and_then(path_modifier),
            })
        }),
        _ => None,
    };
    found.unwrap_or_else(|| Filter::Unsupported(filter.r#type.as_str().into()))
}

fn headers(modifier: &api::HeaderModifier) -> HeaderModifier {
    let pairs = |list: &[api::Header]| {
        let pair =
            |header: &api::Header| (header.name.as_str().into(), header.value.as_str().into());
        list.iter().map(pair).collect()
    };
    HeaderModifier {
        set: pairs(&modifier.set),
        add: pairs(&modifier.add),
        remove: texts(Some(&modifier.remove)),
    }
}

fn redirect(redirect: &api::Redirect) -> Redirect {
    Redirect {
        scheme: text(&redirect.scheme),
        hostname: text(&redirect.hostname),
        path: redirect.path.as_ref().and_then(path_modifier),
        port: redirect.port.and_then(port),
        status: redirect
            .status_code
            .and_then(|code| u16::try_from(code).ok()),
    }
}

fn path_modifier(path: &api::PathModifier) -> Option<PathModifier> {
    match path.r#type.as_str() {
        "ReplaceFullPath" => {
            let path = path.replace_full_path.as_deref()?;
            Some(PathModifier::ReplaceFullPath(path.into()))
        }
        "ReplacePrefixMatch" => {
            let prefix = path.replace_prefix_match.as_deref()?;
            Some(PathModifier::ReplacePrefixMatch(prefix.into()))
        }
        _ => None,
    }
}
