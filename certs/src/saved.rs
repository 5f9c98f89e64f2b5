//! The authority's state as bytes: issuers and rotation phase in one JSON document, the same in a
//! file and in a Kubernetes Secret.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use weft_identity::TrustDomain;

use crate::bundle::{BundleError, TrustBundle};
use crate::issuer::{Issuer, IssuerError, SuppliedIssuer};
use crate::root_rotation::RootRotation;

const VERSION: u32 = 1;

/// What is wrong with saved state.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The state belongs to another mesh.
    #[error("it is the CA of trust domain {found}, not of {expected}")]
    OtherDomain {
        /// Whose state it is.
        found: TrustDomain,
        /// The trust domain of the settings.
        expected: TrustDomain,
    },
    /// Not the expected JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Written by a later version.
    #[error("its version is {0}, this program knows {VERSION}")]
    Version(u32),
    /// An issuer in it cannot be used.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// Roots in it cannot be used.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    trust_domain: TrustDomain,
    issuer: SavedIssuer,
    rotation: SavedRotation,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedIssuer {
    chain: String,
    key: String,
    roots: String,
}

/// Instants are Unix seconds.
#[derive(Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case", deny_unknown_fields)]
enum SavedRotation {
    Stable {},
    Announced {
        next: SavedIssuer,
        switch_by: u64,
    },
    Switched {
        previous_roots: String,
        drop_by: u64,
    },
}

pub(crate) fn encode(domain: &TrustDomain, rotation: &RootRotation) -> Vec<u8> {
    let saved = Saved {
        version: VERSION,
        trust_domain: domain.clone(),
        issuer: SavedIssuer::of(rotation.issuer()),
        rotation: match rotation {
            RootRotation::Stable { .. } => SavedRotation::Stable {},
            RootRotation::Announced {
                next, switch_by, ..
            } => SavedRotation::Announced {
                next: SavedIssuer::of(next),
                switch_by: to_seconds(*switch_by),
            },
            RootRotation::Switched {
                previous, drop_by, ..
            } => SavedRotation::Switched {
                previous_roots: previous.to_pem(),
                drop_by: to_seconds(*drop_by),
            },
        },
    };
    serde_json::to_vec_pretty(&saved).expect("strings and numbers always serialise")
}

pub(crate) fn decode(domain: &TrustDomain, bytes: &[u8]) -> Result<RootRotation, Damage> {
    let saved: Saved = serde_json::from_slice(bytes)?;
    if saved.version != VERSION {
        return Err(Damage::Version(saved.version));
    }
    if saved.trust_domain != *domain {
        return Err(Damage::OtherDomain {
            found: saved.trust_domain,
            expected: domain.clone(),
        });
    }
    let issuer = saved.issuer.load(domain)?;
    Ok(match saved.rotation {
        SavedRotation::Stable {} => RootRotation::Stable { issuer },
        SavedRotation::Announced { next, switch_by } => RootRotation::Announced {
            issuer,
            next: next.load(domain)?,
            switch_by: UNIX_EPOCH + Duration::from_secs(switch_by),
        },
        SavedRotation::Switched {
            previous_roots,
            drop_by,
        } => RootRotation::Switched {
            issuer,
            previous: TrustBundle::from_pem(&previous_roots, domain)?,
            drop_by: UNIX_EPOCH + Duration::from_secs(drop_by),
        },
    })
}

impl SavedIssuer {
    fn of(issuer: &Issuer) -> Self {
        let pem = issuer.to_pem();
        Self {
            chain: pem.chain_pem,
            key: pem.key_pem,
            roots: pem.roots_pem,
        }
    }

    fn load(self, domain: &TrustDomain) -> Result<Arc<Issuer>, IssuerError> {
        let supplied = SuppliedIssuer {
            chain_pem: self.chain,
            key_pem: self.key,
            roots_pem: self.roots,
        };
        Issuer::supplied(domain, &supplied).map(Arc::new)
    }
}

fn to_seconds(instant: SystemTime) -> u64 {
    instant
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
