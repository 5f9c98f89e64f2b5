//! Which of several rules that match wins: Gateway API, `HTTPRouteRule.matches` and
//! `GRPCRouteRule.matches`.

use std::cmp::Reverse;

use super::{CompiledRoute, RankedRule};
use crate::resource::HttpRule;

/// A rule's rank within its route; smaller wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Larger is more specific. HTTP: exact path, length of the path, method, number of headers,
    /// number of query parameters. gRPC: length of the service, length of the method, number of
    /// headers. At one port there is one kind only, so they never meet.
    specificity: Reverse<[usize; 5]>,
    rule: usize,
    nth_match: usize,
}

impl Rank {
    pub(super) fn new(specificity: [usize; 5], rule: usize, nth_match: usize) -> Self {
        Self {
            specificity: Reverse(specificity),
            rule,
            nth_match,
        }
    }

    /// The rule's position within its route.
    pub(super) fn rule(&self) -> usize {
        self.rule
    }
}

/// The rules of all `routes`: the more specific first, then the older route, then the first by
/// name, then in the order within the route.
pub(crate) fn in_precedence(routes: &[&CompiledRoute]) -> Vec<HttpRule> {
    let mut rules: Vec<(&CompiledRoute, &RankedRule)> = routes
        .iter()
        .flat_map(|route| route.rules.iter().map(|rule| (*route, rule)))
        .collect();
    rules.sort_by_key(|(route, rule)| {
        let Rank {
            specificity,
            rule,
            nth_match,
        } = rule.rank;
        (
            specificity,
            &route.created,
            &route.key.namespace,
            &route.key.name,
            rule,
            nth_match,
        )
    });
    rules
        .into_iter()
        .map(|(_, rule)| rule.rule.clone())
        .collect()
}
