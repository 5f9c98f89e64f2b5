//! Verification: a peer's chain, the current bundle and the time in; who it is, or why not, out.
//!
//! The store is shared by all verifiers, so a change of trust is in force for the next handshake
//! without building any configuration anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use weft_identity::{SpiffeId, TrustDomain};

use crate::bundle::{BundleHash, TrustBundle};
use crate::clock::unix_time;
use crate::leaf::{Leaf, LeafError};

/// What the peer is in this handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerRole {
    /// It called us.
    Client,
    /// We called it.
    Server,
}

/// Why a peer is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Its certificate is no leaf of a mesh.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// Nobody vouches for its trust domain here.
    #[error("{id} is of a trust domain that is not trusted here")]
    UntrustedDomain {
        /// Who it says it is.
        id: SpiffeId,
    },
    /// No root of its trust domain stands behind its chain.
    #[error("no trusted root stands behind the certificate of {id}")]
    UnknownIssuer {
        /// Who it says it is.
        id: SpiffeId,
    },
    /// A certificate of its chain has expired.
    #[error("the certificate of {id} has expired")]
    Expired {
        /// Who it says it is.
        id: SpiffeId,
    },
    /// A certificate of its chain is not valid yet.
    #[error("the certificate of {id} is not valid yet")]
    NotYetValid {
        /// Who it says it is.
        id: SpiffeId,
    },
    /// Its chain is faulty in another way.
    #[error("the certificate chain of {id} does not verify: {reason}")]
    Chain {
        /// Who it says it is.
        id: SpiffeId,
        /// The verifier's reason.
        reason: webpki::Error,
    },
    /// It is someone, but not whom we called.
    #[error("the peer is {presented}, not the one that was called")]
    OtherIdentity {
        /// Who it is.
        presented: SpiffeId,
    },
}

/// One immutable state of trust.
#[derive(Debug)]
pub struct Trust {
    bundle: TrustBundle,
    hash: BundleHash,
    anchors: HashMap<TrustDomain, Vec<TrustAnchor<'static>>>,
    generation: u64,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    fn new(bundle: TrustBundle, generation: u64) -> Self {
        let anchors = bundle
            .iter()
            .map(|(domain, roots)| {
                // A root that webpki cannot use (say, X.509 v1) vouches for nobody.
                let anchors = roots
                    .iter()
                    .filter_map(|root| anchor_from_trusted_cert(root).ok())
                    .map(|anchor| anchor.to_owned())
                    .collect();
                (domain.clone(), anchors)
            })
            .collect();
        Self {
            hash: bundle.hash(),
            bundle,
            anchors,
            generation,
            algorithms: default_provider().signature_verification_algorithms,
        }
    }

    /// The bundle.
    pub fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// The bundle's hash.
    pub fn hash(&self) -> BundleHash {
        self.hash
    }

    /// Counts changes of trust; sessions and tickets of another generation are void.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Verifies a peer's chain (leaf first): identity, signatures up to a root of its own trust
    /// domain, validity at `now`, usages. Also the check for connections that stand already, after
    /// a change of trust.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        role: PeerRole,
        now: SystemTime,
    ) -> Result<Leaf, PeerError> {
        let leaf = Leaf::of_chain(chain)?;
        let Some(anchors) = self.anchors.get(leaf.id.trust_domain()) else {
            return Err(PeerError::UntrustedDomain { id: leaf.id });
        };
        let end_entity = EndEntityCert::try_from(&chain[0])
            .map_err(|reason| chain_error(leaf.id.clone(), reason))?;
        let usage = match role {
            PeerRole::Client => KeyUsage::client_auth(),
            PeerRole::Server => KeyUsage::server_auth(),
        };
        end_entity
            .verify_for_usage(
                self.algorithms.all,
                anchors,
                &chain[1..],
                unix_time(now),
                usage,
                None,
                None,
            )
            .map_err(|reason| chain_error(leaf.id.clone(), reason))?;
        Ok(leaf)
    }
}

fn chain_error(id: SpiffeId, reason: webpki::Error) -> PeerError {
    match reason {
        webpki::Error::CertExpired { .. } => PeerError::Expired { id },
        webpki::Error::CertNotValidYet { .. } => PeerError::NotYetValid { id },
        webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
            PeerError::UnknownIssuer { id }
        }
        reason => PeerError::Chain { id, reason },
    }
}

/// The trust that is in force. One writer; readers take an immutable snapshot.
#[derive(Debug)]
pub struct TrustStore {
    current: ArcSwap<Trust>,
    next_generation: AtomicU64,
}

impl TrustStore {
    /// A store that begins with `bundle`; an empty one trusts nobody.
    pub fn new(bundle: TrustBundle) -> Self {
        Self {
            current: ArcSwap::from_pointee(Trust::new(bundle, 0)),
            next_generation: AtomicU64::new(1),
        }
    }

    /// Puts another bundle in force. Returns whether anything changed; if so, sessions and tickets
    /// of before are void, and the caller should [`Trust::verify`] its open hops again.
    pub fn replace(&self, bundle: TrustBundle) -> bool {
        if bundle == *self.current.load().bundle() {
            return false;
        }
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed);
        self.current.store(Arc::new(Trust::new(bundle, generation)));
        true
    }

    /// What is trusted now.
    pub fn current(&self) -> Arc<Trust> {
        self.current.load_full()
    }
}
