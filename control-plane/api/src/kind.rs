//! The kinds that can stand in a file: those Weft reads, those it knows and has no use for, and
//! the rest.

use std::fmt;

use crate::{GATEWAY_GROUP, GROUP, LOCAL_GROUP};

/// A kind that Weft reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Namespace,
    ServiceAccount,
    Service,
    EndpointSlice,
    Pod,
    Deployment,
    ConfigMap,
    GatewayClass,
    Gateway,
    ReferenceGrant,
    HttpRoute,
    GrpcRoute,
    AuthorizationPolicy,
    PeerAuthentication,
    TrafficPolicy,
    MeshConfig,
    ClusterIps,
}

impl Kind {
    /// Every kind that Weft reads.
    pub const ALL: [Self; 17] = [
        Self::Namespace,
        Self::ServiceAccount,
        Self::Service,
        Self::EndpointSlice,
        Self::Pod,
        Self::Deployment,
        Self::ConfigMap,
        Self::GatewayClass,
        Self::Gateway,
        Self::ReferenceGrant,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::AuthorizationPolicy,
        Self::PeerAuthentication,
        Self::TrafficPolicy,
        Self::MeshConfig,
        Self::ClusterIps,
    ];

    /// The API group, "" for the core one.
    pub fn group(self) -> &'static str {
        match self {
            Self::Namespace
            | Self::ServiceAccount
            | Self::Service
            | Self::Pod
            | Self::ConfigMap => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::Deployment => "apps",
            Self::GatewayClass
            | Self::Gateway
            | Self::ReferenceGrant
            | Self::HttpRoute
            | Self::GrpcRoute => GATEWAY_GROUP,
            Self::AuthorizationPolicy
            | Self::PeerAuthentication
            | Self::TrafficPolicy
            | Self::MeshConfig => GROUP,
            Self::ClusterIps => LOCAL_GROUP,
        }
    }

    /// The version that Weft reads.
    pub fn version(self) -> &'static str {
        match self {
            // Its v1 has the same shape, but only newer releases of the Gateway API serve it.
            Self::ReferenceGrant => "v1beta1",
            _ if self.group() == GROUP => crate::VERSION,
            _ => "v1",
        }
    }

    /// The plural name, as in paths and RBAC.
    pub fn plural(self) -> String {
        let kind = self.as_str().to_ascii_lowercase();
        match (kind.strip_suffix("ay"), kind.strip_suffix('y')) {
            (None, Some(stem)) => format!("{stem}ies"),
            _ if kind.ends_with('s') => format!("{kind}es"),
            _ => format!("{kind}s"),
        }
    }

    /// Whether objects of the kind lie in no namespace.
    pub fn is_cluster_wide(self) -> bool {
        matches!(
            self,
            Self::Namespace | Self::GatewayClass | Self::MeshConfig
        )
    }

    /// `apiVersion` as it is written.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }

    /// `kind` as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            Self::Deployment => "Deployment",
            Self::ConfigMap => "ConfigMap",
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::TrafficPolicy => "TrafficPolicy",
            Self::MeshConfig => "MeshConfig",
            Self::ClusterIps => "ClusterIPs",
        }
    }

    /// Whether objects of the kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        !self.is_cluster_wide() && self != Self::ClusterIps
    }

    /// Other versions of the kind that have the same shape and are read as this one.
    fn reads_version(self, version: &str) -> bool {
        let has_had_a_beta = matches!(
            self,
            Self::GatewayClass | Self::Gateway | Self::ReferenceGrant | Self::HttpRoute
        );
        version == self.version() || (has_had_a_beta && ["v1", "v1beta1"].contains(&version))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the `apiVersion` and `kind` of an object say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// A kind that Weft reads.
    Read(Kind),
    /// A kind that Weft reads, in a version that it does not.
    OtherVersion(Kind),
    /// A kind that Weft reads, under the `apiVersion` of another group.
    OtherGroup(Kind),
    /// A kind of Kubernetes or the Gateway API that has nothing to tell a mesh.
    NoUse,
    /// A kind of the Gateway API that Weft does not do yet.
    NotYet,
    /// A kind that Weft's or the Gateway API's group does not have.
    UnknownInOwnGroup,
    /// A kind of somebody else's.
    Foreign,
}

