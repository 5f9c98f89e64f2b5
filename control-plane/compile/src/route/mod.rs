//! One HTTPRoute or GRPCRoute: what it attaches to, and its rules in the form of the wire, each
//! with its rank. Which route holds at a port where several attach is for `service` to say.
//!
//! A rule that cannot be used is left out and named; the others stay in force. A backend that
//! cannot be used keeps its share, which is answered 500.

mod backends;
mod filters;
mod grpc;
mod http;
mod parents;
mod path;
mod precedence;
mod standing;

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_model::{
    Created, FieldPath, Filter, Kind, Object, ObjectKey, PathModifier, Reason, Route, Rule, Spec,
    Timeouts,
};

pub(crate) use self::filters::is_token;
pub(crate) use self::parents::Attachment;
use self::parents::Parents;
pub(crate) use self::precedence::{Rank, in_precedence};
pub use self::standing::RouteStanding;
use crate::findings::Findings;
use crate::index::Index;
use crate::resource::{HttpFilter, HttpMatch, HttpRule, PathMatch};

/// A route on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompiledRoute {
    pub(crate) key: ObjectKey,
    pub(crate) created: Created,
    /// Service ports, each once, ascending.
    pub(crate) attachments: Vec<Attachment>,
    /// All its parents are Gateways that other controllers serve.
    pub(crate) is_others: bool,
    /// Positions in `parentRefs` of Gateways that are this control plane's.
    pub(crate) gateways: BTreeSet<usize>,
    pub(crate) rules: Vec<RankedRule>,
}

/// One match of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RankedRule {
    pub(crate) rank: Rank,
    pub(crate) rule: HttpRule,
}

/// A kind of match that can be put in terms of HTTP.
trait Matching: Default {
    /// The match and how specific it is; `None` where it cannot be used, which is then reported.
    fn to_http(&self, at: &FieldPath, report: &mut Report<'_>) -> Option<(HttpMatch, [usize; 5])>;
}

/// Findings about one object.
struct Report<'a> {
    object: &'a Object,
    findings: Findings,
}

impl Report<'_> {
    fn error(&mut self, field: FieldPath, reason: Reason, message: impl Into<String>) {
        self.findings.error(self.object, field, reason, message);
    }

    /// An error that costs the rule.
    fn refuse<T>(
        &mut self,
        field: FieldPath,
        reason: Reason,
        message: impl Into<String>,
    ) -> Option<T> {
        self.error(field, reason, message);
        None
    }

    fn warning(&mut self, field: FieldPath, reason: Reason, message: impl Into<String>) {
        self.findings.warning(self.object, field, reason, message);
    }

    /// Whether the source could not read all of `field`.
    fn is_unreadable(&self, field: &FieldPath) -> bool {
        self.object
            .problems
            .iter()
            .any(|problem| problem.field.is_within(field) || field.is_within(&problem.field))
    }
}

/// Compiles a route; `None` for objects of other kinds.
pub(crate) fn compile(index: &Index, object: &Object) -> Option<(CompiledRoute, Findings)> {
    match &object.spec {
        Spec::HttpRoute(route) => Some(compile_as(index, object, route)),
        Spec::GrpcRoute(route) => Some(compile_as(index, object, route)),
        _ => None,
    }
}

fn compile_as<M: Matching>(
    index: &Index,
    object: &Object,
    route: &Route<M>,
) -> (CompiledRoute, Findings) {
    let mut report = Report {
        object,
        findings: Findings::default(),
    };
    let Parents {
        attachments,
        gateways,
        others,
    } = parents::of_route(index, &route.parents, &mut report);
    let mut compiled = CompiledRoute {
        key: object.key.clone(),
        created: object.meta.created.clone(),
        attachments,
        is_others: others > 0 && others == route.parents.len(),
        gateways,
        rules: Vec::new(),
    };
    if compiled.is_others {
        // Its controllers say what is wrong with it.
        return (compiled, Findings::default());
    }
    if !route.hostnames.is_empty() && !compiled.attachments.is_empty() {
        report.findings.info(
            object,
            "spec.hostnames".into(),
            Reason::HostnamesIgnored,
            "a route on a Service applies whatever host is asked for; hostnames count on a Gateway only",
        );
    }
    let mut names = BTreeSet::new();
    for (position, rule) in route.rules.iter().enumerate() {
        let at = FieldPath::from("spec.rules").index(position);
        if let Some(name) = &rule.name
            && !names.insert(name)
        {
            report.warning(
                at.field("name"),
                Reason::DuplicateValue,
                format!("another rule of this route is named {name:?} too; records cannot tell them apart"),
            );
        }
        if report.is_unreadable(&at) {
            continue;
        }
        if !compiled.gateways.is_empty() {
            backends::granted(index, rule, &at, &mut report);
        }
        let rules = compile_rule(index, position, rule, &at, &mut report);
        compiled.rules.extend(rules.into_iter().flatten());
    }
    (compiled, report.findings)
}

