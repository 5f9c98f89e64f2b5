//! What is wrong with an object and what to do about it: one shape from source to status and CLI.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::key::ObjectKey;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Severity {
    /// The object, or a part of it, is not in force as written.
    Error,
    /// In force, but hardly what was meant.
    Warning,
    /// Good to know.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        })
    }
}

/// A field of an object as people write it: `spec.rules[0].backendRefs[1].weight`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FieldPath(String);

impl FieldPath {
    /// A path from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// This path and a field within.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }

    /// This path and a position in its list.
    #[must_use]
    pub fn index(&self, position: usize) -> Self {
        Self(format!("{}[{position}]", self.0))
    }

    /// Whether this is `other` or lies within it.
    #[must_use]
    pub fn is_within(&self, other: &FieldPath) -> bool {
        match self.0.strip_prefix(other.0.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with(['.', '[']) || other.0.is_empty(),
            None => false,
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for FieldPath {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Why, usable as the reason of a Kubernetes condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Reason {
    /// The file is not YAML.
    UnreadableYaml,
    /// A field that the kind does not have.
    UnknownField,
    /// A kind that the group does not have, or a group that Weft does not know.
    UnknownKind,
    /// A Kubernetes kind that the mesh has no use for.
    UnusedKind,
    /// Two objects of one kind and name.
    DuplicateObject,
    /// The same name or value twice within one object.
    DuplicateValue,
    /// A value that is not allowed there.
    InvalidValue,
    /// A value or field that Weft does not do.
    UnsupportedValue,
    /// Filters that exclude each other.
    IncompatibleFilters,
    /// A reference to a kind that cannot be used there.
    InvalidKind,
    /// A backend that does not exist.
    BackendNotFound,
    /// A backend of another namespace, which does not permit it.
    RefNotPermitted,
    /// A parent that does not exist.
    NoMatchingParent,
    /// A target that does not exist.
    TargetNotFound,
    /// A port that the Service does not have.
    PortNotFound,
    /// A route on a port that is declared to speak something else.
    UnsupportedProtocol,
    /// An older object has the place.
    Conflicted,
    /// The policy chooses no pod.
    NoWorkloads,
    /// A pod that is meant to be in the mesh has no sidecar.
    NotMeshed,
    /// `hostnames` of a route with a Service parent.
    HostnamesIgnored,
    /// The policy cannot be read, so it refuses everything on its targets.
    PolicyDenies,
}

/// The condition of an object's status that a reason speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Condition {
    /// The object is in force.
    Accepted,
    /// What it refers to exists.
    ResolvedRefs,
    /// A part of it is not in force (`PartiallyInvalid` of the Gateway API).
    PartiallyInvalid,
}

impl Reason {
    /// As written in a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnreadableYaml => "UnreadableYAML",
            Reason::UnknownField => "UnknownField",
            Reason::UnknownKind => "UnknownKind",
            Reason::UnusedKind => "UnusedKind",
            Reason::DuplicateObject => "DuplicateObject",
            Reason::DuplicateValue => "DuplicateValue",
            Reason::InvalidValue => "InvalidValue",
            Reason::UnsupportedValue => "UnsupportedValue",
            Reason::IncompatibleFilters => "IncompatibleFilters",
            Reason::InvalidKind => "InvalidKind",
            Reason::BackendNotFound => "BackendNotFound",
            Reason::RefNotPermitted => "RefNotPermitted",
            Reason::NoMatchingParent => "NoMatchingParent",
            Reason::TargetNotFound => "TargetNotFound",
            Reason::PortNotFound => "PortNotFound",
            Reason::UnsupportedProtocol => "UnsupportedProtocol",
            Reason::Conflicted => "Conflicted",
            Reason::NoWorkloads => "NoWorkloads",
            Reason::NotMeshed => "NotMeshed",
            Reason::HostnamesIgnored => "HostnamesIgnored",
            Reason::PolicyDenies => "PolicyDenies",
        }
    }

    /// The condition it belongs to.
    #[must_use]
    pub fn condition(self) -> Condition {
        match self {
            Reason::BackendNotFound
            | Reason::RefNotPermitted
            | Reason::InvalidKind
            | Reason::TargetNotFound => Condition::ResolvedRefs,
            Reason::UnsupportedValue | Reason::IncompatibleFilters => Condition::PartiallyInvalid,
            _ => Condition::Accepted,
        }
    }

    /// Another object, or a grant, that is not there; `weft validate --allow-missing-refs` lets these
    /// pass.
    #[must_use]
    pub fn is_missing_reference(self) -> bool {
        matches!(
            self,
            Reason::BackendNotFound
                | Reason::RefNotPermitted
                | Reason::NoMatchingParent
                | Reason::TargetNotFound
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The object a diagnostic is about. Its kind is text: the source reports kinds too that never
/// reach the world.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Subject {
    /// Kind as YAML spells it.
    pub kind: Arc<str>,
    /// Namespace; empty for kinds that have none.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl From<&ObjectKey> for Subject {
    fn from(key: &ObjectKey) -> Self {
        Self {
            kind: key.kind.as_str().into(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// A fault in one object's own YAML, before it meets others. See
/// [`Object::problems`](crate::Object::problems).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where in the object; empty for the object as a whole.
    pub field: FieldPath,
    /// Why.
    pub reason: Reason,
    /// For a person: what is wrong and what to do.
    pub message: String,
}

/// One finding about one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    /// Which object.
    pub subject: Subject,
    /// Where in it; empty for the object as a whole. The source turns it into a line.
    pub field: FieldPath,
    /// How bad.
    pub severity: Severity,
    /// Why.
    pub reason: Reason,
    /// For a person: what is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.severity, self.subject)?;
        if !self.field.as_str().is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}: {}", self.reason, self.message)
    }
}
