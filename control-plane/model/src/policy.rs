//! `AuthorizationPolicy` and `PeerAuthentication`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use crate::traffic::TargetRef;
use crate::workload::Labels;

/// The pods a security policy holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum PolicyTargets {
    /// Neither selector nor targetRefs: the policy's namespace; in the root namespace, the mesh.
    #[default]
    Everything,
    /// `selector.matchLabels`: pods of the policy's namespace; in the root namespace, of the mesh.
    Selector(Labels),
    /// `targetRefs`: the pods of these Services, at their target ports.
    References(Vec<TargetRef>),
}

/// What a policy does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Action {
    /// Lets it pass.
    Allow,
    /// Refuses it, whatever an ALLOW says.
    Deny,
}

/// An `AuthorizationPolicy`. Without rules it matches nothing: an ALLOW then refuses everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorizationPolicy {
    /// `action`.
    pub action: Action,
    /// Whom it holds for.
    pub targets: PolicyTargets,
    /// `rules`; one that matches suffices.
    pub rules: Vec<AuthorizationRule>,
}

/// One rule: some `from` (if any) and some `to` (if any) must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuthorizationRule {
    /// `name`; the position stands in where there is none.
    pub name: Option<Arc<str>>,
    /// `from`.
    pub from: Vec<Source>,
    /// `to`.
    pub to: Vec<Operation>,
}

/// Who calls. Every field that is given must hold: any of its values, or, in a `not_` field, none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Source {
    /// SPIFFE IDs; `*` for any, `prefix*`, `*suffix`.
    pub principals: Vec<Arc<str>>,
    /// Namespaces; `*` as above.
    pub namespaces: Vec<Arc<str>>,
    /// `namespace/name`, or `name` in the policy's own namespace.
    pub service_accounts: Vec<Arc<str>>,
    /// Addresses of the peer's connection.
    pub ip_blocks: Vec<IpNet>,
    /// None of these.
    pub not_principals: Vec<Arc<str>>,
    /// None of these.
    pub not_namespaces: Vec<Arc<str>>,
    /// None of these.
    pub not_service_accounts: Vec<Arc<str>>,
    /// None of these.
    pub not_ip_blocks: Vec<IpNet>,
}

/// What is asked for. Every field that is given must hold: any of its values, or, in a `not_`
/// field, none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// HTTP methods.
    pub methods: Vec<Arc<str>>,
    /// Paths, normalised; `*` for any, `prefix*`, `*suffix`.
    pub paths: Vec<Arc<str>>,
    /// Hosts (`Host`, `:authority`), without port; `*` as above.
    pub hosts: Vec<Arc<str>>,
    /// Ports of the workload.
    pub ports: Vec<u16>,
    /// Headers; all of these must match.
    pub headers: Vec<HeaderCondition>,
    /// None of these.
    pub not_methods: Vec<Arc<str>>,
    /// None of these.
    pub not_paths: Vec<Arc<str>>,
    /// None of these.
    pub not_hosts: Vec<Arc<str>>,
    /// None of these.
    pub not_ports: Vec<u16>,
    /// None of these.
    pub not_headers: Vec<HeaderCondition>,
}

/// A header with one of some values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderCondition {
    /// Name, case ignored.
    pub name: Arc<str>,
    /// Values, `*` as in paths; none: it is enough that the header is there.
    pub values: Vec<Arc<str>>,
}

/// What a workload accepts from outside the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum MtlsMode {
    /// mTLS, and plaintext too.
    #[default]
    Permissive,
    /// mTLS only.
    Strict,
}

/// A `PeerAuthentication`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PeerAuthentication {
    /// `selector.matchLabels`; empty: the namespace, in the root namespace the mesh.
    pub selector: Labels,
    /// `mtls.mode`; `None` leaves it to the next wider scope.
    pub mode: Option<MtlsMode>,
    /// `portLevelMtls`, by the workload's port.
    pub ports: BTreeMap<u16, MtlsMode>,
}
