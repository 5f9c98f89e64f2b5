//! The resources that are read from the API server, by their names there.

use std::fmt;

use weft_api::Kind;

/// One resource of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Resource {
    /// What custom resources there are: says which of the others can be watched.
    CustomResourceDefinition,
    /// Where pods run: their zones.
    Node,
    /// Objects of the world.
    Object(Kind),
}

impl Resource {
    /// Those that every API server has.
    pub(crate) const BUILT_IN: [Self; 7] = [
        Self::CustomResourceDefinition,
        Self::Node,
        Self::Object(Kind::Namespace),
        Self::Object(Kind::ServiceAccount),
        Self::Object(Kind::Service),
        Self::Object(Kind::EndpointSlice),
        Self::Object(Kind::Pod),
    ];

    /// Those that are there while their CRD is.
    pub(crate) const CUSTOM: [Self; 9] = [
        Self::Object(Kind::GatewayClass),
        Self::Object(Kind::Gateway),
        Self::Object(Kind::ReferenceGrant),
        Self::Object(Kind::HttpRoute),
        Self::Object(Kind::GrpcRoute),
        Self::Object(Kind::AuthorizationPolicy),
        Self::Object(Kind::PeerAuthentication),
        Self::Object(Kind::TrafficPolicy),
        Self::Object(Kind::MeshConfig),
    ];

    /// The kind as written in its objects.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::CustomResourceDefinition => "CustomResourceDefinition",
            Self::Node => "Node",
            Self::Object(kind) => kind.as_str(),
        }
    }

    fn group(self) -> &'static str {
        match self {
            Self::CustomResourceDefinition => "apiextensions.k8s.io",
            Self::Node => "",
            Self::Object(kind) => kind.group(),
        }
    }

    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::CustomResourceDefinition | Self::Node => "v1",
            Self::Object(kind) => kind.version(),
        }
    }

    /// The plural name, as in paths.
    fn plural(self) -> String {
        match self {
            Self::CustomResourceDefinition => "customresourcedefinitions".to_owned(),
            Self::Node => "nodes".to_owned(),
            Self::Object(kind) => kind.plural(),
        }
    }

    /// The path of the whole collection.
    pub(crate) fn path(self) -> String {
        let (plural, version) = (self.plural(), self.version());
        match self.group() {
            "" => format!("/api/{version}/{plural}"),
            group => format!("/apis/{group}/{version}/{plural}"),
        }
    }
}

/// `pods`, `httproutes.gateway.networking.k8s.io`: as in RBAC, and as its CRD is named.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group() {
            "" => f.write_str(&self.plural()),
            group => write!(f, "{}.{group}", self.plural()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_have_the_names_of_the_api_server() {
        let path = |kind| Resource::Object(kind).path();
        assert_eq!(path(Kind::Pod), "/api/v1/pods");
        assert_eq!(
            path(Kind::EndpointSlice),
            "/apis/discovery.k8s.io/v1/endpointslices"
        );
        assert_eq!(
            path(Kind::TrafficPolicy),
            "/apis/mesh.weft.dev/v1alpha1/trafficpolicies"
        );
        let crds: Vec<String> = Resource::CUSTOM.iter().map(ToString::to_string).collect();
        let own = weft_api::crd::crds().map(|(_, crd)| crd.metadata.name);
        assert!(own.into_iter().flatten().all(|name| crds.contains(&name)));
        assert!(crds.contains(&"grpcroutes.gateway.networking.k8s.io".to_owned()));
    }

    #[test]
    fn everything_that_is_read_may_be_read() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../manifests/install/rbac.yaml"
        );
        let text = std::fs::read_to_string(file).unwrap();
        let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
        let roles = objects
            .iter()
            .filter(|object| object["kind"] == "ClusterRole");
        let rules = roles.flat_map(|role| role["rules"].as_array().unwrap());
        let rules: Vec<_> = rules.collect();
        for resource in Resource::BUILT_IN.into_iter().chain(Resource::CUSTOM) {
            let has = |rule: &serde_json::Value, key: &str, wanted: &str| {
                let mut values = rule[key].as_array().unwrap().iter();
                values.any(|value| value == wanted)
            };
            for verb in ["list", "watch"] {
                let mut rules = rules.iter();
                assert!(
                    rules.any(|rule| has(rule, "apiGroups", resource.group())
                        && has(rule, "resources", &resource.plural())
                        && has(rule, "verbs", verb)),
                    "{verb} {resource}"
                );
            }
        }
    }
}
