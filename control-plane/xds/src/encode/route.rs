//! The rules within a `Service`.

use weft_compile::resource::{
    HttpFilter, HttpMatch, HttpRule, PathMatch, Redirect, ValueMatch, WeightedBackend,
};
use weft_model::{HeaderModifier, PathModifier, Rewrite};
use weft_proto::mesh;

use super::duration;

pub(super) fn rule(rule: &HttpRule) -> mesh::HttpRule {
    mesh::HttpRule {
        name: rule.name.to_string(),
        r#match: Some(matches(&rule.matches)),
        filters: rule.filters.iter().map(filter).collect(),
        backends: rule.backends.iter().map(backend).collect(),
        request_timeout: rule.request_timeout.map(duration),
        backend_timeout: rule.backend_timeout.map(duration),
    }
}

fn matches(from: &HttpMatch) -> mesh::HttpMatch {
    use mesh::path_match::Kind;
    let path = match &from.path {
        PathMatch::Exact(path) => Kind::Exact(path.to_string()),
        PathMatch::Prefix(path) => Kind::Prefix(path.to_string()),
        PathMatch::Regex(path) => Kind::Regex(path.to_string()),
    };
    mesh::HttpMatch {
        path: Some(mesh::PathMatch { kind: Some(path) }),
        headers: from.headers.iter().map(value).collect(),
        query_parameters: from.query.iter().map(value).collect(),
        method: optional(from.method.as_deref()),
    }
}

fn value(from: &ValueMatch) -> mesh::HeaderMatch {
    mesh::HeaderMatch {
        name: from.name.to_string(),
        kind: Some(mesh::header_match::Kind::Exact(from.value.to_string())),
    }
}

fn filter(from: &HttpFilter) -> mesh::HttpFilter {
    use mesh::http_filter::Kind;
    let kind = match from {
        HttpFilter::RequestHeaders(modifier) => Kind::RequestHeaders(headers(modifier)),
        HttpFilter::ResponseHeaders(modifier) => Kind::ResponseHeaders(headers(modifier)),
        HttpFilter::Redirect(to) => Kind::Redirect(redirect(to)),
        HttpFilter::Rewrite(to) => Kind::Rewrite(rewrite(to)),
    };
    mesh::HttpFilter { kind: Some(kind) }
}

fn headers(modifier: &HeaderModifier) -> mesh::HeaderModifier {
    let pairs = |pairs: &[(std::sync::Arc<str>, std::sync::Arc<str>)]| {
        pairs
            .iter()
            .map(|(name, value)| mesh::HeaderValue {
                name: name.to_string(),
                value: value.to_string(),
            })
            .collect()
    };
    mesh::HeaderModifier {
        set: pairs(&modifier.set),
        add: pairs(&modifier.add),
        remove: modifier.remove.iter().map(ToString::to_string).collect(),
    }
}

fn redirect(from: &Redirect) -> mesh::Redirect {
    mesh::Redirect {
        scheme: optional(from.scheme.as_deref()),
        hostname: optional(from.hostname.as_deref()),
        port: from.port.unwrap_or(0).into(),
        status: from.status.into(),
        path: from.path.as_ref().map(path),
    }
}

fn rewrite(from: &Rewrite) -> mesh::Rewrite {
    mesh::Rewrite {
        hostname: optional(from.hostname.as_deref()),
        path: from.path.as_ref().map(path),
    }
}

fn path(from: &PathModifier) -> mesh::PathRewrite {
    use mesh::path_rewrite::Kind;
    let kind = match from {
        PathModifier::ReplaceFullPath(path) => Kind::Full(path.to_string()),
        PathModifier::ReplacePrefixMatch(path) => Kind::Prefix(path.to_string()),
    };
    mesh::PathRewrite { kind: Some(kind) }
}

fn backend(from: &WeightedBackend) -> mesh::WeightedBackend {
    use mesh::weighted_backend::Target;
    let target = match &from.target {
        Ok(backend) => Target::Backend(mesh::Backend {
            namespace: backend.namespace.to_string(),
            name: backend.name.to_string(),
            port: backend.port.into(),
        }),
        Err(reason) => Target::Invalid(reason.to_string()),
    };
    mesh::WeightedBackend {
        weight: from.weight,
        target: Some(target),
        filters: from.filters.iter().map(filter).collect(),
    }
}

/// The wire has an empty string for "as in the request".
fn optional(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}
