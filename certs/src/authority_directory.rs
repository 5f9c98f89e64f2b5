//! The authority's state on disk: one file, replaced as a whole.
//!
//! `ca.json` (0600) is the state. `ca.created` says that there once was one: when it, or a
//! published bundle, is there without `ca.json`, the state is lost, which is an error and never a
//! reason to make a new root.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use weft_identity::TrustDomain;

use crate::authority::{AuthorityError, AuthoritySettings, CertificateAuthority};
use crate::durable_file::{PRIVATE, create_atomic, read_private, write_atomic};
use crate::issuer::SuppliedIssuer;
use crate::saved::Damage;

const STATE: &str = "ca.json";
const CREATED: &str = "ca.created";
/// Either of them means that a CA has been at work here.
const EVIDENCE: [&str; 2] = [CREATED, "trust-bundle.pem"];

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

/// A folder (which must exist) that holds an authority's state.
#[derive(Debug, Clone)]
pub struct AuthorityDirectory {
    path: PathBuf,
}

impl AuthorityDirectory {
    /// State in the folder `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Opens the CA whose state is here, with a root of its own. Makes the root only where there
    /// has never been a CA.
    ///
    /// # Errors
    /// [`AuthorityError`], in particular lost or damaged state.
    pub fn open(
        &self,
        settings: AuthoritySettings,
        now: SystemTime,
    ) -> Result<CertificateAuthority, AuthorityError> {
        match self.load(&settings)? {
            Some(authority) => Ok(authority),
            None => Ok(self.create(
                CertificateAuthority::generate(settings.clone(), now)?,
                &settings,
            )?),
        }
    }

    /// Opens the CA with an intermediate that the user supplies. If the state has another issuer, a
    /// rotation to the supplied one begins; while one is under way, its end must be awaited first.
    ///
    /// # Errors
    /// [`AuthorityError`]; a supplied issuer must verify with its roots.
    pub fn open_supplied(
        &self,
        settings: AuthoritySettings,
        supplied: &SuppliedIssuer,
        now: SystemTime,
    ) -> Result<CertificateAuthority, AuthorityError> {
        let first = CertificateAuthority::supplied(settings.clone(), supplied)?;
        let present = match self.load(&settings)? {
            Some(authority) => authority,
            None => self.create(first, &settings)?,
        };
        match present.with_supplied(supplied, now)? {
            Some(next) => {
                self.save(&next)?;
                Ok(next)
            }
            None => Ok(present),
        }
    }

    /// Replaces the state: to be done before the authority is put in force.
    ///
    /// # Errors
    /// The file system; then the old state is there unchanged.
    pub fn save(&self, authority: &CertificateAuthority) -> Result<(), StateError> {
        let path = self.path.join(STATE);
        write_atomic(&path, &authority.to_bytes(), PRIVATE).map_err(|error| io_error(&path, error))
    }

    /// The state, or none where there has never been one.
    fn load(
        &self,
        settings: &AuthoritySettings,
    ) -> Result<Option<CertificateAuthority>, StateError> {
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
        let authority = read(&path, &text, settings)?;
        // A crash right after the first state may have left the mark out.
        self.mark()?;
        Ok(Some(authority))
    }

    /// Writes the first state. When another process was faster, its state is returned instead.
    fn create(
        &self,
        first: CertificateAuthority,
        settings: &AuthoritySettings,
    ) -> Result<CertificateAuthority, StateError> {
        let path = self.path.join(STATE);
        match create_atomic(&path, &first.to_bytes(), PRIVATE) {
            Ok(()) => {
                self.mark()?;
                Ok(first)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let text = read_private(&path).map_err(|error| io_error(&path, error))?;
                read(&path, &text, settings)
            }
            Err(error) => Err(io_error(&path, error)),
        }
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
}

fn read(
    path: &Path,
    text: &str,
    settings: &AuthoritySettings,
) -> Result<CertificateAuthority, StateError> {
    CertificateAuthority::from_bytes(settings.clone(), text.as_bytes()).map_err(|reason| {
        let path = path.to_owned();
        match reason {
            Damage::OtherDomain { found, expected } => StateError::OtherDomain {
                path,
                found,
                expected,
            },
            reason => StateError::Damaged { path, reason },
        }
    })
}

fn io_error(path: &Path, error: io::Error) -> StateError {
    StateError::Io {
        path: path.to_owned(),
        error,
    }
}
