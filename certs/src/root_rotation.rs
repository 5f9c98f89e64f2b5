//! Changing the root while everything runs: a pure state machine.
//!
//! ```text
//! Stable ─ begin ─▶ Announced ─ every proxy has the bundle ─▶ Switched ─ every leaf is new ─▶ Stable
//!                   trusts old+new  or one leaf lifetime       trusts old+new  or one leaf lifetime
//!                   old one signs                              new one signs
//! ```
//!
//! A proxy that has not been heard of for a leaf lifetime has no valid leaf left: nothing that
//! works is cut off by either deadline.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::bundle::{BundleHash, TrustBundle};
use crate::issuer::Issuer;

/// Why a rotation cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// One at a time.
    #[error("a root rotation is under way already ({0})")]
    UnderWay(RotationPhase),
}

/// Where a rotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationPhase {
    /// One issuer, its roots trusted.
    Stable,
    /// Old and new roots trusted, the old issuer signs.
    Announced {
        /// The issuer is switched then at the latest.
        switch_by: SystemTime,
    },
    /// Old and new roots trusted, the new issuer signs.
    Switched {
        /// The old roots are dropped then at the latest.
        drop_by: SystemTime,
    },
}

impl fmt::Display for RotationPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stable => "stable",
            Self::Announced { .. } => "announced",
            Self::Switched { .. } => "switched",
        })
    }
}

/// What is known of the proxies when the machine is asked to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// Nothing new; only time may have passed.
    Nothing,
    /// Every connected proxy has confirmed the bundle with this hash.
    Bundle(BundleHash),
    /// Every connected proxy holds a leaf of the present issuer.
    Leaves,
}

/// The issuer in use and, during a rotation, what comes or goes.
#[derive(Debug, Clone)]
pub(crate) enum RootRotation {
    Stable {
        issuer: Arc<Issuer>,
    },
    Announced {
        issuer: Arc<Issuer>,
        next: Arc<Issuer>,
        switch_by: SystemTime,
    },
    Switched {
        issuer: Arc<Issuer>,
        previous: TrustBundle,
        drop_by: SystemTime,
    },
}

impl RootRotation {
    /// The one that signs.
    pub(crate) fn issuer(&self) -> &Arc<Issuer> {
        match self {
            Self::Stable { issuer }
            | Self::Announced { issuer, .. }
            | Self::Switched { issuer, .. } => issuer,
        }
    }

    /// Whether `issuer` signs already or will after the rotation that is under way.
    pub(crate) fn involves(&self, issuer: &Issuer) -> bool {
        match self {
            Self::Announced {
                issuer: old, next, ..
            } => old.is(issuer) || next.is(issuer),
            Self::Stable { issuer: present }
            | Self::Switched {
                issuer: present, ..
            } => present.is(issuer),
        }
    }

    /// What to publish: always enough for every leaf that may be in use.
    pub(crate) fn bundle(&self) -> TrustBundle {
        match self {
            Self::Stable { issuer } => issuer.bundle().clone(),
            Self::Announced { issuer, next, .. } => issuer.bundle().union(next.bundle()),
            Self::Switched {
                issuer, previous, ..
            } => issuer.bundle().union(previous),
        }
    }

    pub(crate) fn phase(&self) -> RotationPhase {
        match *self {
            Self::Stable { .. } => RotationPhase::Stable,
            Self::Announced { switch_by, .. } => RotationPhase::Announced { switch_by },
            Self::Switched { drop_by, .. } => RotationPhase::Switched { drop_by },
        }
    }

    /// Stable → Announced.
    pub(crate) fn begin(
        &self,
        next: Arc<Issuer>,
        leaf_lifetime: Duration,
        now: SystemTime,
    ) -> Result<Self, RotationError> {
        match self {
            Self::Stable { issuer } => Ok(Self::Announced {
                issuer: issuer.clone(),
                next,
                switch_by: now + leaf_lifetime,
            }),
            _ => Err(RotationError::UnderWay(self.phase())),
        }
    }

    /// The next phase, if what is confirmed or the time says so.
    pub(crate) fn advance(
        &self,
        confirmed: Confirmed,
        leaf_lifetime: Duration,
        now: SystemTime,
    ) -> Option<Self> {
        match self {
            Self::Stable { .. } => None,
            Self::Announced {
                issuer,
                next,
                switch_by,
            } => {
                // An old issuer that has expired has no leaf to protect.
                let due = now >= *switch_by || now > issuer.not_after();
                let everywhere = confirmed == Confirmed::Bundle(self.bundle().hash());
                (due || everywhere).then(|| Self::Switched {
                    issuer: next.clone(),
                    previous: issuer.bundle().clone(),
                    drop_by: now + leaf_lifetime,
                })
            }
            Self::Switched {
                issuer, drop_by, ..
            } => {
                let due = now >= *drop_by;
                (due || confirmed == Confirmed::Leaves).then(|| Self::Stable {
                    issuer: issuer.clone(),
                })
            }
        }
    }
}
