//! Resources as they come off the stream or out of the cache, before they are decoded.

use bytes::Bytes;

use crate::kind::Kind;

/// What the control plane says about one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Update {
    /// The resource's name.
    pub name: String,
    /// None: there is no such thing.
    pub body: Option<Wire>,
}

/// A resource's bytes and the hash by which they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wire {
    pub version: String,
    pub bytes: Bytes,
}

/// A resource that is in force, for the cache and for resuming the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Active {
    pub kind: Kind,
    pub name: String,
    pub wire: Wire,
}

/// Whether what the control plane sent last of a name is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It is, or nothing older is in force in its place.
    InForce,
    /// Not yet: the one before is.
    WaitingFor(String),
}
