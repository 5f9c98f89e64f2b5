//! The identity this process shows to its peers, replaceable while it runs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::chain::IssuedChain;
use crate::key::PrivateKey;

/// Why key and chain do not make an identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The certificate is for another key.
    #[error("the certificate of serial {serial} does not belong to the private key")]
    Mismatch {
        /// The leaf's serial, hexadecimal.
        serial: String,
    },
    /// The key cannot be used for TLS.
    #[error("the private key cannot be used: {0}")]
    Key(rustls::Error),
}

/// A key with the chain that was issued for it.
pub struct Identity {
    key: PrivateKey,
    chain: IssuedChain,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Joins a key and its chain.
    ///
    /// # Errors
    /// The leaf holds another public key.
    pub fn new(key: PrivateKey, chain: IssuedChain) -> Result<Self, IdentityError> {
        let signing = any_ecdsa_type(&key.tls_key()).map_err(IdentityError::Key)?;
        let certified = CertifiedKey::new(chain.certificates().to_vec(), signing);
        certified
            .keys_match()
            .map_err(|_| IdentityError::Mismatch {
                serial: chain.serial().to_string(),
            })?;
        Ok(Self {
            key,
            chain,
            certified: Arc::new(certified),
        })
    }

    /// The private key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The chain: identity, validity, serial.
    pub fn chain(&self) -> &IssuedChain {
        &self.chain
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("leaf", self.chain.leaf())
            .finish_non_exhaustive()
    }
}

/// The identity in use, or none yet. New handshakes take the latest; as a server without one every
/// handshake fails, as a client without one none is shown.
#[derive(Debug, Default)]
pub struct WorkloadIdentity {
    current: ArcSwapOption<Identity>,
    generation: AtomicU64,
}

impl WorkloadIdentity {
    /// A store without an identity.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an identity in use. Client sessions made under the one before are dropped.
    pub fn set(&self, identity: Identity) {
        self.current.store(Some(Arc::new(identity)));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The identity in use.
    pub fn current(&self) -> Option<Arc<Identity>> {
        self.current.load_full()
    }

    /// Counts changes.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        let current = self.current.load();
        current.as_ref().map(|identity| identity.certified.clone())
    }
}

impl ResolvesServerCert for WorkloadIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for WorkloadIdentity {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    fn has_certs(&self) -> bool {
        self.current.load().is_some()
    }
}
