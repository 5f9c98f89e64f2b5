//! JSON of the API server → objects in the model's form, one at a time: a page of 500 pods never
//! stands there as 500 full pods.
//!
//! Kubernetes' own kinds are read as far as the conversion looks at them ([`Fields`]); of Weft's
//! and the Gateway API's everything is, because an unknown field is a fault.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;
use weft_api::kubernetes::{EndpointSlice, Namespace, Pod, Service, ServiceAccount};
use weft_api::{ApiObject, Fault, Kind};
use weft_model::membership::{INJECT, MIRROR, STATUS};
use weft_model::{Diagnostic as Finding, ObjectKey, Problem, Severity, Spec, Subject};

use super::projection::Fields::{All, Only};
use super::projection::{Fields, Known, Projected};
use super::resource::Resource;
use crate::convert::convert;
use crate::diagnostic::Diagnostic;
use crate::locate::Locator;
use crate::read::{problems, understand};

/// Where a pod's node says in which zone it is.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// One object as it came.
#[derive(Clone, Debug)]
pub(crate) struct Decoded {
    pub(crate) name: Name,
    /// `metadata.resourceVersion`.
    pub(crate) version: Option<String>,
    pub(crate) content: Content,
}

/// Names an object within its resource: namespace (empty where there is none) and name.
pub(crate) type Name = (String, String);

/// What an object says.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Object(Box<Read>),
    /// The zone of a node.
    Node(Option<String>),
    /// The versions in which a custom resource is served; none until it is established.
    Definition(Vec<String>),
}

/// An object of the world.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    /// As far as it can be read.
    pub(crate) spec: Option<Spec>,
    pub(crate) faults: Vec<Fault>,
    /// `metadata.generation`; some kinds have none.
    pub(crate) generation: Option<u64>,
    /// `metadata.creationTimestamp` in Unix seconds.
    pub(crate) created: i64,
    /// The node of a pod.
    pub(crate) node: Option<String>,
    /// Of a kind whose status the mesh writes.
    pub(crate) shown: Option<Showing>,
}

impl Read {
    /// What is wrong with the object of this name.
    pub(super) fn diagnostics(&self, key: &ObjectKey) -> Vec<Diagnostic> {
        let locator = Locator::default();
        let located = |problem: Problem| {
            locator.locate(&Finding {
                subject: Subject::from(key),
                field: problem.field,
                severity: Severity::Error,
                reason: problem.reason,
                message: problem.message,
            })
        };
        problems(&self.faults).into_iter().map(located).collect()
    }
}

/// The parts of an object that its status is about.
#[derive(Clone, Debug)]
pub(crate) struct Showing {
    /// `spec.parentRefs` or `spec.targetRefs`.
    pub(crate) references: Vec<Value>,
    pub(crate) status: Value,
}

const METADATA: Fields = Only(&[
    ("name", All),
    ("namespace", All),
    ("resourceVersion", All),
    ("generation", All),
    ("creationTimestamp", All),
    ("labels", All),
    ("annotations", All),
]);

const IDENTITY: Fields = Only(&[
    ("name", All),
    ("namespace", All),
    ("resourceVersion", All),
    ("creationTimestamp", All),
]);

const POD: Known = &[
    (
        "metadata",
        Only(&[
            ("name", All),
            ("uid", All),
            ("namespace", All),
            ("resourceVersion", All),
            ("generation", All),
            ("creationTimestamp", All),
            ("deletionTimestamp", All),
            ("labels", All),
            (
                "annotations",
                Only(&[(STATUS, All), (MIRROR, All), (INJECT, All)]),
            ),
            (
                "ownerReferences",
                Only(&[("kind", All), ("name", All), ("controller", All)]),
            ),
        ]),
    ),
    (
        "spec",
        Only(&[
            ("nodeName", All),
            ("serviceAccountName", All),
            ("serviceAccount", All),
            ("hostNetwork", All),
            ("containers", CONTAINER),
            ("initContainers", CONTAINER),
        ]),
    ),
    (
        "status",
        Only(&[
            ("phase", All),
            ("podIP", All),
            ("podIPs", All),
            ("conditions", Only(&[("type", All), ("status", All)])),
        ]),
    ),
];

const CONTAINER: Fields = Only(&[(
    "ports",
    Only(&[("name", All), ("containerPort", All), ("protocol", All)]),
)]);

const SERVICE: Known = &[
    ("metadata", METADATA),
    (
        "spec",
        Only(&[
            ("type", All),
            ("clusterIP", All),
            ("clusterIPs", All),
            ("externalName", All),
            ("sessionAffinity", All),
            ("internalTrafficPolicy", All),
            ("trafficDistribution", All),
            ("selector", All),
            ("ports", All),
        ]),
    ),
];

const ENDPOINT_SLICE: Known = &[
    ("metadata", METADATA),
    ("addressType", All),
    ("ports", All),
    (
        "endpoints",
        Only(&[
            ("addresses", All),
            ("conditions", All),
            ("zone", All),
            ("targetRef", Only(&[("kind", All), ("name", All)])),
        ]),
    ),
];

