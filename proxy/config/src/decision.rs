//! The outcome of an authorisation and the name under which it is found again.

use std::fmt;
use std::sync::Arc;

/// May it or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allow,
    /// It may not, by this rule.
    Deny(DecisionId),
}

impl Decision {
    /// Whether it may.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow)
    }
}

/// Which rule of which version of a policy decided: `NAMESPACE/NAME#RULE@HASH8`, or
/// `default-deny@HASH8` when there are ALLOW policies and none of them matched. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DecisionId(Arc<str>);

impl DecisionId {
    /// The ID of a rule of the policy `name` (`namespace/name`) at `version`.
    pub fn rule(name: &str, rule: &str, version: &str) -> Self {
        Self(format!("{name}#{rule}@{}", hash8(version)).into())
    }

    /// The ID of "nothing allowed it" under the set of policies at `version`.
    pub fn default_deny(version: &str) -> Self {
        Self(format!("default-deny@{}", hash8(version)).into())
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The ID as shared text.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

/// The first eight characters; versions are hexadecimal hashes.
fn hash8(version: &str) -> &str {
    version
        .char_indices()
        .nth(8)
        .map_or(version, |(end, _)| &version[..end])
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
