//! The certificate authority: verified requests in, chains out; its roots and their rotation.
//!
//! It is a value. What changes it gives the next value, and whoever keeps it stores that one
//! ([`CertificateAuthority::to_bytes`]) before putting it in force: in a folder with
//! [`AuthorityDirectory`], or wherever else the bytes are safe.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_identity::TrustDomain;

use crate::authority_directory::{AuthorityDirectory, StateError};
use crate::bundle::TrustBundle;
use crate::chain::IssuedChain;
use crate::csr::VerifiedCsr;
use crate::issuer::{Issuer, IssuerError, SuppliedIssuer};
use crate::root_rotation::{Confirmed, RootRotation, RotationError, RotationPhase};
use crate::saved::{self, Damage};
use crate::trust::{PeerRole, TrustStore};

/// A leaf that would live shorter than this part of what was asked for is not issued.
const SHORTEST_PART: u32 = 10;
/// The alarm begins this many leaf lifetimes before the issuer's end: one to announce the next
/// root, one until its leaves are everywhere, one to notice the alarm.
const ALARM_LIFETIMES: u32 = 3;

/// Why the authority cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its state in a folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// An issuer that was to be made or taken over.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// A rotation cannot begin now.
    #[error(transparent)]
    Rotation(#[from] RotationError),
}

/// Why no certificate is issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The issuer has expired or is about to.
    #[error(
        "the issuer ends in {left:?}: too short for a certificate of {wanted:?}; rotate the root"
    )]
    IssuerEnds {
        /// Until the issuer's end.
        left: Duration,
        /// What was asked for.
        wanted: Duration,
    },
    /// The request is for an identity of another trust domain.
    #[error("{0} is not the trust domain of this authority")]
    OtherDomain(TrustDomain),
    /// Signing failed.
    #[error(transparent)]
    Signing(#[from] IssuerError),
}

/// What the authority is for.
#[derive(Debug, Clone)]
pub struct AuthoritySettings {
    /// The trust domain of all it issues.
    pub trust_domain: TrustDomain,
    /// The longest life of a leaf, and the grace in each phase of a root rotation.
    pub leaf_lifetime: Duration,
    /// The life of a root it makes.
    pub root_lifetime: Duration,
}

impl AuthoritySettings {
    /// Leaves of 24 hours, roots of ten years.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            leaf_lifetime: Duration::from_secs(24 * 3600),
            root_lifetime: Duration::from_secs(10 * 365 * 24 * 3600),
        }
    }
}

/// How long the issuer will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerExpiry {
    /// Its last instant.
    pub not_after: SystemTime,
    /// Until then; zero afterwards.
    pub left: Duration,
    /// It is time to rotate: later, leaves get shorter than they should be.
    pub alarm: bool,
}

/// The CA of one trust domain, as it is in one moment of its roots' rotation.
#[derive(Debug, Clone)]
pub struct CertificateAuthority {
    settings: AuthoritySettings,
    rotation: RootRotation,
}

impl CertificateAuthority {
    /// A CA with a new root of its own, for where there has never been one.
    ///
    /// # Errors
    /// No key, no certificate.
    pub fn generate(settings: AuthoritySettings, now: SystemTime) -> Result<Self, IssuerError> {
        let issuer = Issuer::generate_root(&settings.trust_domain, settings.root_lifetime, now)?;
        Ok(Self::of(settings, issuer))
    }

    /// A CA with an intermediate that the user supplies, for where there has never been one.
    ///
    /// # Errors
    /// It does not verify with its roots.
    pub fn supplied(
        settings: AuthoritySettings,
        supplied: &SuppliedIssuer,
    ) -> Result<Self, IssuerError> {
        let issuer = Issuer::supplied(&settings.trust_domain, supplied)?;
        Ok(Self::of(settings, issuer))
    }

    fn of(settings: AuthoritySettings, issuer: Issuer) -> Self {
        let issuer = Arc::new(issuer);
        Self {
            settings,
            rotation: RootRotation::Stable { issuer },
        }
    }

    /// Opens the CA whose state is in the folder, or makes one with a root of its own where there
    /// has never been one; as [`AuthorityDirectory::open`].
    ///
    /// # Errors
    /// [`AuthorityError`], in particular lost or damaged state.
    pub fn open(
        directory: &Path,
        settings: AuthoritySettings,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        AuthorityDirectory::new(directory).open(settings, now)
    }

