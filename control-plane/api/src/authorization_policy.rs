//! `AuthorizationPolicy`: who may call what.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::PolicyStatus;
use crate::target::{TargetRef, WorkloadSelector};

/// A word, with a `*` at its beginning or end at most.
const WORD: &str = r"^(\*|\*?[^*]+\*?)$";
/// The same for SPIFFE IDs.
const PRINCIPAL: &str = r"^(spiffe://[^*]*\*?|\*[^*]*\*?)$";
/// The same for paths.
const PATH: &str = r"^(/[^*]*\*?|\*[^*]*\*?)$";
/// RFC 9110, section 5.1.
const HEADER_NAME: &str = r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$";

/// Says who may call a workload and what they may ask of it.
///
/// As soon as one ALLOW policy applies to a workload, everything that no ALLOW policy matches is
/// refused there. DENY policies are looked at first and win. A policy that names neither
/// `selector` nor `targetRefs` applies to every workload of its namespace (in the root namespace:
/// of the mesh).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "mesh.weft.dev",
    version = "v1alpha1",
    kind = "AuthorizationPolicy",
    plural = "authorizationpolicies",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "ap",
    category = "weft",
    doc = "Says who may call a workload and what they may ask of it.",
    printcolumn = r#"{"name":"Action","type":"string","jsonPath":".spec.action"}"#,
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.ancestors[*].conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[x_kube(validation = Rule::new("!(has(self.selector) && has(self.targetRefs))").message("selector and targetRefs exclude each other"))]
pub struct AuthorizationPolicySpec {
    /// What happens to a request that one of the rules matches: ALLOW (the default) or DENY.
    #[serde(default)]
    pub action: Action,
    /// The pods that the policy applies to, by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<WorkloadSelector>,
    /// The Services that the policy applies to: their pods, at the Service's target ports,
    /// whatever address was dialled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Option<Vec<TargetRef>>,
    /// The policy matches when one of these does. An ALLOW policy without rules allows nothing;
    /// the rule `{}` matches everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub rules: Option<Vec<AuthorizationRule>>,
}

/// What a policy does with what it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// What matches may pass; what no ALLOW policy matches is refused.
    #[default]
    Allow,
    /// What matches is refused, whatever else allows it.
    Deny,
}

/// Matches a request that comes from one of `from` and asks for one of `to`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationRule {
    /// A name for the rule, shown by decisions that rest on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,
    /// Who calls; one of these must match. Left out: anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub from: Option<Vec<Source>>,
    /// What is asked for; one of these must match. Left out: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub to: Option<Vec<Operation>>,
}

/// A caller: every field that is given must match; a field matches when one of its entries does.
///
/// Principals, namespaces and service accounts are those of the caller's certificate: a caller
/// without one (plaintext) has none, and is matched by none of them, `*` included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct Source {
    /// SPIFFE IDs, like `spiffe://cluster.local/ns/shop/sa/web`; with a `*` at the end or the
    /// beginning, every ID that begins or ends with the rest; `*`, any authenticated caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(max = 2048), pattern(PRINCIPAL))
    )]
    pub principals: Option<Vec<String>>,
    /// SPIFFE IDs that must not be the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        inner(length(max = 2048), pattern(PRINCIPAL))
    )]
    pub not_principals: Option<Vec<String>>,
    /// Namespaces of the mesh that the caller runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 512), pattern(WORD)))]
    pub namespaces: Option<Vec<String>>,
    /// Namespaces that the caller must not run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 512), pattern(WORD)))]
    pub not_namespaces: Option<Vec<String>>,
    /// Service accounts that the caller runs as: `name` in the policy's namespace, or
    /// `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 512), pattern(WORD)))]
    pub service_accounts: Option<Vec<String>>,
    /// Service accounts that the caller must not run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 512), pattern(WORD)))]
    pub not_service_accounts: Option<Vec<String>>,
    /// Addresses that the connection comes from: an address or a CIDR block, IPv4 or IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 2, max = 49)))]
    pub ip_blocks: Option<Vec<String>>,
    /// Addresses that the connection must not come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(min = 2, max = 49)))]
    pub not_ip_blocks: Option<Vec<String>>,
}

/// What is asked for: every field that is given must match; a field matches when one of its
/// entries does. Everything but the ports needs a request to be looked into: for opaque bytes an
/// ALLOW with such a field never matches, and a DENY matches by its other fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct Operation {
    /// HTTP methods, in capitals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(max = 512), pattern(WORD)))]
    pub methods: Option<Vec<String>>,
    /// HTTP methods that must not be the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(max = 512), pattern(WORD)))]
    pub not_methods: Option<Vec<String>>,
    /// Paths without the query, after normalisation: exact (`/health`), or with a `*` at the end
    /// (`/api/*`) or the beginning (`*.png`). gRPC: `/package.Service/Method`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 2048), pattern(PATH)))]
    pub paths: Option<Vec<String>>,
    /// Paths that must not be the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 2048), pattern(PATH)))]
    pub not_paths: Option<Vec<String>>,
    /// Hosts that the request names (`Host`, `:authority`), without the port: exact, or with a `*`
    /// at its beginning or end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 512), pattern(WORD)))]
    pub hosts: Option<Vec<String>>,
    /// Hosts that must not be the request's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 512), pattern(WORD)))]
    pub not_hosts: Option<Vec<String>>,
    /// Headers that the request must carry, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub headers: Option<Vec<HeaderCondition>>,
    /// Headers that the request must not carry, none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub not_headers: Option<Vec<HeaderCondition>>,
    /// Ports of the pod that the connection goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(range(min = 1)))]
    pub ports: Option<Vec<u16>>,
    /// Ports that the connection must not go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(range(min = 1)))]
    pub not_ports: Option<Vec<u16>>,
}

/// A header that a request must carry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderCondition {
    /// The header's name; case does not matter.
    #[schemars(length(max = 256), pattern(HEADER_NAME))]
    pub name: String,
    /// Values, one of which the header must have: exact, or with a `*` at the beginning or end.
    /// Left out: it is enough that the header is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub values: Option<Vec<String>>,
}
