//! The delta protocol of one stream, without the stream: responses and time go in, requests come out.
//!
//! An acknowledgement means that the workers run it. A response whose resources wait for others stays
//! unacknowledged until they are in force, or until [`PATIENCE`] is over: then the ones that still wait are
//! refused by name, the old ones stay, and should they become whole later they are asked for again, so that
//! the control plane learns of it.
//!
//! The control plane sends nothing of a type while a response of that type is unacknowledged. A service that
//! waits for another one would wait for ever: when names of a type are added meanwhile, those that wait are
//! subscribed to again together with them (which makes them due again, so they do not count as
//! confirmed), and the response is acknowledged after that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use prost::Message;
use tokio::time::Instant;
use weft_identity::PodRef;
use weft_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use weft_proto::envoy::config::core::v3::Node;
use weft_proto::google::rpc::Status as RpcStatus;
use weft_proto::mesh::Refusal;
use weft_proto::type_url;
use weft_proxy_config::Invalid;

use crate::activation::{Activation, Names};
use crate::kind::Kind;
use crate::resource::{Progress, Update, Wire};

/// How long a resource may wait for what it refers to.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// `google.rpc.Code.INVALID_ARGUMENT`.
const INVALID_ARGUMENT: i32 = 3;

#[derive(Debug)]
struct Unacknowledged {
    kind: Kind,
    nonce: String,
    names: BTreeSet<String>,
    refused: BTreeMap<String, Invalid>,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Session {
    pod: PodRef,
    subscribed: Names,
    greeted: BTreeSet<Kind>,
    unacknowledged: Vec<Unacknowledged>,
    /// Since when a name is waiting for others.
    waiting: HashMap<(Kind, String), Instant>,
    /// Names that were refused because they waited too long.
    overdue: BTreeSet<(Kind, String)>,
    /// What is refused in its newest state.
    refused: BTreeMap<(Kind, String), Invalid>,
}

impl Session {
    pub fn new(pod: PodRef) -> Self {
        Self {
            pod,
            subscribed: Names::new(),
            greeted: BTreeSet::new(),
            unacknowledged: Vec::new(),
            waiting: HashMap::new(),
            overdue: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Takes in a response and puts it in force as far as it is whole.
    pub fn receive(
        &mut self,
        response: DeltaDiscoveryResponse,
        activation: &mut Activation,
        now: Instant,
    ) -> Vec<DeltaDiscoveryRequest> {
        let Some(kind) = Kind::from_type_url(&response.type_url) else {
            return vec![DeltaDiscoveryRequest {
                type_url: response.type_url,
                response_nonce: response.nonce,
                error_detail: Some(RpcStatus {
                    code: INVALID_ARGUMENT,
                    message: "this proxy does not know the type".to_owned(),
                    details: Vec::new(),
                }),
                ..Default::default()
            }];
        };
        let mut refused = BTreeMap::new();
        let mut names: BTreeSet<String> = response.removed_resources.iter().cloned().collect();
        let mut updates = Vec::with_capacity(response.resources.len());
        for resource in response.resources {
            let name = resource.name.clone();
            names.insert(name.clone());
            self.overdue.remove(&(kind, name.clone()));
            match update(kind, resource) {
                Ok(update) => updates.push(update),
                Err(fault) => {
                    refused.insert(name, fault);
                }
            }
        }
        refused.extend(activation.apply(kind, updates, response.removed_resources));
        for name in &names {
            match refused.get(name) {
                Some(fault) => self.refused.insert((kind, name.clone()), fault.clone()),
                None => self.refused.remove(&(kind, name.clone())),
            };
        }
        self.unacknowledged.push(Unacknowledged {
            kind,
            nonce: response.nonce,
            names,
            refused,
        });
        self.refresh(activation, now)
    }

    /// What is to be said now: what is needed or no longer needed, what is in force, what waits in vain.
    pub fn refresh(&mut self, activation: &Activation, now: Instant) -> Vec<DeltaDiscoveryRequest> {
        let mut requests = Vec::new();
        let mut again = self.settled_late(activation);
        let added = self.added(activation);
        for mut response in std::mem::take(&mut self.unacknowledged) {
            let waiting = self.waiting_names(&mut response, activation, now);
            let kind = response.kind;
            if !waiting.is_empty() && !added.contains_key(&kind) {
                self.unacknowledged.push(response);
                continue;
            }
            if !waiting.is_empty() {
                again.entry(kind).or_default().extend(waiting);
            }
            // After the subscription that makes the waiting ones due again.
            requests.push(acknowledgement(response));
        }
        let mut all = self.subscribe(activation, again);
        all.extend(requests);
        all
    }

    /// When [`Self::refresh`] has something to say because of the time.
    pub fn next_deadline(&self) -> Option<Instant> {
        let held = |key: &(Kind, String)| {
            self.unacknowledged
                .iter()
                .any(|response| response.kind == key.0 && response.names.contains(&key.1))
        };
        self.waiting
            .iter()
            .filter(|(key, _)| held(key))
            .map(|(_, since)| *since + PATIENCE)
            .min()
    }

    /// Whether everything that was sent is in force or refused.
    pub fn is_confirmed(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    /// What is refused.
    pub fn refused(&self) -> impl Iterator<Item = (Kind, &str, &Invalid)> {
        self.refused
            .iter()
            .map(|((kind, name), fault)| (*kind, name.as_str(), fault))
    }

    /// Names subscribed to.
    pub fn subscribed(&self) -> &Names {
        &self.subscribed
    }

    /// Those of a response that are not in force yet and may still wait.
    fn waiting_names(
        &mut self,
        response: &mut Unacknowledged,
        activation: &Activation,
        now: Instant,
    ) -> BTreeSet<String> {
        let mut waiting = BTreeSet::new();
        for name in &response.names {
            if response.refused.contains_key(name) {
                continue;
            }
            let key = (response.kind, name.clone());
            match activation.progress(response.kind, name) {
                Progress::InForce => {
                    self.waiting.remove(&key);
                }
                Progress::WaitingFor(what) => {
                    let since = *self.waiting.entry(key.clone()).or_insert(now);
                    if now < since + PATIENCE {
                        waiting.insert(name.clone());
                        continue;
                    }
                    self.waiting.remove(&key);
                    let fault = Invalid::new("", format!("still waits for {what}"));
                    self.overdue.insert(key.clone());
                    self.refused.insert(key, fault.clone());
                    response.refused.insert(name.clone(), fault);
                }
            }
        }
        waiting
    }

    /// Names that were refused for waiting too long and have come into force since.
    fn settled_late(&mut self, activation: &Activation) -> Names {
        let mut settled = Names::new();
        self.overdue.retain(|(kind, name)| {
            let late = activation.progress(*kind, name) == Progress::InForce;
            if late {
                settled.entry(*kind).or_default().insert(name.clone());
            }
            !late
        });
        for (kind, names) in &settled {
            for name in names {
                self.refused.remove(&(*kind, name.clone()));
            }
        }
        settled
    }

    fn added(&self, activation: &Activation) -> Names {
        let mut added = activation.desired();
        for (kind, names) in &mut added {
            if let Some(subscribed) = self.subscribed.get(kind) {
                names.retain(|name| !subscribed.contains(name));
            }
        }
        added.retain(|_, names| !names.is_empty());
        added
    }

    /// One request for each type whose names have changed, or that has names to be sent `again`.
    fn subscribe(&mut self, activation: &Activation, again: Names) -> Vec<DeltaDiscoveryRequest> {
        let desired = activation.desired();
        let mut requests = Vec::new();
        for kind in Kind::ALL {
            let empty = BTreeSet::new();
            let wanted = desired.get(&kind).unwrap_or(&empty);
            let subscribed = self.subscribed.get(&kind).unwrap_or(&empty);
            let mut add: BTreeSet<String> = wanted.difference(subscribed).cloned().collect();
            let repeated = again.get(&kind).unwrap_or(&empty);
            add.extend(repeated.intersection(wanted).cloned());
            let drop: Vec<String> = subscribed.difference(wanted).cloned().collect();
            if add.is_empty() && drop.is_empty() {
                continue;
            }
            for name in &drop {
                self.forget(kind, name);
            }
            self.subscribed.insert(kind, wanted.clone());
            requests.push(self.request(kind, add, drop, activation));
        }
        requests
    }

    fn forget(&mut self, kind: Kind, name: &str) {
        let key = (kind, name.to_owned());
        self.waiting.remove(&key);
        self.overdue.remove(&key);
        self.refused.remove(&key);
    }

    fn request(
        &mut self,
        kind: Kind,
        subscribe: BTreeSet<String>,
        unsubscribe: Vec<String>,
        activation: &Activation,
    ) -> DeltaDiscoveryRequest {
        let node = self.greeted.is_empty().then(|| Node {
            id: self.pod.to_string(),
            user_agent_name: "weft-proxy".to_owned(),
            user_agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        });
        let versions = if self.greeted.insert(kind) {
            held_versions(kind, &subscribe, activation)
        } else {
            BTreeMap::new()
        };
        DeltaDiscoveryRequest {
            node,
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: subscribe.into_iter().collect(),
            resource_names_unsubscribe: unsubscribe,
            initial_resource_versions: versions,
            ..Default::default()
        }
    }
}

/// What is in force already. Trust anchors are always sent anew: what is trusted here may be more than the
/// last bundle said.
fn held_versions(
    kind: Kind,
    names: &BTreeSet<String>,
    activation: &Activation,
) -> BTreeMap<String, String> {
    if kind == Kind::TrustBundle {
        return BTreeMap::new();
    }
    activation
        .active()
        .into_iter()
        .filter(|active| active.kind == kind && names.contains(&active.name))
        .map(|active| (active.name, active.wire.version))
        .collect()
}

fn update(kind: Kind, resource: Resource) -> Result<Update, Invalid> {
    let body = resource
        .resource
        .map(|any| {
            if any.type_url != kind.type_url() {
                let reason = format!("{:?} in a response of another type", any.type_url);
                return Err(Invalid::new("", reason));
            }
            Ok(Wire {
                version: resource.version,
                bytes: any.value.into(),
            })
        })
        .transpose()?;
    Ok(Update {
        name: resource.name,
        body,
    })
}

fn acknowledgement(response: Unacknowledged) -> DeltaDiscoveryRequest {
    let details: Vec<_> = response
        .refused
        .into_iter()
        .map(|(resource, fault)| {
            let refusal = Refusal {
                resource,
                field: fault.field,
                reason: fault.reason,
            };
            prost_types::Any {
                type_url: type_url::REFUSAL.to_owned(),
                value: refusal.encode_to_vec(),
            }
        })
        .collect();
    let error_detail = (!details.is_empty()).then(|| RpcStatus {
        code: INVALID_ARGUMENT,
        message: format!("{} resources are not in force", details.len()),
        details,
    });
    DeltaDiscoveryRequest {
        type_url: response.kind.type_url().to_owned(),
        response_nonce: response.nonce,
        error_detail,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests;
