//! What is wrong with a name, and where.

use std::fmt;

/// The part of a name that a [`NameError`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamePart {
    /// The trust domain.
    TrustDomain,
    /// The namespace.
    Namespace,
    /// The service account.
    ServiceAccount,
    /// The pod's own name.
    PodName,
}

impl fmt::Display for NamePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TrustDomain => "trust domain",
            Self::Namespace => "namespace",
            Self::ServiceAccount => "service account",
            Self::PodName => "pod name",
        })
    }
}

/// Why a text is no valid identity. `at` counts bytes from the start of the text that was parsed, or
/// of the part when the name was given in parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text does not begin with `spiffe://` in lower case.
    #[error("a SPIFFE ID begins with \"spiffe://\" (lower case)")]
    Scheme,
    /// The whole ID is longer than the 2048 bytes of SPIFFE-ID section 2.3.
    #[error("a SPIFFE ID has at most 2048 bytes, this has {0}")]
    IdTooLong(usize),
    /// The path is not `/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
    #[error(
        "the path must be /ns/NAMESPACE/sa/SERVICE-ACCOUNT and nothing more: {expected} expected at byte {at}"
    )]
    Path {
        /// What should have stood there.
        expected: &'static str,
        /// Byte offset.
        at: usize,
    },
    /// A part is empty.
    #[error("the {part} is empty (byte {at})")]
    Empty {
        /// Which part.
        part: NamePart,
        /// Byte offset.
        at: usize,
    },
    /// A part is longer than its specification allows.
    #[error("the {part} has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Which part.
        part: NamePart,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A part holds a character that its specification does not allow; percent-encoding, upper-case
    /// trust domains, ports and user info all end here.
    #[error("the {part} must not contain {found:?} (byte {at})")]
    Character {
        /// Which part.
        part: NamePart,
        /// The character.
        found: char,
        /// Byte offset.
        at: usize,
    },
    /// A path segment is `.` or `..`.
    #[error("the {part} must not be a relative path segment (byte {at})")]
    Relative {
        /// Which part.
        part: NamePart,
        /// Byte offset.
        at: usize,
    },
    /// A pod reference has no `/` between namespace and pod.
    #[error("a pod is written NAMESPACE/POD")]
    PodForm,
}

/// Checks `text` against an alphabet and a length; `at` is its offset in what the caller parsed.
pub(crate) fn check(
    part: NamePart,
    text: &str,
    at: usize,
    max: usize,
    allowed: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { part, at });
    }
    if let Some((i, found)) = text.char_indices().find(|(_, c)| !allowed(*c)) {
        return Err(NameError::Character {
            part,
            found,
            at: at + i,
        });
    }
    if text.len() > max {
        return Err(NameError::TooLong {
            part,
            len: text.len(),
            max,
        });
    }
    Ok(())
}
