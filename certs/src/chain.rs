//! A certificate chain as the authority hands it out: leaf first, root left out.

use std::sync::Arc;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use weft_identity::SpiffeId;

use crate::leaf::{Leaf, LeafError, Serial};

/// What is wrong with a chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The PEM is damaged.
    #[error("damaged PEM: {0}")]
    Pem(rustls_pki_types::pem::Error),
    /// The first certificate is no leaf of the mesh.
    #[error(transparent)]
    Leaf(#[from] LeafError),
}

/// Leaf and intermediates, leaf first. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedChain {
    certificates: Arc<[CertificateDer<'static>]>,
    leaf: Leaf,
}

impl IssuedChain {
    /// Reads the leaf of a chain; does not verify signatures.
    ///
    /// # Errors
    /// An empty chain, or one whose first certificate is no leaf.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, ChainError> {
        let leaf = Leaf::of_chain(&certificates)?;
        Ok(Self {
            certificates: certificates.into(),
            leaf,
        })
    }

    /// Reads all certificates of a PEM text.
    ///
    /// # Errors
    /// Damaged PEM, or as [`IssuedChain::new`].
    pub fn from_pem(pem: &str) -> Result<Self, ChainError> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(ChainError::Pem)?;
        Self::new(certificates)
    }

    /// PEM, leaf first.
    pub fn to_pem(&self) -> String {
        self.certificates.iter().map(pem_block).collect()
    }

    /// DER, leaf first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// What the leaf says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Whose chain it is.
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// First instant of the leaf's validity.
    pub fn not_before(&self) -> SystemTime {
        self.leaf.not_before
    }

    /// Last instant of the leaf's validity.
    pub fn not_after(&self) -> SystemTime {
        self.leaf.not_after
    }

    /// The leaf's serial number.
    pub fn serial(&self) -> &Serial {
        &self.leaf.serial
    }
}

/// One certificate as a PEM block.
pub(crate) fn pem_block(certificate: &CertificateDer<'static>) -> String {
    let block = pem::Pem::new("CERTIFICATE", certificate.as_ref());
    pem::encode_config(
        &block,
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}
