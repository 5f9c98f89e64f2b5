//! Trust bundles: which roots vouch for which trust domain.

use std::collections::BTreeMap;
use std::fmt;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use weft_identity::{NameError, TrustDomain};

use crate::chain::pem_block;
use crate::leaf::{LeafError, is_authority, parse_x509};

/// The line that says to which trust domain the certificates after it belong. PEM readers skip it
/// (explanatory text, RFC 7468 section 2).
const DOMAIN_LINE: &str = "# trust-domain: ";

/// Why a bundle cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The PEM is damaged.
    #[error("damaged PEM in the trust bundle: {0}")]
    Pem(rustls_pki_types::pem::Error),
    /// A `# trust-domain:` line names none.
    #[error("the trust bundle names a trust domain that is none: {0}")]
    Domain(#[from] NameError),
    /// A root is not a certificate.
    #[error("root {0} of the trust bundle is not a certificate: {1}")]
    Certificate(usize, LeafError),
    /// A root is no CA certificate.
    #[error("root {0} of the trust bundle is no certificate authority")]
    NotAuthority(usize),
    /// Nothing in it.
    #[error("the trust bundle has no certificate")]
    Empty,
}

/// SHA-256 over a bundle's content; the same for the same roots, whatever their order was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BundleHash([u8; 32]);

impl BundleHash {
    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BundleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BundleHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The roots of each trust domain, in a fixed order and without repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustBundle {
    /// Sorted by DER; no entry is empty.
    domains: BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>,
}

impl TrustBundle {
    /// A bundle of one trust domain.
    ///
    /// # Errors
    /// No root, or one that is no CA certificate (numbered from 0).
    pub fn of(
        domain: &TrustDomain,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, BundleError> {
        let mut bundle = Self::default();
        for (index, root) in roots.into_iter().enumerate() {
            bundle.insert(domain, root, index)?;
        }
        bundle.not_empty()
    }

    /// A bundle from the wire: pairs of trust domain and root (DER).
    ///
    /// # Errors
    /// As [`TrustBundle::of`].
    pub fn from_der(
        roots: impl IntoIterator<Item = (TrustDomain, CertificateDer<'static>)>,
    ) -> Result<Self, BundleError> {
        let mut bundle = Self::default();
        for (index, (domain, root)) in roots.into_iter().enumerate() {
            bundle.insert(&domain, root, index)?;
        }
        bundle.not_empty()
    }

    /// Reads PEM as [`TrustBundle::to_pem`] writes it. Certificates before the first
    /// `# trust-domain:` line belong to `default`, so any plain PEM file of roots will do.
    ///
    /// # Errors
    /// Damaged PEM, no certificate at all, or as [`TrustBundle::of`].
    pub fn from_pem(pem: &str, default: &TrustDomain) -> Result<Self, BundleError> {
        let mut bundle = Self::default();
        let mut index = 0;
        for (position, section) in pem.split(DOMAIN_LINE).enumerate() {
            let (domain, text) = match position {
                0 => (default.clone(), section),
                _ => {
                    let (name, text) = section.split_once('\n').unwrap_or((section, ""));
                    (TrustDomain::new(name.trim_end())?, text)
                }
            };
            for root in CertificateDer::pem_slice_iter(text.as_bytes()) {
                bundle.insert(&domain, root.map_err(BundleError::Pem)?, index)?;
                index += 1;
            }
        }
        bundle.not_empty()
    }

    /// PEM, every trust domain under its own `# trust-domain:` line.
    pub fn to_pem(&self) -> String {
        let mut pem = String::new();
        for (domain, roots) in &self.domains {
            pem.push_str(&format!("{DOMAIN_LINE}{domain}\n"));
            pem.extend(roots.iter().map(pem_block));
        }
        pem
    }

    /// The roots of one trust domain, DER; empty for a stranger.
    pub fn roots(&self, domain: &TrustDomain) -> &[CertificateDer<'static>] {
        self.domains.get(domain).map_or(&[], Vec::as_slice)
    }

    /// Every trust domain with its roots (DER, at least one).
    pub fn iter(&self) -> impl Iterator<Item = (&TrustDomain, &[CertificateDer<'static>])> {
        self.domains
            .iter()
            .map(|(domain, roots)| (domain, roots.as_slice()))
    }

    /// True when nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty()
    }

    /// What either bundle trusts.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        for (domain, roots) in &other.domains {
            let mine = union.domains.entry(domain.clone()).or_default();
            mine.extend(roots.iter().cloned());
            mine.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
            mine.dedup();
        }
        union
    }

    /// The content's hash.
    pub fn hash(&self) -> BundleHash {
        let mut digest = Sha256::new();
        for (domain, roots) in &self.domains {
            for root in roots {
                // A trust domain has no NUL and a DER certificate carries its own length.
                digest.update(domain.as_str());
                digest.update([0]);
                digest.update(root);
            }
        }
        BundleHash(digest.finalize().into())
    }

    fn insert(
        &mut self,
        domain: &TrustDomain,
        root: CertificateDer<'static>,
        index: usize,
    ) -> Result<(), BundleError> {
        let certificate =
            parse_x509(&root).map_err(|error| BundleError::Certificate(index, error))?;
        if !is_authority(&certificate).map_err(|error| BundleError::Certificate(index, error))? {
            return Err(BundleError::NotAuthority(index));
        }
        let roots = self.domains.entry(domain.clone()).or_default();
        if let Err(place) = roots.binary_search_by(|held| held.as_ref().cmp(root.as_ref())) {
            roots.insert(place, root);
        }
        Ok(())
    }

    fn not_empty(self) -> Result<Self, BundleError> {
        if self.is_empty() {
            return Err(BundleError::Empty);
        }
        Ok(self)
    }
}
