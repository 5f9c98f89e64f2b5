//! What a rule does to requests and responses. A filter that cannot be done costs its rule: to
//! leave it out would change what the rule means.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::{FieldPath, Filter, HeaderModifier, PathModifier, Reason, Redirect, Rewrite};

use super::{Report, path};
use crate::resource::{self, HttpFilter};

/// The filters of a rule.
pub(super) fn of_rule(
    filters: &[Filter],
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<Vec<HttpFilter>> {
    let compiled = each_once(filters, at, report);
    let both = "a rule cannot redirect and rewrite; remove one of the two filters";
    let redirects = filters.iter().any(is_redirect);
    not_both(redirects, filters, at, both, report)?;
    compiled
}

/// The filters of a backend, which apply to its share of the requests, after the rule's. The
/// rule's rewrite is the only one there is: what a second one replaces would not be what was matched.
pub(super) fn of_backend(
    filters: &[Filter],
    of_rule: &[Filter],
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<Vec<HttpFilter>> {
    let compiled = each_once(filters, at, report);
    let both = "a backend cannot redirect and rewrite; remove one of the two filters";
    let redirects = filters.iter().any(is_redirect);
    not_both(redirects, filters, at, both, report)?;
    let mut leads_elsewhere = filters
        .iter()
        .map(|one| is_redirect(one) || is_rewrite(one));
    match leads_elsewhere.position(|leads| leads) {
        Some(nth) if of_rule.iter().any(is_rewrite) => report.refuse(
            at.index(nth),
            Reason::IncompatibleFilters,
            "the rule rewrites these requests already; remove one of the two filters",
        ),
        _ => compiled,
    }
}

fn not_both(
    redirects: bool,
    filters: &[Filter],
    at: &FieldPath,
    message: &str,
    report: &mut Report<'_>,
) -> Option<()> {
    match filters.iter().position(is_rewrite) {
        Some(nth) if redirects => {
            report.refuse(at.index(nth), Reason::IncompatibleFilters, message)
        }
        _ => Some(()),
    }
}

pub(super) fn is_redirect(filter: &Filter) -> bool {
    matches!(filter, Filter::Redirect(_))
}

fn is_rewrite(filter: &Filter) -> bool {
    matches!(filter, Filter::Rewrite(_))
}

fn name_of(filter: &Filter) -> &str {
    match filter {
        Filter::RequestHeaders(_) => "RequestHeaderModifier",
        Filter::ResponseHeaders(_) => "ResponseHeaderModifier",
        Filter::Redirect(_) => "RequestRedirect",
        Filter::Rewrite(_) => "URLRewrite",
        Filter::Unsupported(name) => name,
    }
}

fn each_once(
    filters: &[Filter],
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<Vec<HttpFilter>> {
    let mut seen = BTreeSet::new();
    let mut compiled = Vec::new();
    let mut usable = true;
    for (nth, filter) in filters.iter().enumerate() {
        let at = at.index(nth);
        let name = name_of(filter);
        if !seen.insert(name) {
            usable = false;
            report.error(
                at.field("type"),
                Reason::DuplicateValue,
                format!("there are several {name} filters here; merge them into one"),
            );
        }
        match filter_of(filter, &at, report) {
            Some(filter) => compiled.push(filter),
            None => usable = false,
        }
    }
    usable.then_some(compiled)
}

fn filter_of(filter: &Filter, at: &FieldPath, report: &mut Report<'_>) -> Option<HttpFilter> {
    match filter {
        Filter::RequestHeaders(modifier) => {
            headers(modifier, &at.field("requestHeaderModifier"), report)
                .map(HttpFilter::RequestHeaders)
        }
        Filter::ResponseHeaders(modifier) => {
            headers(modifier, &at.field("responseHeaderModifier"), report)
                .map(HttpFilter::ResponseHeaders)
        }
        Filter::Redirect(redirect) => {
            redirect_of(redirect, &at.field("requestRedirect"), report).map(HttpFilter::Redirect)
        }
        Filter::Rewrite(rewrite) => rewrite_of(rewrite, &at.field("urlRewrite"), report),
        Filter::Unsupported(name) => report.refuse(
            at.field("type"),
            Reason::UnsupportedValue,
            format!(
                "{name} filters are not supported, so this rule is not in force; remove the filter"
            ),
        ),
    }
}

/// Header names are compared in lower case from here on.
fn headers(
    modifier: &HeaderModifier,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<HeaderModifier> {
    let mut usable = true;
    let mut fault = |field: FieldPath, reason, message: String| {
        usable = false;
        report.error(field, reason, message);
    };
    for (field, list) in [("set", &modifier.set), ("add", &modifier.add)] {
        let mut seen = BTreeSet::new();
        for (nth, (name, value)) in list.iter().enumerate() {
            let at = at.field(field).index(nth);
            if !is_token(name) {
                fault(at.field("name"), Reason::InvalidValue, not_a_header(name));
            } else if !seen.insert(name.to_ascii_lowercase()) {
                let message = format!("{name:?} stands here twice; names ignore case");
                fault(at.field("name"), Reason::DuplicateValue, message);
            }
            if !is_field_value(value) {
                let message = format!("{value:?} is not the value of a header");
                fault(at.field("value"), Reason::InvalidValue, message);
            }
        }
    }
    for (nth, name) in modifier.remove.iter().enumerate() {
        if !is_token(name) {
            fault(
                at.field("remove").index(nth),
                Reason::InvalidValue,
                not_a_header(name),
            );
        }
    }
    let lower = |list: &[(Arc<str>, Arc<str>)]| {
        list.iter()
            .map(|(name, value)| (name.to_ascii_lowercase().into(), Arc::clone(value)))
            .collect()
    };
    usable.then(|| HeaderModifier {
        set: lower(&modifier.set),
        add: lower(&modifier.add),
        remove: modifier
            .remove
            .iter()
            .map(|name| name.to_ascii_lowercase().into())
            .collect(),
    })
}

pub(super) fn not_a_header(name: &str) -> String {
    format!("{name:?} is not the name of a header")
}

fn redirect_of(
    redirect: &Redirect,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<resource::Redirect> {
    let status = redirect.status.unwrap_or(302);
    let mut usable = true;
    if ![301, 302, 303, 307, 308].contains(&status) {
        usable = false;
        report.error(
            at.field("statusCode"),
            Reason::InvalidValue,
            format!("{status} is none of 301, 302, 303, 307, 308"),
        );
    }
    if let Some(scheme) = &redirect.scheme
        && !["http", "https"].contains(&&**scheme)
    {
        usable = false;
        report.error(
            at.field("scheme"),
            Reason::InvalidValue,
            format!("{scheme:?} is neither http nor https"),
        );
    }
    usable &= is_hostname_or_absent(redirect.hostname.as_deref(), at, report);
    usable &= is_path_or_absent(redirect.path.as_ref(), &at.field("path"), report);
    usable.then(|| resource::Redirect {
        scheme: redirect.scheme.clone(),
        hostname: redirect.hostname.clone(),
        path: replacement(redirect.path.as_ref()),
        port: redirect.port,
        status,
    })
}

fn rewrite_of(rewrite: &Rewrite, at: &FieldPath, report: &mut Report<'_>) -> Option<HttpFilter> {
    let host = is_hostname_or_absent(rewrite.hostname.as_deref(), at, report);
    let path = is_path_or_absent(rewrite.path.as_ref(), &at.field("path"), report);
    (host && path).then(|| {
        HttpFilter::Rewrite(Rewrite {
            hostname: rewrite.hostname.clone(),
            path: replacement(rewrite.path.as_ref()),
        })
    })
}

fn is_hostname_or_absent(host: Option<&str>, at: &FieldPath, report: &mut Report<'_>) -> bool {
    let Some(host) = host else {
        return true;
    };
    let valid = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    if !valid {
        report.error(
            at.field("hostname"),
            Reason::InvalidValue,
            format!("{host:?} is not a host name (without scheme and port)"),
        );
    }
    valid
}

fn is_path_or_absent(path: Option<&PathModifier>, at: &FieldPath, report: &mut Report<'_>) -> bool {
    let (field, value) = match path {
        None => return true,
        Some(PathModifier::ReplaceFullPath(value)) => ("replaceFullPath", value),
        Some(PathModifier::ReplacePrefixMatch(value)) => ("replacePrefixMatch", value),
    };
    // An empty replacement of a prefix removes it; a whole path may not be empty.
    let removes = field == "replacePrefixMatch" && value.is_empty();
    let fault = path::fault(value).filter(|_| !removes);
    if let Some(fault) = fault {
        report.error(
            at.field(field),
            Reason::InvalidValue,
            format!("{value:?} is not a path: it {fault}"),
        );
    }
    fault.is_none()
}

/// The replacement, where removing a prefix leaves the root.
fn replacement(path: Option<&PathModifier>) -> Option<PathModifier> {
    path.map(|path| match path {
        PathModifier::ReplacePrefixMatch(prefix) if prefix.is_empty() => {
            PathModifier::ReplacePrefixMatch("/".into())
        }
        path => path.clone(),
    })
}

/// RFC 9110, section 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// RFC 9110, section 5.5, without the obsolete bytes beyond ASCII.
fn is_field_value(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte == b'\t' || (b' '..0x7f).contains(&byte))
        && text.trim() == text
}
