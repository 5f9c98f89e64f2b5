//! The certificate authority: verified requests in, chains out; its roots and their rotation.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_identity::TrustDomain;

use crate::bundle::TrustBundle;
use crate::chain::IssuedChain;
use crate::csr::VerifiedCsr;
use crate::issuer::{Issuer, IssuerError, SuppliedIssuer};
use crate::root_rotation::{Confirmed, RootRotation, RotationError, RotationPhase};
use crate::state::{StateDirectory, StateError};
use crate::trust::{PeerRole, TrustStore};

/// A leaf that would live shorter than this part of what was asked for is not issued.
const SHORTEST_PART: u32 = 10;
/// The alarm begins this many leaf lifetimes before the issuer's end: one to announce the next
/// root, one until its leaves are everywhere, one to notice the alarm.
const ALARM_LIFETIMES: u32 = 3;

/// Why the authority cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its state.
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

/// The CA of one trust domain, its state in a directory. Every change is on disk before it is in
/// force.
#[derive(Debug)]
pub struct CertificateAuthority {
    settings: AuthoritySettings,
    state: StateDirectory,
    rotation: RootRotation,
}

impl CertificateAuthority {
    /// Opens the CA whose state is in `directory` (which must exist), with a root of its own. Makes
    /// the root only where there has never been a CA.
    ///
    /// # Errors
    /// [`AuthorityError`], in particular lost or damaged state.
    pub fn open(
        directory: &Path,
        settings: AuthoritySettings,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let state = StateDirectory::new(directory, &settings.trust_domain);
        let rotation = match state.load()? {
            Some(rotation) => rotation,
            None => {
                let issuer =
                    Issuer::generate_root(&settings.trust_domain, settings.root_lifetime, now)?;
                state.create(RootRotation::Stable {
                    issuer: Arc::new(issuer),
                })?
            }
        };
        Ok(Self {
            settings,
            state,
            rotation,
        })
    }

    /// Opens the CA with an intermediate that the user supplies. If the state has another issuer, a
    /// rotation to the supplied one begins; while one is under way, its end must be awaited first.
    ///
    /// # Errors
    /// [`AuthorityError`]; a supplied issuer must verify with its roots.
    pub fn open_supplied(
        directory: &Path,
        settings: AuthoritySettings,
        supplied: &SuppliedIssuer,
        now: SystemTime,
    ) -> Result<Self, AuthorityError> {
        let issuer = Arc::new(Issuer::supplied(&settings.trust_domain, supplied)?);
        let state = StateDirectory::new(directory, &settings.trust_domain);
        let rotation = match state.load()? {
            Some(rotation) => rotation,
            None => state.create(RootRotation::Stable {
                issuer: issuer.clone(),
            })?,
        };
        let mut authority = Self {
            settings,
            state,
            rotation,
        };
        if !authority.rotation.involves(&issuer) {
            authority.begin(issuer, now)?;
        }
        Ok(authority)
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

    /// Begins to rotate to a new root of its own. Publish [`Self::bundle`] afterwards.
    ///
    /// # Errors
    /// One is under way, or the state cannot be written; then nothing has changed.
    pub fn begin_rotation(&mut self, now: SystemTime) -> Result<(), AuthorityError> {
        if self.phase() != RotationPhase::Stable {
            return Err(RotationError::UnderWay(self.phase()).into());
        }
        let next = Issuer::generate_root(
            &self.settings.trust_domain,
            self.settings.root_lifetime,
            now,
        )?;
        self.begin(Arc::new(next), now)
    }

    /// Goes on with a rotation where what is confirmed, or time, allows it; returns the phase that
    /// was entered. Call it on every confirmation and now and then. After a change publish
    /// [`Self::bundle`]; after [`RotationPhase::Switched`] leaves should be renewed.
    ///
    /// # Errors
    /// The state cannot be written; then nothing has changed.
    pub fn advance_rotation(
        &mut self,
        confirmed: Confirmed,
        now: SystemTime,
    ) -> Result<Option<RotationPhase>, AuthorityError> {
        let lifetime = self.settings.leaf_lifetime;
        let Some(next) = self.rotation.advance(confirmed, lifetime, now) else {
            return Ok(None);
        };
        self.enter(next)?;
        Ok(Some(self.phase()))
    }

    fn begin(&mut self, next: Arc<Issuer>, now: SystemTime) -> Result<(), AuthorityError> {
        let announced = self
            .rotation
            .begin(next, self.settings.leaf_lifetime, now)?;
        self.enter(announced)
    }

    fn enter(&mut self, rotation: RootRotation) -> Result<(), AuthorityError> {
        self.state.save(&rotation)?;
        self.rotation = rotation;
        Ok(())
    }
}
