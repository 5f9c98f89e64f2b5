//! What a pod takes: how strict it is about mTLS, what its ports speak, and who may do what there.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use weft_identity::SpiffeId;

use crate::authorization::{Action, HttpFacts, Policy, Truth};
use crate::decision::{Decision, DecisionId};
use crate::path;
use crate::protocol::{MtlsMode, Protocol};
use crate::route::RequestView;

/// Who is at the other end, and of which port.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// The identity it proved; None: plaintext.
    pub identity: Option<&'a SpiffeId>,
    /// Its address.
    pub address: IpAddr,
    /// The port on the pod that it wants.
    pub port: u16,
}

/// How a port is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundPort {
    /// The port; 0 for [`Inbound::port`] of one that is not listed.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// An HTTP route leads here: opaque bytes are refused.
    pub routed: bool,
    /// Whether plaintext is taken.
    pub mtls: MtlsMode,
}

impl InboundPort {
    /// Declared or routed as HTTP: opaque bytes are refused, and nothing is dialled before the first bytes.
    pub fn is_http(&self) -> bool {
        self.routed || self.protocol.is_http()
    }
}

/// A policy and the ports of the pod that it is limited to.
#[derive(Debug, Clone)]
pub struct PolicyBinding {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Empty: all ports.
    pub ports: SmallVec<[u16; 2]>,
}

impl PolicyBinding {
    fn guards(&self, port: u16) -> bool {
        self.ports.is_empty() || self.ports.contains(&port)
    }
}

/// All that holds for connections into this pod, one consistent set.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// Its service account.
    pub service_account: Arc<str>,
    /// The name of its workload, e.g. of the Deployment.
    pub workload: Arc<str>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Of ports that are not listed.
    pub mtls: MtlsMode,
    /// It is being deleted: say goodbye, but go on accepting.
    pub terminating: bool,
    /// Everybody knows that it is gone: accepting may end.
    pub drained: bool,
    ports: Vec<InboundPort>,
    policies: Vec<PolicyBinding>,
    default_deny: DecisionId,
}

impl Inbound {
    /// Adds the ports and policies to the plain fields of `self`, which is a set at `version`.
    #[must_use]
    pub fn guarded(
        mut self,
        version: &str,
        mut ports: Vec<InboundPort>,
        policies: Vec<PolicyBinding>,
    ) -> Self {
        ports.sort_by_key(|port| port.port);
        self.ports = ports;
        self.policies = policies;
        self.default_deny = DecisionId::default_deny(version);
        self
    }

    /// A pod without ports and policies.
    pub fn new(namespace: &str, pod: &str, mtls: MtlsMode) -> Self {
        Self {
            namespace: namespace.into(),
            pod: pod.into(),
            service_account: "".into(),
            workload: "".into(),
            addresses: Vec::new(),
            mtls,
            terminating: false,
            drained: false,
            ports: Vec::new(),
            policies: Vec::new(),
            default_deny: DecisionId::default_deny(""),
        }
    }

    /// How `port` is treated, listed or not.
    pub fn port(&self, port: u16) -> InboundPort {
        match self.ports.binary_search_by_key(&port, |p| p.port) {
            Ok(found) => self.ports[found],
            Err(_) => InboundPort {
                port,
                protocol: Protocol::Detect,
                routed: false,
                mtls: self.mtls,
            },
        }
    }

    /// The ports that are listed.
    pub fn ports(&self) -> &[InboundPort] {
        &self.ports
    }

    /// The policies, with the ports they are limited to.
    pub fn policies(&self) -> &[PolicyBinding] {
        &self.policies
    }

    /// Before it is known whether HTTP will follow: refuses only what no request could pass. One of the
    /// other two decides in the end.
    pub fn authorize_handshake(&self, peer: &Peer<'_>) -> Decision {
        self.decide(peer, None, Stage::Early)
    }

    /// Opaque bytes: conditions on HTTP are unknown.
    pub fn authorize_connection(&self, peer: &Peer<'_>) -> Decision {
        self.decide(peer, None, Stage::Final)
    }

    /// One request.
    pub fn authorize_request(&self, peer: &Peer<'_>, request: &RequestView<'_>) -> Decision {
        if self.policies.is_empty() {
            return Decision::Allow;
        }
        let path = path::normalize(request.path).ok();
        let host = request.host.map_or(Cow::Borrowed(""), bare_host);
        let literal = path::literal(request.path);
        let facts = HttpFacts::new(request, path.as_deref(), literal.as_deref(), &host);
        self.decide(peer, Some(&facts), Stage::Final)
    }

    fn decide(&self, peer: &Peer<'_>, request: Option<&HttpFacts<'_>>, stage: Stage) -> Decision {
        let guarding = |action| {
            self.policies.iter().filter(move |binding| {
                binding.policy.action() == action && binding.guards(peer.port)
            })
        };
        for binding in guarding(Action::Deny) {
            match (binding.policy.matching(peer, request), stage) {
                ((Truth::True, Some(id)), _) | ((Truth::Unknown, Some(id)), Stage::Final) => {
                    return Decision::Deny(id.clone());
                }
                _ => {}
            }
        }
        let mut guarded = false;
        for binding in guarding(Action::Allow) {
            guarded = true;
            match (binding.policy.matching(peer, request).0, stage) {
                (Truth::True, _) | (Truth::Unknown, Stage::Early) => return Decision::Allow,
                _ => {}
            }
        }
        if guarded {
            Decision::Deny(self.default_deny.clone())
        } else {
            Decision::Allow
        }
    }
}

/// Whether what is unknown now may become known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Early,
    Final,
}

/// The host of an authority in lower case: without user, port and brackets' port.
fn bare_host(authority: &str) -> Cow<'_, str> {
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let host = match (host.rfind(':'), host.rfind(']')) {
        (Some(colon), Some(bracket)) if colon < bracket => host,
        (Some(colon), _) => &host[..colon],
        (None, _) => host,
    };
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests;
