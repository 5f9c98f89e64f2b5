//! Server certificates for callers outside the mesh, who know a bundle and a DNS name: a small CA of
//! its own for the webhook that the API server calls. Nothing in the mesh trusts it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer as Signer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use crate::chain::pem_block;
use crate::clock::from_unix;
use crate::leaf::{LeafError, parse_x509};

/// How far a caller's clock may be behind.
const BACKDATE: Duration = Duration::from_secs(600);

/// Why a serving certificate or its CA cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The PEM is damaged, or not what is expected.
    #[error("damaged PEM: {0}")]
    Pem(rustls_pki_types::pem::Error),
    /// The certificate cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Certificate(#[from] LeafError),
    /// The key cannot be read, or is another certificate's.
    #[error("the key cannot be used with the certificate: {0}")]
    Key(String),
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(#[from] rcgen::Error),
    /// Nothing can be signed that lives beyond the CA.
    #[error("the CA has expired")]
    Expired,
}

/// A self-signed CA for serving certificates.
pub struct ServingAuthority {
    certificate: CertificateDer<'static>,
    signer: Signer<'static, KeyPair>,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl ServingAuthority {
    /// A new one.
    ///
    /// # Errors
    /// The key or the certificate could not be made.
    pub fn generate(now: SystemTime, lifetime: Duration) -> Result<Self, ServingError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = parameters(now, now + lifetime);
        let name = format!("Weft serving CA {:08x}", rand::random::<u32>());
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.der().clone();
        Self::of(certificate, key)
    }

    /// Reads back [`Self::certificate_pem`] and [`Self::key_pem`].
    ///
    /// # Errors
    /// One of them is damaged, or they do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, ServingError> {
        let certificate =
            CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(ServingError::Pem)?;
        let key = KeyPair::from_pem(key).map_err(|error| ServingError::Key(error.to_string()))?;
        Self::of(certificate, key)
    }

    fn of(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, ServingError> {
        let parsed = parse_x509(&certificate)?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(ServingError::Key("it is another certificate's".to_owned()));
        }
        let validity = parsed.validity();
        let not_before = from_unix(validity.not_before.timestamp());
        let not_after = from_unix(validity.not_after.timestamp());
        Ok(Self {
            signer: Signer::from_ca_cert_der(&certificate, key)?,
            certificate,
            not_before,
            not_after,
        })
    }

    /// What callers trust.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The same as PEM.
    pub fn certificate_pem(&self) -> String {
        pem_block(&self.certificate)
    }

    /// The private key, PKCS#8 PEM.
    pub fn key_pem(&self) -> String {
        self.signer.key().serialize_pem()
    }

    /// Its first instant.
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Its last instant.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// A certificate with a new key for a server of these DNS names. It never outlives its CA.
    ///
    /// # Errors
    /// The CA has expired, a name is none, or signing failed.
    pub fn issue(
        &self,
        names: &[String],
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<ServingCertificate, ServingError> {
        if now >= self.not_after {
            return Err(ServingError::Expired);
        }
        let not_after = (now + lifetime).min(self.not_after);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = parameters(now, not_after);
        let names = names
            .iter()
            .map(|name| Ok(SanType::DnsName(name.as_str().try_into()?)));
        params.subject_alt_names = names.collect::<Result<_, rcgen::Error>>()?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.signer)?.der().clone();
        let private = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let signing_key = aws_lc_rs::sign::any_ecdsa_type(&private)
            .map_err(|error| ServingError::Key(error.to_string()))?;
        Ok(ServingCertificate {
            key: Arc::new(CertifiedKey::new(vec![certificate], signing_key)),
            not_before: now,
            not_after,
        })
    }
}

impl fmt::Debug for ServingAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ServingAuthority");
        debug
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A server's certificate with its key.
#[derive(Clone, Debug)]
pub struct ServingCertificate {
    /// For rustls.
    pub key: Arc<CertifiedKey>,
    /// When it was issued.
    pub not_before: SystemTime,
    /// Its last instant.
    pub not_after: SystemTime,
}

fn parameters(now: SystemTime, not_after: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Weft");
    params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 16]>()));
    params.not_before = OffsetDateTime::from(now - BACKDATE);
    params.not_after = OffsetDateTime::from(not_after);
    params.key_identifier_method = KeyIdMethod::Sha256;
    params
}
