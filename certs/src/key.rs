//! A workload's private key: made here, never leaves the pod.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use weft_identity::SpiffeId;

use crate::durable_file::{PRIVATE, write_atomic};

/// What is wrong with a private key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No PKCS#8 key in the text.
    #[error("no PKCS#8 private key in PEM: {0}")]
    Pem(rustls_pki_types::pem::Error),
    /// Not an ECDSA P-256 key, or damaged.
    #[error("not an ECDSA P-256 key in PKCS#8: {0}")]
    NotP256(rcgen::Error),
    /// The key could not be made or used.
    #[error("key operation failed: {0}")]
    Crypto(rcgen::Error),
}

/// An ECDSA P-256 private key. Clones share it; `Debug` does not show it.
#[derive(Clone)]
pub struct PrivateKey(Arc<KeyPair>);

impl PrivateKey {
    /// A new random key.
    ///
    /// # Errors
    /// The random source failed.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(KeyError::Crypto)?;
        Ok(Self(Arc::new(pair)))
    }

    /// Reads a PKCS#8 key.
    ///
    /// # Errors
    /// Damaged, or not P-256.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from(der);
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map_err(KeyError::NotP256)?;
        Ok(Self(Arc::new(pair)))
    }

    /// Reads the first PKCS#8 key of a PEM text.
    ///
    /// # Errors
    /// None there, damaged, or not P-256.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(KeyError::Pem)?;
        Self::from_der(der.secret_pkcs8_der())
    }

    /// PKCS#8, DER.
    pub fn to_der(&self) -> &[u8] {
        self.0.serialized_der()
    }

    /// PKCS#8, PEM.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// Writes the PEM atomically, mode 0600.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        write_atomic(path, self.to_pem().as_bytes(), PRIVATE)
    }

    /// A certificate request (PKCS#10, DER) for `id`, with nothing else in it.
    ///
    /// # Errors
    /// Signing failed.
    pub fn csr(&self, id: &SpiffeId) -> Result<CertificateSigningRequestDer<'static>, KeyError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(
            id.as_str().try_into().map_err(KeyError::Crypto)?,
        )];
        let request = params
            .serialize_request(&*self.0)
            .map_err(KeyError::Crypto)?;
        Ok(request.der().clone())
    }

    pub(crate) fn tls_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.to_der().to_vec()).into()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(ECDSA P-256)")
    }
}
