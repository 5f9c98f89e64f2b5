//! SPIFFE IDs of Weft's one form, `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
//!
//! Follows SPIFFE-ID sections 2.1 to 2.3: no percent-encoding, no query, fragment, port or user
//! info, no empty or relative path segments, no trailing slash, at most 2048 bytes.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{NameError, NamePart, check};
use crate::trust_domain::TrustDomain;

const SCHEME: &str = "spiffe://";
/// SPIFFE-ID section 2.3.
const MAX_BYTES: usize = 2048;

/// The namespace the control plane runs in.
pub const CONTROL_PLANE_NAMESPACE: &str = "weft-system";
/// The service account the control plane runs under.
pub const CONTROL_PLANE_SERVICE_ACCOUNT: &str = "weft-control-plane";

/// A workload's identity. Compared byte for byte; cloning is one reference count.
#[derive(Clone)]
pub struct SpiffeId(Arc<Parsed>);

struct Parsed {
    uri: Box<str>,
    trust_domain: TrustDomain,
    /// Where the namespace begins and ends in `uri`; the service account is what follows `/sa/`.
    namespace: (u16, u16),
    service_account: u16,
}

impl SpiffeId {
    /// Parses a whole ID.
    ///
    /// # Errors
    /// Anything that is not exactly `spiffe://TD/ns/NS/sa/SA` in the SPIFFE alphabet.
    pub fn parse(uri: &str) -> Result<Self, NameError> {
        let rest = uri.strip_prefix(SCHEME).ok_or(NameError::Scheme)?;
        if uri.len() > MAX_BYTES {
            return Err(NameError::IdTooLong(uri.len()));
        }
        let name = rest.split('/').next().unwrap_or_default();
        let trust_domain = TrustDomain::parse_at(name, SCHEME.len())?;

        let at = SCHEME.len() + name.len();
        let namespace_at = expect(uri, at, "/ns/")?;
        let namespace = segment(uri, namespace_at, NamePart::Namespace)?;
        let namespace_end = namespace_at + namespace.len();
        let account_at = expect(uri, namespace_end, "/sa/")?;
        let account = segment(uri, account_at, NamePart::ServiceAccount)?;
        let end = account_at + account.len();
        if end != uri.len() {
            return Err(NameError::Path {
                expected: "the end",
                at: end,
            });
        }
        Ok(Self(Arc::new(Parsed {
            uri: uri.into(),
            trust_domain,
            namespace: (offset(namespace_at), offset(namespace_end)),
            service_account: offset(account_at),
        })))
    }

    /// Builds an ID from its parts, each checked on its own (no part can smuggle in a `/`).
    ///
    /// # Errors
    /// A part that is empty, relative, outside the alphabet, or an ID that gets too long.
    pub fn new(
        trust_domain: &TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, NameError> {
        check_segment(NamePart::Namespace, namespace, 0)?;
        check_segment(NamePart::ServiceAccount, service_account, 0)?;
        Self::parse(&format!(
            "{SCHEME}{trust_domain}/ns/{namespace}/sa/{service_account}"
        ))
    }

    /// The identity of the control plane of a trust domain,
    /// `spiffe://TD/ns/weft-system/sa/weft-control-plane`.
    pub fn control_plane(trust_domain: &TrustDomain) -> Self {
        Self::new(
            trust_domain,
            CONTROL_PLANE_NAMESPACE,
            CONTROL_PLANE_SERVICE_ACCOUNT,
        )
        .expect("both names are valid segments and a trust domain has at most 255 bytes")
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.0.uri
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        let (start, end) = self.0.namespace;
        &self.0.uri[usize::from(start)..usize::from(end)]
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.0.uri[usize::from(self.0.service_account)..]
    }
}

fn offset(at: usize) -> u16 {
    u16::try_from(at).expect("an ID has at most 2048 bytes")
}

/// The offset after `token`, which must stand at `at`.
fn expect(uri: &str, at: usize, token: &'static str) -> Result<usize, NameError> {
    if uri[at..].starts_with(token) {
        Ok(at + token.len())
    } else {
        Err(NameError::Path {
            expected: token,
            at,
        })
    }
}

/// The path segment that begins at `at`, checked.
fn segment(uri: &str, at: usize, part: NamePart) -> Result<&str, NameError> {
    let text = uri[at..].split('/').next().unwrap_or_default();
    check_segment(part, text, at)?;
    Ok(text)
}

fn check_segment(part: NamePart, text: &str, at: usize) -> Result<(), NameError> {
    check(part, text, at, MAX_BYTES, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')
    })?;
    if matches!(text, "." | "..") {
        return Err(NameError::Relative { part, at });
    }
    Ok(())
}

impl FromStr for SpiffeId {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        Self::parse(s)
    }
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.uri == other.0.uri
    }
}

impl Eq for SpiffeId {}

impl Hash for SpiffeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.uri.hash(state);
    }
}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.uri.cmp(&other.0.uri)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.uri)
    }
}

impl AsRef<str> for SpiffeId {
    fn as_ref(&self) -> &str {
        &self.0.uri
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.uri)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}
