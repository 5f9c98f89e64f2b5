//! The sidecar in a pod: put in, brought up to date, taken out again.
//!
//! Owns what an injected pod looks like and which pods cannot be injected. Pure: no IO, no clock, no
//! Kubernetes client. The admission webhook and `weft inject` do the same by it.
//!
//! A pod (JSON, so that fields of later Kubernetes versions pass through untouched), its namespace
//! and [`InjectSettings`] → [`Outcome`]: the pod with its proxy and the JSON patch that leads there,
//! why it gets none, or a [`Refusal`] that names the field. [`uninject`] is the way back.
//!
//! - `decision`: whether the model's rule asks for a proxy, and what cannot have one.
//! - `overrides`: annotations → [`Overrides`].
//! - `sidecar`: the two containers and their volumes.
//! - [`probes`]: what the kubelet asks, asked by the proxy instead.
//! - [`workload`]: where in which kinds of object there is a pod.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod decision;
mod json_patch;
pub mod names;
mod overrides;
mod pod;
mod pre_stop;
pub mod probes;
mod remove;
mod settings;
mod sidecar;
pub mod workload;

use serde_json::Value;

pub use decision::{Namespace, asked};
pub use overrides::{Overrides, is_quantity};
pub use remove::uninject;
pub use settings::{InjectSettings, Resources};
pub use weft_model::membership::Asked;

use crate::decision::Decision;
use crate::pod::Pod;

/// A field that keeps a pod from being injected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Refusal {
    /// Path from the pod: `spec.containers[web].securityContext.runAsUser`.
    pub field: String,
    /// What is wrong, and where it is not obvious, what to do.
    pub reason: String,
}

impl Refusal {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// What came of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has a proxy now; possibly it had one already and nothing changed.
    Injected(Box<Injected>),
    /// Nobody asked for a proxy, or this pod cannot have one and did not ask for it by itself.
    NotWanted {
        /// Why.
        reason: String,
        /// Whether people should hear of it: the namespace is in the mesh and this pod is not.
        warn: bool,
    },
    /// It asked for a proxy and cannot have one.
    Refused(Refusal),
}

/// A pod with its proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    /// The pod.
    pub pod: Value,
    /// From the pod that was given to this one (RFC 6902); empty when nothing changed.
    pub patch: Vec<Value>,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// Puts a proxy into `pod`, or brings the probes and the order of one that has it up to date: a
/// second call over its own result changes nothing.
pub fn inject(pod: &Value, namespace: &Namespace, settings: &InjectSettings) -> Outcome {
    match try_inject(pod, namespace, settings) {
        Ok(outcome) => outcome,
        Err(refusal) => Outcome::Refused(refusal),
    }
}

fn try_inject(
    original: &Value,
    namespace: &Namespace,
    settings: &InjectSettings,
) -> Result<Outcome, Refusal> {
    let mut pod = Pod::read(original.clone())?;
    if let Decision::No { reason, warn } = decision::decide(&pod, namespace)? {
        return Ok(Outcome::NotWanted { reason, warn });
    }
    let (overrides, mut warnings) = Overrides::read(&pod, namespace)?;
    let mut asked = if pod.is_injected() {
        sidecar::probes_of(&pod)?
    } else {
        decision::refuse_own_names(&pod)?;
        probes::Questions::new()
    };
    if overrides.rewrite_probes {
        probes::rewrite(&mut pod, &mut asked)?;
    } else if probes::asks_the_application(&pod) {
        warnings.push(format!(
            "{}: the kubelet's probes reach the application as plaintext from outside the mesh; where mutual TLS is strict they fail",
            names::REWRITE_PROBES
        ));
    }
    pre_stop::add_sleeps(&mut pod);
    if pod.is_injected() {
        sidecar::update(&mut pod, &asked);
    } else {
        sidecar::add(&mut pod, settings, &overrides, &asked);
    }
    warnings.extend(decision::warnings(&pod));
    let pod = pod.into_value();
    let patch = json_patch::difference(original, &pod);
    Ok(Outcome::Injected(Box::new(Injected {
        pod,
        patch,
        warnings,
    })))
}

#[cfg(test)]
mod tests;
