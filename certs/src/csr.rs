//! Checking certificate requests: DER and a proven identity in, public key and identity out.
//!
//! Of a request only its public key is used. Its one URI SAN must repeat the identity that the
//! caller has proven by other means; any further wish in it (names, usages, CA flag) is ignored,
//! because the issuer decides those.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{PublicKeyData, SubjectPublicKeyInfo};
use weft_identity::{NameError, SpiffeId};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256,
    OID_X509_EXT_SUBJECT_ALT_NAME,
};
use x509_parser::prelude::FromDer;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Not one PKCS#10 request in DER.
    #[error("not a PKCS#10 certificate request in DER: {0}")]
    Encoding(String),
    /// The key is not ECDSA on P-256.
    #[error("the key must be ECDSA P-256")]
    KeyType,
    /// Signed with something else than ECDSA with SHA-256.
    #[error("the request must be signed with ECDSA and SHA-256")]
    SignatureAlgorithm,
    /// The signature does not belong to the key: no proof of possession.
    #[error("the request's signature does not verify with its own key")]
    Signature,
    /// Not exactly one URI SAN.
    #[error("the request must have exactly one URI SAN, this has {0}")]
    UriCount(usize),
    /// The URI SAN is no identity.
    #[error("the request's URI SAN is no identity: {0}")]
    Identity(#[from] NameError),
    /// The request asks for someone else's identity.
    #[error("the request is for {asked}, proven is {proven}")]
    OtherIdentity {
        /// Asked for.
        asked: SpiffeId,
        /// Proven by the caller.
        proven: SpiffeId,
    },
}

/// Certificate requests.
pub struct Csr;

impl Csr {
    /// Checks a DER request against the identity that its sender has proven.
    ///
    /// # Errors
    /// [`CsrError`], one variant per thing that can be wrong.
    pub fn verify(der: &[u8], proven: &SpiffeId) -> Result<VerifiedCsr, CsrError> {
        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|error| CsrError::Encoding(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CsrError::Encoding(format!(
                "{} bytes follow the request",
                rest.len()
            )));
        }
        let public_key = p256_key(&request)?;
        possession(&request)?;
        let asked = SpiffeId::parse(only_uri(&request)?)?;
        if asked != *proven {
            return Err(CsrError::OtherIdentity {
                asked,
                proven: proven.clone(),
            });
        }
        Ok(VerifiedCsr {
            id: proven.clone(),
            public_key,
        })
    }
}

/// A public key whose holder is `id`. Only [`Csr::verify`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedCsr {
    pub(crate) id: SpiffeId,
    pub(crate) public_key: SubjectPublicKeyInfo,
}

impl VerifiedCsr {
    /// Whose certificate this will be.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The public key itself, as bytes to compare.
    pub fn public_key(&self) -> &[u8] {
        self.public_key.der_bytes()
    }
}

fn p256_key(request: &X509CertificationRequest<'_>) -> Result<SubjectPublicKeyInfo, CsrError> {
    let spki = &request.certification_request_info.subject_pki;
    let curve = spki
        .algorithm
        .parameters
        .as_ref()
        .and_then(|parameters| parameters.as_oid().ok());
    if spki.algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != Some(OID_EC_P256) {
        return Err(CsrError::KeyType);
    }
    SubjectPublicKeyInfo::from_der(spki.raw).map_err(|_| CsrError::KeyType)
}

fn possession(request: &X509CertificationRequest<'_>) -> Result<(), CsrError> {
    if request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
        return Err(CsrError::SignatureAlgorithm);
    }
    let info = &request.certification_request_info;
    UnparsedPublicKey::new(
        &ECDSA_P256_SHA256_ASN1,
        info.subject_pki.subject_public_key.as_ref(),
    )
    .verify(info.raw, request.signature_value.as_ref())
    .map_err(|_| CsrError::Signature)
}

/// The single URI among all SAN extensions of all extension requests: a second attribute or
/// extension cannot hide another name.
fn only_uri<'a>(request: &'a X509CertificationRequest<'_>) -> Result<&'a str, CsrError> {
    let mut uris = Vec::new();
    for attribute in request.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
            continue;
        };
        for extension in &requested.extensions {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    uris.extend(names.general_names.iter().filter_map(|name| match name {
                        GeneralName::URI(uri) => Some(*uri),
                        _ => None,
                    }));
                }
                _ if extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME => {
                    return Err(CsrError::Encoding("unreadable subject names".into()));
                }
                _ => {}
            }
        }
    }
    match uris[..] {
        [uri] => Ok(uri),
        _ => Err(CsrError::UriCount(uris.len())),
    }
}
