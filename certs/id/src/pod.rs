//! Which pod: the name that a proxy claims as its own on the stream.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{NameError, NamePart, check};

/// A namespace is an RFC 1123 label, a pod's name an RFC 1123 subdomain.
const MAX_NAMESPACE: usize = 63;
const MAX_NAME: usize = 253;

/// A pod by namespace and name, written `namespace/pod`. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodRef {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl PodRef {
    /// A reference from its parts.
    ///
    /// # Errors
    /// A part that is empty, too long or has characters that Kubernetes does not allow there
    /// (lower-case letters, digits and `-`; `.` only in the pod's name).
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        Self::parts(namespace, name, 0)
    }

    fn parts(namespace: &str, name: &str, name_at: usize) -> Result<Self, NameError> {
        let label = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
        check(NamePart::Namespace, namespace, 0, MAX_NAMESPACE, label)?;
        check(NamePart::PodName, name, name_at, MAX_NAME, |c| {
            label(c) || c == '.'
        })?;
        Ok(Self {
            namespace: namespace.into(),
            name: name.into(),
        })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The pod's name in its namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for PodRef {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let (namespace, name) = s.split_once('/').ok_or(NameError::PodForm)?;
        Self::parts(namespace, name, namespace.len() + 1)
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for PodRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PodRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
