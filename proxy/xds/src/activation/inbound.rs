//! What this pod takes: an inbound takes effect with all of its policies at exactly the versions it names,
//! until then the previous set holds. A policy that cannot be read is replaced by its last good version, or
//! without one by a denial of all that it guards.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use weft_proto::mesh;
use weft_proxy_config::{Invalid, Policy, PolicyBinding, Writer};

use crate::decode::{self, InboundSpec, PolicyRef};
use crate::kind::Kind;
use crate::resource::{Active, Progress, Wire};

#[derive(Debug, Clone)]
struct HeldPolicy {
    policy: Arc<Policy>,
    /// None for the stand-in of one that cannot be read.
    wire: Option<Wire>,
}

#[derive(Debug, Default)]
struct KnownPolicy {
    good: Option<HeldPolicy>,
    /// The newest version, when it cannot be read.
    refused: Option<String>,
}

#[derive(Debug)]
struct ActiveInbound {
    wire: Wire,
    /// By name, as named by this inbound.
    policies: Vec<(String, HeldPolicy)>,
}

#[derive(Debug, Default)]
pub(super) struct InboundState {
    policies: HashMap<String, KnownPolicy>,
    pending: Option<(Wire, InboundSpec)>,
    active: Option<ActiveInbound>,
    active_names: BTreeSet<String>,
}

impl InboundState {
    pub(super) fn apply_policy(&mut self, name: &str, body: Option<Wire>) -> Result<(), Invalid> {
        let Some(wire) = body else {
            self.policies.remove(name);
            return Ok(());
        };
        let known = self.policies.entry(name.to_owned()).or_default();
        let decoded = decode::message::<mesh::Authorization>(&wire.bytes)
            .and_then(|message| decode::authorization(name, &wire.version, message));
        match decoded {
            Ok(policy) => {
                known.good = Some(HeldPolicy {
                    policy: Arc::new(policy),
                    wire: Some(wire),
                });
                known.refused = None;
                Ok(())
            }
            Err(fault) => {
                known.refused = Some(wire.version);
                Err(fault)
            }
        }
    }

    /// A pod that the control plane does not know keeps what it had.
    pub(super) fn apply(&mut self, body: Option<Wire>) -> Result<(), Invalid> {
        let Some(wire) = body else {
            return Ok(());
        };
        let spec = decode::inbound(decode::message::<mesh::Inbound>(&wire.bytes)?)?;
        self.pending = Some((wire, spec));
        Ok(())
    }

    pub(super) fn settle(&mut self, writer: &Writer) {
        let Some((wire, spec)) = &self.pending else {
            return;
        };
        let held: Option<Vec<_>> = spec
            .policies
            .iter()
            .map(|wanted| Some((wanted.name.clone(), self.hold(wanted)?)))
            .collect();
        let Some(policies) = held else {
            return;
        };
        let bindings = spec
            .policies
            .iter()
            .zip(&policies)
            .map(|(wanted, (_, held))| PolicyBinding {
                policy: Arc::clone(&held.policy),
                ports: wanted.ports.clone(),
            })
            .collect();
        let inbound = spec
            .plain
            .clone()
            .guarded(&wire.version, spec.ports.clone(), bindings);
        writer.set_inbound(inbound);
        self.active_names = policies.iter().map(|(name, _)| name.clone()).collect();
        self.active = Some(ActiveInbound {
            wire: wire.clone(),
            policies,
        });
        self.pending = None;
        let names = &self.active_names;
        self.policies.retain(|name, _| names.contains(name));
    }

    /// The policy that takes the place of `wanted`; None: it is still to come.
    fn hold(&self, wanted: &PolicyRef) -> Option<HeldPolicy> {
        let known = self.policies.get(&wanted.name);
        let good = known.and_then(|known| known.good.as_ref());
        if let Some(good) = good
            && **good.policy.version() == *wanted.version
        {
            return Some(good.clone());
        }
        if known?.refused.as_ref() != Some(&wanted.version) {
            return None;
        }
        Some(good.cloned().unwrap_or_else(|| HeldPolicy {
            policy: Arc::new(Policy::unreadable(&wanted.name, &wanted.version)),
            wire: None,
        }))
    }

    pub(super) fn progress(&self) -> Progress {
        let Some((_, spec)) = &self.pending else {
            return Progress::InForce;
        };
        let missing: Vec<_> = spec
            .policies
            .iter()
            .filter(|wanted| self.hold(wanted).is_none())
            .map(|wanted| format!("policy {} at {}", wanted.name, wanted.version))
            .collect();
        Progress::WaitingFor(missing.join(", "))
    }

    /// Those of the set in force and of the one to come.
    pub(super) fn policy_names(&self) -> BTreeSet<String> {
        let pending = self.pending.iter().flat_map(|(_, spec)| &spec.policies);
        self.active_names
            .iter()
            .cloned()
            .chain(pending.map(|wanted| wanted.name.clone()))
            .collect()
    }

    pub(super) fn active(&self, name: &str) -> Vec<Active> {
        let Some(active) = &self.active else {
            return Vec::new();
        };
        let policies = active.policies.iter().filter_map(|(name, held)| {
            Some(Active {
                kind: Kind::Authorization,
                name: name.clone(),
                wire: held.wire.clone()?,
            })
        });
        let own = Active {
            kind: Kind::Inbound,
            name: name.to_owned(),
            wire: active.wire.clone(),
        };
        policies.chain([own]).collect()
    }
}
