//! What the control plane tells about objects in their status.
//!
//! - [`route`], [`policy`], [`gateway`]: pure; what is known of one object → the conditions it should have.
//! - [`condition`]: the conditions, and how several faults become one message.
//! - [`merge`]: pure; the status that is there and the one that should be → what to write.
//! - [`writer`]: the leader's task that writes it. What objects show comes with the source's watches.
//! - [`xmesh`]: what works in this mesh, told to XMesh objects.

pub(crate) mod condition;
pub(crate) mod gateway;
pub(crate) mod merge;
pub(crate) mod policy;
mod reason;
pub(crate) mod route;
pub(crate) mod writer;
pub(crate) mod xmesh;

#[cfg(test)]
mod tests;

use serde_json::{Value, json};
use weft_model::{Kind, ObjectKey};
use weft_source::kubernetes::Status;

use crate::mesh::{Facts, Refusals};
use condition::Condition;

/// Owns the fields that are written.
const MANAGER: &str = "weft-control-plane/status";

/// The part of an object's status that is the control plane's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Desired {
    /// `status.parents` of a route.
    Parents(Vec<Entry>),
    /// `status.ancestors` of a policy.
    Ancestors(Vec<Entry>),
    /// `status.conditions`.
    Conditions(Vec<Condition>),
}

/// What is told about an object at another one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// The other one.
    pub reference: Value,
    pub conditions: Vec<Condition>,
}

/// The status that an object should have; `None` for kinds that get none.
pub(crate) fn desired(
    key: &ObjectKey,
    shown: &Status,
    facts: &Facts,
    refusals: &Refusals,
) -> Option<Desired> {
    let told = Told {
        key,
        shown,
        facts,
        refusals,
    };
    match key.kind {
        Kind::HttpRoute | Kind::GrpcRoute => Some(Desired::Parents(route::parents(&told))),
        Kind::AuthorizationPolicy | Kind::PeerAuthentication | Kind::TrafficPolicy => {
            Some(Desired::Ancestors(policy::ancestors(&told)))
        }
        Kind::MeshConfig => Some(Desired::Conditions(policy::conditions(&told))),
        Kind::GatewayClass | Kind::Gateway => gateway::conditions(&told).map(Desired::Conditions),
        Kind::Namespace
        | Kind::ServiceAccount
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Pod
        | Kind::ReferenceGrant => None,
    }
}

/// All that is known of one object.
pub(crate) struct Told<'a> {
    pub key: &'a ObjectKey,
    pub shown: &'a Status,
    pub facts: &'a Facts,
    pub refusals: &'a Refusals,
}

impl Told<'_> {
    /// The generation in force, if it is not the last one: that one cannot be used, and the last
    /// good one stays.
    fn fallen_back(&self) -> Option<u64> {
        let object = self.facts.object.as_ref()?;
        let in_force = object.meta.generation;
        (in_force != self.shown.generation).then_some(in_force)
    }

    /// Errors in what is in force: of one object they are said by the source or by compile.
    fn faults(&self) -> Vec<&weft_model::Problem> {
        let unread = self.facts.unread.iter();
        let of_source = unread.filter(|_| self.fallen_back().is_none());
        of_source.chain(&self.facts.compiled).collect()
    }
}

/// A reference in the form that a status has: the parts that are given.
fn reference(group: &str, kind: &str, written: &Value, namespace: Option<&str>) -> Value {
    let mut reference = json!({"group": group, "kind": kind});
    if let Some(namespace) = namespace {
        reference["namespace"] = namespace.into();
    }
    for part in ["namespace", "name", "sectionName", "port"] {
        match written.get(part) {
            None | Some(Value::Null) => {}
            Some(value) => reference[part] = value.clone(),
        }
    }
    reference
}
