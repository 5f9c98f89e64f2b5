//! Matches of an HTTPRoute.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::{
    FieldPath, HttpMatch as Match, MatchKind, PathMatch as Path, Reason, ValueMatch as Value,
};

use super::filters::{is_token, not_a_header};
use super::{Matching, Report, path};
use crate::resource::{HttpMatch, PathMatch, ValueMatch};

impl Matching for Match {
    fn to_http(&self, at: &FieldPath, report: &mut Report<'_>) -> Option<(HttpMatch, [usize; 5])> {
        let path = path_match(self.path.as_ref(), &at.field("path"), report);
        let headers = headers(&self.headers, &at.field("headers"), report);
        let query = query(&self.query, &at.field("queryParams"), report);
        let method = method(self.method.as_ref(), &at.field("method"), report);
        let matches = HttpMatch {
            path: path?,
            headers: headers?,
            query: query?,
            method: method?,
        };
        let (exact, length) = match &matches.path {
            PathMatch::Exact(path) => (1, path.len()),
            PathMatch::Prefix(path) | PathMatch::Regex(path) => (0, path.len()),
        };
        let specificity = [
            exact,
            length,
            usize::from(matches.method.is_some()),
            matches.headers.len(),
            matches.query.len(),
        ];
        Some((matches, specificity))
    }
}

fn path_match(path: Option<&Path>, at: &FieldPath, report: &mut Report<'_>) -> Option<PathMatch> {
    let value = match path {
        None => return Some(PathMatch::Prefix("/".into())),
        Some(Path::RegularExpression(_)) => {
            return report.refuse(
                at.field("type"),
                Reason::UnsupportedValue,
                "paths cannot be matched by regular expressions; use Exact or PathPrefix",
            );
        }
        Some(Path::Exact(value) | Path::Prefix(value)) => value,
    };
    // A path is matched after it was normalised.
    if let Some(fault) = path::match_fault(value) {
        return report.refuse(
            at.field("value"),
            Reason::InvalidValue,
            format!("{value:?} can match no path: it {fault}"),
        );
    }
    Some(match path {
        Some(Path::Exact(value)) => PathMatch::Exact(Arc::clone(value)),
        _ if &**value == "/" => PathMatch::Prefix(Arc::clone(value)),
        // A trailing slash of a prefix is ignored (Gateway API, PathMatchPathPrefix).
        _ => PathMatch::Prefix(
            value
                .strip_suffix('/')
                .map_or_else(|| Arc::clone(value), Arc::from),
        ),
    })
}

/// Header matches; of several for one name the first counts (Gateway API, `HTTPHeaderMatch`).
pub(super) fn headers(
    headers: &[Value],
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<Vec<ValueMatch>> {
    values(headers, at, "headers", report, |name| {
        if is_token(name) {
            Ok(name.to_ascii_lowercase())
        } else {
            Err(not_a_header(name))
        }
    })
}

fn query(query: &[Value], at: &FieldPath, report: &mut Report<'_>) -> Option<Vec<ValueMatch>> {
    values(query, at, "query parameters", report, |name| {
        if name.is_empty() {
            Err("the name of a query parameter is missing".into())
        } else {
            Ok(name.to_owned())
        }
    })
}

fn values(
    values: &[Value],
    at: &FieldPath,
    what: &str,
    report: &mut Report<'_>,
    name: impl Fn(&str) -> Result<String, String>,
) -> Option<Vec<ValueMatch>> {
    let mut seen = BTreeSet::new();
    let mut compiled = Vec::new();
    let mut usable = true;
    for (nth, value) in values.iter().enumerate() {
        let at = at.index(nth);
        if value.kind == MatchKind::RegularExpression {
            usable = false;
            report.error(
                at.field("type"),
                Reason::UnsupportedValue,
                format!("{what} cannot be matched by regular expressions; use Exact"),
            );
        }
        match name(&value.name) {
            Err(message) => {
                usable = false;
                report.error(at.field("name"), Reason::InvalidValue, message);
            }
            Ok(name) if !seen.insert(name.clone()) => report.warning(
                at.field("name"),
                Reason::DuplicateValue,
                format!("{name:?} stands above already; only the first counts"),
            ),
            Ok(name) => compiled.push(ValueMatch {
                name: name.into(),
                value: Arc::clone(&value.value),
            }),
        }
    }
    usable.then_some(compiled)
}

fn method(
    method: Option<&Arc<str>>,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<Option<Arc<str>>> {
    match method {
        Some(method) if !is_token(method) => report.refuse(
            at.clone(),
            Reason::InvalidValue,
            format!("{method:?} is not a method"),
        ),
        method => Some(method.cloned()),
    }
}