/// Says what kind of object `apiVersion` and `kind` announce.
pub fn recognise(api_version: &str, kind: &str) -> Recognised {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if let Some(known) = Kind::ALL
        .into_iter()
        .find(|known| known.group() == group && known.as_str() == kind)
    {
        return if known.reads_version(version) {
            Recognised::Read(known)
        } else {
            Recognised::OtherVersion(known)
        };
    }
    match group {
        GATEWAY_GROUP if NOT_YET.contains(&kind) => Recognised::NotYet,
        GATEWAY_GROUP | GROUP | LOCAL_GROUP => Recognised::UnknownInOwnGroup,
        _ if is_kubernetes(group, kind) => Recognised::NoUse,
        _ => match Kind::ALL.into_iter().find(|known| known.as_str() == kind) {
            Some(known) if group.is_empty() || KUBERNETES_GROUPS.contains(&group) => {
                Recognised::OtherGroup(known)
            }
            _ => Recognised::Foreign,
        },
    }
}

/// Kinds of the Gateway API whose effect somebody who writes one expects, and would miss.
const NOT_YET: [&str; 6] = [
    "TLSRoute",
    "TCPRoute",
    "UDPRoute",
    "ListenerSet",
    "BackendTLSPolicy",
    "BackendTrafficPolicy",
];

/// Groups that old manifests put today's kinds into, and those of today.
const KUBERNETES_GROUPS: [&str; 5] = [
    "extensions",
    "apps",
    "discovery.k8s.io",
    "networking.k8s.io",
    "batch",
];

/// The kinds that Kubernetes itself serves and a mesh has no use for.
fn is_kubernetes(group: &str, kind: &str) -> bool {
    let kinds: &[&str] = match group {
        "" => &[
            "Secret",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Endpoints",
            "Event",
            "LimitRange",
            "Node",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
        ],
        "apps" => &[
            "DaemonSet",
            "ReplicaSet",
            "StatefulSet",
            "ControllerRevision",
        ],
        "batch" => &["Job", "CronJob"],
        "autoscaling" => &["HorizontalPodAutoscaler"],
        "policy" => &["PodDisruptionBudget"],
        "networking.k8s.io" => &[
            "Ingress",
            "IngressClass",
            "NetworkPolicy",
            "IPAddress",
            "ServiceCIDR",
        ],
        "rbac.authorization.k8s.io" => {
            &["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"]
        }
        "storage.k8s.io" => &["StorageClass", "CSIDriver", "CSINode", "VolumeAttachment"],
        "scheduling.k8s.io" => &["PriorityClass"],
        "node.k8s.io" => &["RuntimeClass"],
        "coordination.k8s.io" => &["Lease"],
        "certificates.k8s.io" => &["CertificateSigningRequest"],
        "apiextensions.k8s.io" => &["CustomResourceDefinition"],
        "apiregistration.k8s.io" => &["APIService"],
        "admissionregistration.k8s.io" => &[
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
        ],
        _ => &[],
    };
    kinds.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        for (api_version, kind, expected) in [
            ("v1", "Service", Recognised::Read(Kind::Service)),
            ("apps/v1", "Deployment", Recognised::Read(Kind::Deployment)),
            (
                "gateway.networking.k8s.io/v1",
                "HTTPRoute",
                Recognised::Read(Kind::HttpRoute),
            ),
            (
                "gateway.networking.k8s.io/v1beta1",
                "HTTPRoute",
                Recognised::Read(Kind::HttpRoute),
            ),
            (
                "gateway.networking.k8s.io/v1alpha2",
                "GRPCRoute",
                Recognised::OtherVersion(Kind::GrpcRoute),
            ),
            (
                "mesh.weft.dev/v1",
                "TrafficPolicy",
                Recognised::OtherVersion(Kind::TrafficPolicy),
            ),
            ("v1", "Deployment", Recognised::OtherGroup(Kind::Deployment)),
            (
                "extensions/v1beta1",
                "Deployment",
                Recognised::OtherGroup(Kind::Deployment),
            ),
            ("v1", "Secret", Recognised::NoUse),
            ("networking.k8s.io/v1", "Ingress", Recognised::NoUse),
            (
                "gateway.networking.k8s.io/v1",
                "TLSRoute",
                Recognised::NotYet,
            ),
            (
                "gateway.networking.k8s.io/v1",
                "ReferenceGrant",
                Recognised::Read(Kind::ReferenceGrant),
            ),
            (
                "gateway.networking.k8s.io/v1",
                "HttpRoute",
                Recognised::UnknownInOwnGroup,
            ),
            (
                "mesh.weft.dev/v1alpha1",
                "Frobnicator",
                Recognised::UnknownInOwnGroup,
            ),
            ("serving.knative.dev/v1", "Service", Recognised::Foreign),
            (
                "networking.istio.io/v1",
                "VirtualService",
                Recognised::Foreign,
            ),
        ] {
            assert_eq!(
                recognise(api_version, kind),
                expected,
                "{api_version} {kind}"
            );
        }
    }
}
