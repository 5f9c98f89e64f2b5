//! Trust domains: the realm whose certificate authority vouches for an identity.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{NameError, NamePart, check};

/// SPIFFE-ID section 2.1: 255 bytes.
const MAX_BYTES: usize = 255;

/// A trust domain: lower-case letters, digits, `.`, `-` and `_`, at most 255 bytes (SPIFFE-ID
/// section 2.1). Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses the bare name, without `spiffe://`.
    ///
    /// # Errors
    /// Empty, too long, or a character outside the alphabet.
    pub fn new(name: &str) -> Result<Self, NameError> {
        Self::parse_at(name, 0)
    }

    pub(crate) fn parse_at(name: &str, at: usize) -> Result<Self, NameError> {
        check(
            NamePart::TrustDomain,
            name,
            at,
            MAX_BYTES,
            |c| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_'),
        )?;
        Ok(Self(name.into()))
    }

    /// The bare name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    /// `cluster.local`.
    fn default() -> Self {
        Self("cluster.local".into())
    }
}

impl FromStr for TrustDomain {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        Self::new(s)
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for TrustDomain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for TrustDomain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for TrustDomain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(de::Error::custom)
    }
}
