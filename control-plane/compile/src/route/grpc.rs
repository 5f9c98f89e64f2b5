//! Matches of a GRPCRoute: a gRPC method is the path `/SERVICE/METHOD`.

use weft_model::{FieldPath, GrpcMatch, MatchKind, MethodMatch, Reason};

use super::{Matching, Report, http};
use crate::resource::{HttpMatch, PathMatch};

impl Matching for GrpcMatch {
    fn to_http(&self, at: &FieldPath, report: &mut Report<'_>) -> Option<(HttpMatch, [usize; 5])> {
        let path = path(self.method.as_ref(), &at.field("method"), report);
        let headers = http::headers(&self.headers, &at.field("headers"), report);
        let matches = HttpMatch {
            path: path?,
            headers: headers?,
            query: Vec::new(),
            method: None,
        };
        let length = |part: fn(&MethodMatch) -> Option<usize>| {
            self.method.as_ref().and_then(part).unwrap_or_default()
        };
        let specificity = [
            length(|method| method.service.as_ref().map(|service| service.len())),
            length(|method| method.method.as_ref().map(|method| method.len())),
            matches.headers.len(),
            0,
            0,
        ];
        Some((matches, specificity))
    }
}

fn path(
    method: Option<&MethodMatch>,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<PathMatch> {
    let Some(method) = method else {
        return Some(PathMatch::Prefix("/".into()));
    };
    if method.kind == MatchKind::RegularExpression {
        return report.refuse(
            at.field("type"),
            Reason::UnsupportedValue,
            "methods cannot be matched by regular expressions; use Exact",
        );
    }
    let mut usable = true;
    for (field, part, dots) in [
        ("service", &method.service, true),
        ("method", &method.method, false),
    ] {
        if let Some(part) = part
            && !is_name(part, dots)
        {
            usable = false;
            report.error(
                at.field(field),
                Reason::InvalidValue,
                format!("{part:?} is not the name of a gRPC {field}"),
            );
        }
    }
    if !usable {
        return None;
    }
    match (&method.service, &method.method) {
        (Some(service), Some(method)) => {
            Some(PathMatch::Exact(format!("/{service}/{method}").into()))
        }
        (Some(service), None) => Some(PathMatch::Prefix(format!("/{service}").into())),
        // The name holds letters, digits and underscores only: nothing to escape.
        (None, Some(method)) => Some(PathMatch::Regex(format!("/[^/]+/{method}").into())),
        (None, None) => report.refuse(
            at.clone(),
            Reason::InvalidValue,
            "a method match needs a service, a method or both",
        ),
    }
}

/// A protobuf identifier, with dots between several for a service and its package.
fn is_name(text: &str, dots: bool) -> bool {
    let identifier = |part: &str| {
        !part.is_empty()
            && !part.starts_with(|first: char| first.is_ascii_digit())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if dots {
        text.split('.').all(identifier)
    } else {
        identifier(text)
    }
}
