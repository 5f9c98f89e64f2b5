//! What of a route is in force, for its status.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::Spec;

use super::CompiledRoute;
use crate::index::Index;

/// What of a route is in force, as far as the route alone decides: ports that another route holds
/// are reported as conflicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteStanding {
    /// By position in `parentRefs`: how many ports it attaches to. Each port counts once, at the
    /// first parent that names it.
    pub ports: BTreeMap<usize, usize>,
    /// Positions in `parentRefs` of Gateways that are this control plane's.
    pub gateways: BTreeSet<usize>,
    /// How many rules it has.
    pub rules: usize,
    /// Positions of the rules that were left out.
    pub dropped: BTreeSet<usize>,
}

impl RouteStanding {
    pub(crate) fn of(index: &Index, route: &CompiledRoute) -> Option<Self> {
        let rules = match &index.world().object(&route.key)?.spec {
            Spec::HttpRoute(spec) => spec.rules.len(),
            Spec::GrpcRoute(spec) => spec.rules.len(),
            _ => return None,
        };
        let mut ports = BTreeMap::new();
        for attachment in &route.attachments {
            *ports.entry(attachment.parent).or_default() += 1;
        }
        let mut dropped: BTreeSet<usize> = (0..rules).collect();
        for ranked in &route.rules {
            dropped.remove(&ranked.rank.rule());
        }
        Some(Self {
            ports,
            gateways: route.gateways.clone(),
            rules,
            dropped,
        })
    }
}
