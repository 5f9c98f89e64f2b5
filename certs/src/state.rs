//! The authority's state on disk: issuers and rotation phase in one file, replaced as a whole.
//!
//! `ca.json` (0600) is the state. `ca.created` says that there once was one: when it, or a
//! published bundle, is there without `ca.json`, the state is lost, which is an error and never a
//! reason to make a new root.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use weft_identity::TrustDomain;

use crate::bundle::{BundleError, TrustBundle};
use crate::durable_file::{PRIVATE, create_atomic, read_private, write_atomic};
use crate::issuer::{Issuer, IssuerError, SuppliedIssuer};
use crate::root_rotation::RootRotation;

const STATE: &str = "ca.json";
const CREATED: &str = "ca.created";
/// Either of them means that a CA has been at work here.
const EVIDENCE: [&str; 2] = [CREATED, "trust-bundle.pem"];
const VERSION: u32 = 1;

/// Why the state cannot be used. None of these is repaired by making a new CA.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// There was a CA here and its state is gone.
    #[error(
        "{missing} is missing, but {evidence} shows that there was a CA here: restore the file from a backup. A new root would cut off every workload; if that is wanted, remove {evidence} first"
    )]
    Lost {
        /// The state file.
        missing: PathBuf,
        /// What shows that it existed.
        evidence: PathBuf,
    },
    /// The file cannot be understood.
    #[error("{path} is damaged: {reason}; restore it from a backup")]
    Damaged {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Damage,
    },
    /// The state belongs to another mesh.
    #[error("{path} is the CA of trust domain {found}, not of {expected}")]
    OtherDomain {
        /// The state file.
        path: PathBuf,
        /// Whose state it is.
        found: TrustDomain,
        /// The trust domain of the settings.
        expected: TrustDomain,
    },
}

/// What is wrong with a state file.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
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

/// A directory that holds the authority's state.
#[derive(Debug, Clone)]
pub(crate) struct StateDirectory {
    path: PathBuf,
    domain: TrustDomain,
}

impl StateDirectory {
    pub(crate) fn new(path: &Path, domain: &TrustDomain) -> Self {
        Self {
            path: path.to_owned(),
            domain: domain.clone(),
        }
    }

    /// The state, or none where there has never been one.
    pub(crate) fn load(&self) -> Result<Option<RootRotation>, StateError> {
        let path = self.path.join(STATE);
        let text = match read_private(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match self.evidence() {
                    Some(evidence) => Err(StateError::Lost {
                        missing: path,
                        evidence,
                    }),
                    None => Ok(None),
                };
            }
            Err(error) => return Err(StateError::Io { path, error }),
        };
        let rotation = self.read(&path, &text)?;
        // A crash right after the first state may have left the mark out.
        self.mark()?;
        Ok(Some(rotation))
    }

    /// Writes the first state. When another process was faster, its state is returned instead.
    pub(crate) fn create(&self, first: RootRotation) -> Result<RootRotation, StateError> {
        let path = self.path.join(STATE);
        match create_atomic(&path, &self.encode(&first), PRIVATE) {
            Ok(()) => {
                self.mark()?;
                Ok(first)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let text = read_private(&path).map_err(|error| io_error(&path, error))?;
                self.read(&path, &text)
            }
            Err(error) => Err(io_error(&path, error)),
        }
    }

    /// Replaces the state.
    pub(crate) fn save(&self, rotation: &RootRotation) -> Result<(), StateError> {
        let path = self.path.join(STATE);
        write_atomic(&path, &self.encode(rotation), PRIVATE).map_err(|error| io_error(&path, error))
    }

    fn evidence(&self) -> Option<PathBuf> {
        EVIDENCE
            .iter()
            .map(|name| self.path.join(name))
            .find(|path| path.exists())
    }

    fn mark(&self) -> Result<(), StateError> {
        let path = self.path.join(CREATED);
        let text = b"A CA was created here. Its state is ca.json.\n";
        match create_atomic(&path, text, PRIVATE) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(io_error(&path, error))
            }
            _ => Ok(()),
        }
    }

    fn read(&self, path: &Path, text: &str) -> Result<RootRotation, StateError> {
        let damaged = |reason: Damage| StateError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let saved: Saved = serde_json::from_str(text).map_err(|error| damaged(error.into()))?;
        if saved.version != VERSION {
            return Err(damaged(Damage::Version(saved.version)));
        }
        if saved.trust_domain != self.domain {
            return Err(StateError::OtherDomain {
                path: path.to_owned(),
                found: saved.trust_domain,
                expected: self.domain.clone(),
            });
        }
        decode(&self.domain, saved).map_err(damaged)
    }

    fn encode(&self, rotation: &RootRotation) -> Vec<u8> {
        let saved = Saved {
            version: VERSION,
            trust_domain: self.domain.clone(),
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

fn decode(domain: &TrustDomain, saved: Saved) -> Result<RootRotation, Damage> {
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

fn to_seconds(instant: SystemTime) -> u64 {
    instant
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn io_error(path: &Path, error: io::Error) -> StateError {
    StateError::Io {
        path: path.to_owned(),
        error,
    }
}