impl Resource {
    /// Reads one object.
    pub(super) fn read<'de, D: Deserializer<'de>>(self, from: D) -> Result<Decoded, D::Error> {
        match self {
            Self::CustomResourceDefinition => Definition::deserialize(from).map(Into::into),
            Self::Node => Node::deserialize(from).map(Into::into),
            Self::Object(kind) => match kind {
                Kind::Pod => project::<Pod, D>(from, POD, ApiObject::Pod),
                Kind::Service => project::<Service, D>(from, SERVICE, ApiObject::Service),
                Kind::EndpointSlice => {
                    project::<EndpointSlice, D>(from, ENDPOINT_SLICE, ApiObject::EndpointSlice)
                }
                Kind::Namespace => {
                    const NAMESPACE: Known = &[("metadata", METADATA)];
                    project::<Namespace, D>(from, NAMESPACE, ApiObject::Namespace)
                }
                Kind::ServiceAccount => {
                    const ACCOUNT: Known = &[("metadata", IDENTITY)];
                    project::<ServiceAccount, D>(from, ACCOUNT, ApiObject::ServiceAccount)
                }
                _ => Value::deserialize(from).map(|value| whole(kind, value)),
            },
        }
    }
}

/// Reads an object of Kubernetes' own, as far as `known` goes.
fn project<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    inner: D,
    known: Known,
    wrap: fn(Box<T>) -> ApiObject,
) -> Result<Decoded, D::Error> {
    let object = wrap(Box::new(T::deserialize(Projected { inner, known })?));
    let (spec, faults) = convert(&object);
    let node = match &object {
        ApiObject::Pod(pod) => pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        _ => None,
    };
    let metadata = object.metadata();
    let created = metadata.creation_timestamp.as_ref();
    let name = (
        metadata.namespace.clone().unwrap_or_default(),
        object.name().to_owned(),
    );
    Ok(Decoded {
        name,
        version: metadata.resource_version.clone(),
        content: Content::Object(Box::new(Read {
            spec,
            faults,
            generation: metadata
                .generation
                .and_then(|number| number.try_into().ok()),
            created: created.map_or(0, |time| time.0.as_second()),
            node,
            shown: None,
        })),
    })
}

/// Reads an object of Weft's or of the Gateway API, whatever it says.
fn whole(kind: Kind, mut value: Value) -> Decoded {
    // What is not the user's is no business of the parser's.
    let object = value.as_object_mut();
    let status = object.and_then(|object| object.shift_remove("status"));
    let references = ["/spec/parentRefs", "/spec/targetRefs"];
    let mut references = references.iter().filter_map(|path| value.pointer(path));
    let shown = Showing {
        references: references
            .next()
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default(),
        status: status.unwrap_or_default(),
    };
    let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
    metadata.map(|metadata| metadata.shift_remove("managedFields"));
    let understood = understand(kind, &value);
    let metadata = |key: &str| value.get("metadata").and_then(|object| object.get(key));
    let word = |key: &str| metadata(key).and_then(Value::as_str).map(str::to_owned);
    let typed = understood.object.as_ref().map(ApiObject::metadata);
    let created = typed.and_then(|metadata| metadata.creation_timestamp.as_ref());
    Decoded {
        name: (
            word("namespace").unwrap_or_default(),
            word("name").unwrap_or_default(),
        ),
        version: word("resourceVersion"),
        content: Content::Object(Box::new(Read {
            generation: metadata("generation").and_then(Value::as_u64),
            created: created.map_or(0, |time| time.0.as_second()),
            spec: understood.spec,
            faults: understood.faults,
            node: None,
            shown: Some(shown),
        })),
    }
}

/// The metadata of what is no object of the world.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    name: String,
    pub(super) resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Node {
    metadata: Metadata,
}

impl From<Node> for Decoded {
    fn from(node: Node) -> Self {
        let mut labels = node.metadata.labels.unwrap_or_default();
        Self {
            name: (String::new(), node.metadata.name),
            version: node.metadata.resource_version,
            content: Content::Node(labels.remove(ZONE_LABEL)),
        }
    }
}

#[derive(Deserialize)]
struct Definition {
    metadata: Metadata,
    spec: DefinitionSpec,
    #[serde(default)]
    status: DefinitionStatus,
}

#[derive(Deserialize)]
struct DefinitionSpec {
    versions: Vec<DefinitionVersion>,
}

#[derive(Deserialize)]
struct DefinitionVersion {
    name: String,
    served: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DefinitionStatus {
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl From<Definition> for Decoded {
    fn from(definition: Definition) -> Self {
        let mut conditions = definition.status.conditions.into_iter().flatten();
        let is_established =
            conditions.any(|found| found.r#type == "Established" && found.status == "True");
        let versions = definition.spec.versions.into_iter();
        let served = versions.filter(|version| version.served && is_established);
        Self {
            name: (String::new(), definition.metadata.name),
            version: definition.metadata.resource_version,
            content: Content::Definition(served.map(|version| version.name).collect()),
        }
    }
}
