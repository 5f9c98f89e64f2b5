//! What a leaf certificate says: whose it is, until when, for what.
//!
//! Reading is not verifying: nothing here looks at signatures or the clock (that is [`crate::Trust`]).

use std::fmt;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use weft_identity::{NameError, SpiffeId};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::clock::from_unix;

/// Why a certificate is no leaf of the mesh (X509-SVID sections 2, 4 and 5.2).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// No certificate was given.
    #[error("no certificate")]
    Missing,
    /// Not one X.509 certificate in DER.
    #[error("not an X.509 certificate: {0}")]
    Encoding(String),
    /// Not exactly one URI SAN.
    #[error("a certificate must have exactly one URI SAN, this has {0}")]
    UriCount(usize),
    /// The URI SAN is no identity.
    #[error("the certificate's URI SAN is no identity: {0}")]
    Identity(#[from] NameError),
    /// A CA certificate, or one that may sign certificates.
    #[error("a certificate authority's certificate is no workload's")]
    Authority,
    /// The extended key usage is absent or lacks client or server authentication.
    #[error("the certificate's extended key usage must name client and server authentication")]
    Usage,
}

/// A serial number, big-endian, shown in hexadecimal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial(Box<[u8]>);

impl Serial {
    /// Big-endian bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A workload's certificate as far as the mesh is interested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub id: SpiffeId,
    /// First instant of its validity.
    pub not_before: SystemTime,
    /// Last instant of its validity; a hop must not outlive it.
    pub not_after: SystemTime,
    /// Serial number.
    pub serial: Serial,
}

impl Leaf {
    /// Reads a leaf: exactly one URI SAN that is an identity, not a CA, may not sign certificates,
    /// for client and server authentication.
    ///
    /// # Errors
    /// [`LeafError`].
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, LeafError> {
        let certificate = parse_x509(der)?;
        refuse_authority(&certificate)?;
        require_usages(&certificate)?;
        let id = SpiffeId::parse(only_uri(&certificate)?)?;
        let validity = certificate.validity();
        Ok(Self {
            id,
            not_before: from_unix(validity.not_before.timestamp()),
            not_after: from_unix(validity.not_after.timestamp()),
            serial: Serial(certificate.serial.to_bytes_be().into()),
        })
    }

    /// Reads the first certificate of a chain.
    ///
    /// # Errors
    /// [`LeafError::Missing`] when it is empty, else as [`Leaf::parse`].
    pub fn of_chain(chain: &[CertificateDer<'_>]) -> Result<Self, LeafError> {
        Self::parse(chain.first().ok_or(LeafError::Missing)?)
    }
}

/// Whose chain this is; reads, does not verify.
///
/// # Errors
/// As [`Leaf::of_chain`].
pub fn peer_id(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, LeafError> {
    Leaf::of_chain(chain).map(|leaf| leaf.id)
}

pub(crate) fn parse_x509<'a>(
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, LeafError> {
    let (rest, certificate) = X509Certificate::from_der(der.as_ref())
        .map_err(|error| LeafError::Encoding(error.to_string()))?;
    if !rest.is_empty() {
        return Err(LeafError::Encoding(format!(
            "{} bytes follow the certificate",
            rest.len()
        )));
    }
    Ok(certificate)
}

fn refuse_authority(certificate: &X509Certificate<'_>) -> Result<(), LeafError> {
    let key_usage = certificate.key_usage().map_err(encoding)?;
    let signs =
        key_usage.is_some_and(|usage| usage.value.key_cert_sign() || usage.value.crl_sign());
    if signs || is_authority(certificate)? {
        return Err(LeafError::Authority);
    }
    Ok(())
}

pub(crate) fn is_authority(certificate: &X509Certificate<'_>) -> Result<bool, LeafError> {
    let constraints = certificate.basic_constraints().map_err(encoding)?;
    Ok(constraints.is_some_and(|constraints| constraints.value.ca))
}

fn require_usages(certificate: &X509Certificate<'_>) -> Result<(), LeafError> {
    let usage = certificate.extended_key_usage().map_err(encoding)?;
    match usage {
        Some(usage) if usage.value.client_auth && usage.value.server_auth => Ok(()),
        _ => Err(LeafError::Usage),
    }
}

fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, LeafError> {
    let names = certificate.subject_alternative_name().map_err(encoding)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [uri] => Ok(uri),
        _ => Err(LeafError::UriCount(uris.len())),
    }
}

fn encoding(error: x509_parser::error::X509Error) -> LeafError {
    LeafError::Encoding(error.to_string())
}