/// One rule, a `RankedRule` for each of its matches. `None`: it cannot be used.
fn compile_rule<M: Matching>(
    index: &Index,
    position: usize,
    rule: &Rule<M>,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<Vec<RankedRule>> {
    // Each step runs whatever the others found: a person wants to see all faults at once.
    let filters = filters::of_rule(&rule.filters, &at.field("filters"), report);
    let matches = matches(&rule.matches, &at.field("matches"), report);
    let backends = backends::weighted(index, rule, at, report);
    let timeouts = timeouts(rule.timeouts, &at.field("timeouts"), report);
    let prefixes = prefixes_are_matched(rule, matches.as_deref(), at, report);
    let (filters, matches, backends) = (filters?, matches?, backends?);
    timeouts?;
    prefixes?;

    let key = &report.object.key;
    let label = rule
        .name
        .as_deref()
        .map_or_else(|| position.to_string(), str::to_owned);
    let name: Arc<str> = format!("{}/{}/{}/{label}", key.kind, key.namespace, key.name).into();
    let filters: Arc<[HttpFilter]> = filters.into();
    let backends = Arc::from(backends);
    let ranked = matches
        .into_iter()
        .enumerate()
        .map(|(nth, (matches, specificity))| RankedRule {
            rank: Rank::new(specificity, position, nth),
            rule: HttpRule {
                name: Arc::clone(&name),
                matches,
                filters: Arc::clone(&filters),
                backends: Arc::clone(&backends),
                request_timeout: rule.timeouts.request,
                backend_timeout: rule.timeouts.backend_request,
            },
        });
    Some(ranked.collect())
}

type Match = (HttpMatch, [usize; 5]);

fn matches<M: Matching>(
    matches: &[M],
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<Vec<Match>> {
    if matches.is_empty() {
        return M::default().to_http(at, report).map(|only| vec![only]);
    }
    let compiled: Vec<_> = matches
        .iter()
        .enumerate()
        .map(|(nth, each)| each.to_http(&at.index(nth), report))
        .collect();
    compiled.into_iter().collect()
}

/// An attempt cannot be longer than the request (Gateway API, `HTTPRouteTimeouts`).
fn timeouts(timeouts: Timeouts, at: &FieldPath, report: &mut Report<'_>) -> Option<()> {
    match (timeouts.request, timeouts.backend_request) {
        (Some(request), Some(attempt)) if !request.is_zero() && attempt > request => report.refuse(
            at.field("backendRequest"),
            Reason::InvalidValue,
            format!("{attempt:?} is longer than the whole request may take, {request:?}"),
        ),
        _ => Some(()),
    }
}

/// A prefix can be replaced only where every match is by prefix (Gateway API,
/// `HTTPPathModifier`).
fn prefixes_are_matched<M>(
    rule: &Rule<M>,
    matches: Option<&[Match]>,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<()> {
    let mut all = prefix_is_matched(&rule.filters, matches, at, report);
    for (nth, backend) in rule.backends.iter().enumerate() {
        let at = at.field("backendRefs").index(nth);
        all = prefix_is_matched(&backend.filters, matches, &at, report).and(all);
    }
    all
}

fn prefix_is_matched(
    filters: &[Filter],
    matches: Option<&[Match]>,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<()> {
    let replaces = filters.iter().position(|filter| {
        let path = match filter {
            Filter::Redirect(redirect) => &redirect.path,
            Filter::Rewrite(rewrite) => &rewrite.path,
            _ => return false,
        };
        matches!(path, Some(PathModifier::ReplacePrefixMatch(_)))
    });
    let by_prefix = |(matches, _): &Match| matches!(matches.path, PathMatch::Prefix(_));
    match (replaces, matches) {
        (Some(nth), Some(matches)) if !matches.iter().all(by_prefix) => report.refuse(
            at.field("filters").index(nth),
            Reason::IncompatibleFilters,
            "ReplacePrefixMatch needs every match of the rule to be a PathPrefix",
        ),
        _ => Some(()),
    }
}

/// Of two routes of different kinds at one port, the kind that wins.
pub(crate) fn kind_at(kinds: impl Iterator<Item = Kind>) -> Option<Kind> {
    // GRPC > HTTP (Gateway API, GRPCRoute).
    kinds.max_by_key(|kind| *kind == Kind::GrpcRoute)
}
