//! One signing certificate with its key: Weft's own root, or an intermediate that the user supplies.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer as Signer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use weft_identity::{SpiffeId, TrustDomain};

use crate::bundle::{BundleError, TrustBundle};
use crate::chain::{ChainError, IssuedChain, pem_block};
use crate::clock::from_unix;
use crate::csr::{Csr, CsrError, VerifiedCsr};
use crate::key::{KeyError, PrivateKey};
use crate::leaf::{LeafError, parse_x509};
use crate::trust::{PeerError, PeerRole, TrustStore};

/// How far a peer's clock may be behind: clocks that are five minutes off are met, and those of two
/// machines differ by ten then.
const LONGEST_BACKDATE: Duration = Duration::from_secs(600);
/// A certificate is backdated by at most this part of its life.
const BACKDATE_PART: u32 = 10;

/// Why an issuer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The PEM is damaged.
    #[error("damaged PEM in the issuer's certificates: {0}")]
    Pem(rustls_pki_types::pem::Error),
    /// No certificate.
    #[error("the issuer has no certificate")]
    NoCertificate,
    /// A certificate cannot be read.
    #[error("the issuer's certificate cannot be read: {0}")]
    Certificate(#[from] LeafError),
    /// The roots cannot be used.
    #[error("the issuer's roots cannot be used: {0}")]
    Roots(#[from] BundleError),
    /// The key cannot be read.
    #[error("the issuer's key cannot be read (PKCS#8 PEM expected): {0}")]
    Key(rcgen::Error),
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(rcgen::Error),
    /// A trial certificate of this issuer does not verify: key, chain and roots do not belong
    /// together, the issuer is no CA, or its constraints exclude the mesh's identities.
    #[error("a trial certificate of this issuer does not verify with its roots: {0}")]
    Trial(#[from] PeerError),
    /// The trial certificate could not be requested.
    #[error("no trial certificate: {0}")]
    TrialKey(#[from] KeyError),
    /// The trial request was refused.
    #[error("no trial certificate: {0}")]
    TrialRequest(#[from] CsrError),
    /// The trial certificate is no leaf.
    #[error("the trial certificate is no leaf: {0}")]
    TrialChain(#[from] ChainError),
}

/// An intermediate that the user (or cert-manager) supplies, all PEM.
#[derive(Clone)]
pub struct SuppliedIssuer {
    /// The signing certificate, then the intermediates above it; not the root.
    pub chain_pem: String,
    /// The signing certificate's private key, PKCS#8.
    pub key_pem: String,
    /// The roots to publish.
    pub roots_pem: String,
}

/// A signing certificate that has been tried: key, chain and roots belong together.
#[derive(Debug)]
pub(crate) struct Issuer {
    /// What leaves carry after themselves: empty for a root of our own.
    intermediates: Vec<CertificateDer<'static>>,
    bundle: TrustBundle,
    domain: TrustDomain,
    signer: Signer<'static, KeyPair>,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Issuer {
    /// Makes a new root of our own.
    pub(crate) fn generate_root(
        domain: &TrustDomain,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Self, IssuerError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IssuerError::Signing)?;
        let mut params = empty_params(now, now + lifetime, lifetime);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Weft");
        // Roots of one mesh differ in name, so that a verifier tries the right one first.
        params.distinguished_name.push(
            DnType::CommonName,
            format!("Weft root {:08x}", rand::random::<u32>()),
        );
        params.subject_alt_names = vec![SanType::URI(
            format!("spiffe://{domain}")
                .try_into()
                .map_err(IssuerError::Signing)?,
        )];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key).map_err(IssuerError::Signing)?;
        Self::try_out(
            Vec::new(),
            root.der().clone(),
            key,
            vec![root.der().clone()],
            domain,
        )
    }

    /// Takes an intermediate.
    pub(crate) fn supplied(
        domain: &TrustDomain,
        supplied: &SuppliedIssuer,
    ) -> Result<Self, IssuerError> {
        let chain = certificates(&supplied.chain_pem)?;
        let roots = certificates(&supplied.roots_pem)?;
        let key = KeyPair::from_pem(&supplied.key_pem).map_err(IssuerError::Key)?;
        let signing = chain.first().ok_or(IssuerError::NoCertificate)?.clone();
        // A chain that is just one of the roots is a root of the user's: nothing to send along.
        let intermediates = match &chain[..] {
            [only] if roots.contains(only) => Vec::new(),
            _ => chain,
        };
        Self::try_out(intermediates, signing, key, roots, domain)
    }

    /// What [`Issuer::supplied`] needs to make this issuer again.
    pub(crate) fn to_pem(&self) -> SuppliedIssuer {
        let roots = self.bundle.roots(&self.domain);
        let chain = if self.intermediates.is_empty() {
            roots
        } else {
            &self.intermediates
        };
        SuppliedIssuer {
            chain_pem: chain.iter().map(pem_block).collect(),
            key_pem: self.signer.key().serialize_pem(),
            roots_pem: roots.iter().map(pem_block).collect(),
        }
    }

    /// Signs a leaf that ends at `not_after` and begins a little before `now`.
    pub(crate) fn sign(
        &self,
        request: &VerifiedCsr,
        now: SystemTime,
        not_after: SystemTime,
    ) -> Result<IssuedChain, IssuerError> {
        let life = not_after.duration_since(now).unwrap_or_default();
        let mut params = empty_params(now, not_after, life);
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Weft");
        params.subject_alt_names = vec![SanType::URI(
            request
                .id
                .as_str()
                .try_into()
                .map_err(IssuerError::Signing)?,
        )];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let leaf = params
            .signed_by(&request.public_key, &self.signer)
            .map_err(IssuerError::Signing)?;
        let mut chain = vec![leaf.der().clone()];
        chain.extend(self.intermediates.iter().cloned());
        Ok(IssuedChain::new(chain)?)
    }

    /// The same signing certificate, chain and roots.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.intermediates == other.intermediates && self.bundle == other.bundle
    }

    /// What to trust for this issuer's leaves.
    pub(crate) fn bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// Until when leaves of this issuer can verify.
    pub(crate) fn not_after(&self) -> SystemTime {
        self.not_after
    }

    fn try_out(
        intermediates: Vec<CertificateDer<'static>>,
        signing: CertificateDer<'static>,
        key: KeyPair,
        roots: Vec<CertificateDer<'static>>,
        domain: &TrustDomain,
    ) -> Result<Self, IssuerError> {
        let (mut not_before, mut not_after) = validity(&signing)?;
        for certificate in &intermediates {
            let (begin, end) = validity(certificate)?;
            not_before = not_before.max(begin);
            not_after = not_after.min(end);
        }
        let issuer = Self {
            signer: Signer::from_ca_cert_der(&signing, key).map_err(IssuerError::Signing)?,
            intermediates,
            bundle: TrustBundle::of(domain, roots)?,
            domain: domain.clone(),
            not_before,
            not_after,
        };
        issuer.trial()?;
        Ok(issuer)
    }

    /// Issues a leaf to nobody and verifies it, at an instant when the whole chain is valid.
    fn trial(&self) -> Result<(), IssuerError> {
        let id = SpiffeId::control_plane(&self.domain);
        let request = Csr::verify(&PrivateKey::generate()?.csr(&id)?, &id)?;
        let life = self
            .not_after
            .duration_since(self.not_before)
            .unwrap_or_default();
        let middle = self.not_before + life / 2;
        let chain = self.sign(&request, middle, self.not_after)?;
        TrustStore::new(self.bundle.clone()).current().verify(
            chain.certificates(),
            PeerRole::Server,
            middle,
        )?;
        Ok(())
    }
}

/// Parameters with a random 128-bit serial, an empty name, and a start a little before `now`.
fn empty_params(now: SystemTime, not_after: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&rand::random::<[u8; 16]>()));
    let backdate = (life / BACKDATE_PART).min(LONGEST_BACKDATE);
    params.not_before = OffsetDateTime::from(now - backdate);
    params.not_after = OffsetDateTime::from(not_after);
    params.key_identifier_method = KeyIdMethod::Sha256;
    params
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, IssuerError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(IssuerError::Pem)
}

fn validity(certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), IssuerError> {
    let certificate = parse_x509(certificate)?;
    let validity = certificate.validity();
    Ok((
        from_unix(validity.not_before.timestamp()),
        from_unix(validity.not_after.timestamp()),
    ))
}
