//! One resource as it goes over the wire: encoded once, then shared by every stream that sends it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use weft_proto::discovery;

use crate::kind::Kind;

/// A resource's version: the first 128 bits of the SHA-256 of its bytes, the same on every replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(u128);

impl Version {
    /// The version of encoded bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        Self(u128::from_be_bytes(first))
    }

    /// The version that a message has on the stream.
    pub fn of_message(message: &impl Message) -> Self {
        Self::of(&message.encode_to_vec())
    }

    /// Reads 32 lower-case hex digits; anything else is no version of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 32 && text.bytes().all(hex))
            .then(|| u128::from_str_radix(text, 16).ok().map(Self))
            .flatten()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the server itself needs to know about a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Facts {
    /// Nothing.
    #[default]
    None,
    /// Of an `Endpoints` or `Address`: the addresses that new requests may go to, that is, which
    /// are not terminating.
    Live(Box<[IpAddr]>),
    /// Of an `Inbound`.
    Inbound(InboundFacts),
}

/// Whom an `Inbound` is for, and what it makes readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundFacts {
    /// The pod's service account.
    pub service_account: Arc<str>,
    /// The pod's own addresses.
    pub addresses: Box<[IpAddr]>,
    /// The `Authorization` resources it refers to.
    pub policies: Box<[Arc<str>]>,
    /// The pod is being deleted.
    pub terminating: bool,
}

/// A resource, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    version: Version,
    /// A whole encoded `Resource`, as it stands in a response.
    wire: Bytes,
    facts: Facts,
}

impl Body {
    /// Encodes a message under its name.
    pub fn new(kind: Kind, name: &str, message: &impl Message, facts: Facts) -> Self {
        let value = message.encode_to_vec();
        let version = Version::of(&value);
        let resource = discovery::Resource {
            version: version.to_string(),
            resource: Some(prost_types::Any {
                type_url: kind.type_url().to_owned(),
                value,
            }),
            name: name.to_owned(),
            aliases: Vec::new(),
        };
        Self {
            version,
            wire: resource.encode_to_vec().into(),
            facts,
        }
    }

    /// The hash of its bytes.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the server needs to know about it.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The encoded `Resource` message.
    #[must_use]
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }
}

/// The answer for a name that nothing is behind: a `Resource` without a body.
pub(crate) fn absent(name: &str) -> Bytes {
    discovery::Resource {
        name: name.to_owned(),
        ..Default::default()
    }
    .encode_to_vec()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_proto::mesh;

    #[test]
    fn a_version_is_read_back_and_nothing_else_is_one() {
        let version = Version::of(b"weft");
        assert_eq!(Version::parse(&version.to_string()), Some(version));
        for text in [
            "",
            "1",
            "+0000000000000000000000000000000f",
            &"F".repeat(32),
        ] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_version_depends_on_the_content_and_not_on_the_name() {
        let message = mesh::MeshConfig {
            trust_domain: "cluster.local".into(),
            ..Default::default()
        };
        let a = Body::new(Kind::MeshConfig, "a", &message, Facts::None);
        let b = Body::new(Kind::MeshConfig, "b", &message, Facts::None);
        assert_eq!(a.version(), b.version());
        let resource = discovery::Resource::decode(a.wire().clone()).unwrap();
        assert_eq!(resource.name, "a");
        assert_eq!(resource.version, a.version().to_string());
    }
}