    /// Reads what [`CertificateAuthority::to_bytes`] gave.
    ///
    /// # Errors
    /// What is wrong with the bytes; also when they are another trust domain's.
    pub fn from_bytes(settings: AuthoritySettings, bytes: &[u8]) -> Result<Self, Damage> {
        let rotation = saved::decode(&settings.trust_domain, bytes)?;
        Ok(Self { settings, rotation })
    }

    /// All of its state, private keys included, as JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        saved::encode(&self.settings.trust_domain, &self.rotation)
    }

    /// Issues a leaf with exactly one URI SAN, a random serial and both usages, that lives for
    /// `lifetime`, at most the settings' and never beyond the issuer's end.
    ///
    /// # Errors
    /// [`IssueError`]: the issuer's end is too near, the identity is of another trust domain, or
    /// signing failed.
    pub fn issue(
        &self,
        request: &VerifiedCsr,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<IssuedChain, IssueError> {
        if *request.id().trust_domain() != self.settings.trust_domain {
            return Err(IssueError::OtherDomain(request.id().trust_domain().clone()));
        }
        let wanted = lifetime.min(self.settings.leaf_lifetime);
        let left = self.expiry(now).left;
        if left.is_zero() || left < wanted / SHORTEST_PART {
            return Err(IssueError::IssuerEnds { left, wanted });
        }
        let issuer = self.rotation.issuer();
        Ok(issuer.sign(request, now, now + wanted.min(left))?)
    }

    /// How long the present issuer will do.
    pub fn expiry(&self, now: SystemTime) -> IssuerExpiry {
        let not_after = self.rotation.issuer().not_after();
        let left = not_after.duration_since(now).unwrap_or_default();
        IssuerExpiry {
            not_after,
            left,
            alarm: left < self.settings.leaf_lifetime * ALARM_LIFETIMES,
        }
    }

    /// What to publish now.
    pub fn bundle(&self) -> TrustBundle {
        self.rotation.bundle()
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.settings.trust_domain
    }

    /// Where the root rotation stands.
    pub fn phase(&self) -> RotationPhase {
        self.rotation.phase()
    }

    /// Whether a leaf is of the issuer that signs now: what every proxy must have before the old
    /// root can go.
    pub fn is_current(&self, chain: &IssuedChain) -> bool {
        TrustStore::new(self.rotation.issuer().bundle().clone())
            .current()
            .verify(chain.certificates(), PeerRole::Client, chain.not_after())
            .is_ok()
    }

    /// Whether both sign with the same certificate.
    pub fn has_issuer_of(&self, other: &Self) -> bool {
        self.rotation.issuer().is(other.rotation.issuer())
    }

    /// The CA after the beginning of a rotation to a new root of its own.
    ///
    /// # Errors
    /// One is under way, or there is no new root.
    pub fn with_new_root(&self, now: SystemTime) -> Result<Self, AuthorityError> {
        if self.phase() != RotationPhase::Stable {
            return Err(RotationError::UnderWay(self.phase()).into());
        }
        let next = Issuer::generate_root(
            &self.settings.trust_domain,
            self.settings.root_lifetime,
            now,
        )?;
        self.begun(next, now)
    }

    /// The CA after the beginning of a rotation to the supplied issuer. None where that one signs
    /// already, or will after the rotation that is under way.
    ///
    /// # Errors
    /// It does not verify with its roots, or a rotation to another one is under way: its end must
    /// be awaited.
    pub fn with_supplied(
        &self,
        supplied: &SuppliedIssuer,
        now: SystemTime,
    ) -> Result<Option<Self>, AuthorityError> {
        let issuer = Issuer::supplied(&self.settings.trust_domain, supplied)?;
        if self.rotation.involves(&issuer) {
            return Ok(None);
        }
        self.begun(issuer, now).map(Some)
    }

    /// The CA in the next phase of its rotation, where what is confirmed, or time, allows it. Ask
    /// on every confirmation and now and then. Once it is in force publish its
    /// [`Self::bundle`]; after [`RotationPhase::Switched`] leaves should be renewed.
    #[must_use]
    pub fn advanced(&self, confirmed: Confirmed, now: SystemTime) -> Option<Self> {
        let lifetime = self.settings.leaf_lifetime;
        let rotation = self.rotation.advance(confirmed, lifetime, now)?;
        Some(self.in_phase(rotation))
    }

    fn begun(&self, next: Issuer, now: SystemTime) -> Result<Self, AuthorityError> {
        let lifetime = self.settings.leaf_lifetime;
        let rotation = self.rotation.begin(Arc::new(next), lifetime, now)?;
        Ok(self.in_phase(rotation))
    }

    fn in_phase(&self, rotation: RootRotation) -> Self {
        Self {
            settings: self.settings.clone(),
            rotation,
        }
    }
}
