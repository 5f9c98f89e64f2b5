//! A proxy's key, certificate and bundle in its state directory (a memory volume that outlives the
//! container), so that a restarted proxy serves without a control plane.
//!
//! Key and chain are one file: whatever moment a crash takes place, they belong together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use weft_identity::TrustDomain;

use crate::bundle::{BundleError, TrustBundle};
use crate::chain::{ChainError, IssuedChain};
use crate::durable_file::{PRIVATE, read_private, write_atomic};
use crate::key::{KeyError, PrivateKey};
use crate::workload::{Identity, IdentityError};

const IDENTITY: &str = "identity.pem";
/// The key of a first request that has not been answered yet.
const FIRST_KEY: &str = "first-key.pem";
const BUNDLE: &str = "trust-bundle.pem";

/// Why the directory's contents cannot be used. The proxy then starts as one that has none.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The key cannot be read.
    #[error("{path}: {error}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
    /// The chain cannot be read.
    #[error("{path}: {error}")]
    Chain {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: ChainError,
    },
    /// Key and chain do not belong together.
    #[error("{path}: {error}")]
    Identity {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: IdentityError,
    },
    /// The bundle cannot be read.
    #[error("{path}: {error}")]
    Bundle {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        error: BundleError,
    },
}

/// The files `identity.pem` (key and chain), `first-key.pem` and `trust-bundle.pem` of a directory, all
/// 0600.
#[derive(Debug, Clone)]
pub struct IdentityStore {
    directory: PathBuf,
}

impl IdentityStore {
    /// The store in `directory`, which must exist before something is saved.
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// The saved identity, or none. It may have expired: the caller decides.
    ///
    /// # Errors
    /// [`StoreError`]: unreadable, readable by others, damaged, or a chain for another key.
    pub fn load(&self) -> Result<Option<Identity>, StoreError> {
        let path = self.directory.join(IDENTITY);
        let pem = match read_private(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::Io { path, error }),
        };
        let key = match PrivateKey::from_pem(&pem) {
            Ok(key) => key,
            Err(error) => return Err(StoreError::Key { path, error }),
        };
        let chain = match IssuedChain::from_pem(&pem) {
            Ok(chain) => chain,
            Err(error) => return Err(StoreError::Chain { path, error }),
        };
        match Identity::new(key, chain) {
            Ok(identity) => Ok(Some(identity)),
            Err(error) => Err(StoreError::Identity { path, error }),
        }
    }

    /// Saves an identity in place of the one before. A key that was kept for it is not needed any more.
    ///
    /// # Errors
    /// The file system; the one before is then still there.
    pub fn save(&self, identity: &Identity) -> Result<(), StoreError> {
        let pem = identity.key().to_pem() + &identity.chain().to_pem();
        self.write(IDENTITY, &pem)?;
        let path = self.directory.join(FIRST_KEY);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { path, error })
            }
            _ => Ok(()),
        }
    }

    /// The key of a first request that was not answered, or none.
    ///
    /// # Errors
    /// [`StoreError`]: unreadable, readable by others, damaged.
    pub fn load_first_key(&self) -> Result<Option<PrivateKey>, StoreError> {
        let path = self.directory.join(FIRST_KEY);
        match read_private(&path) {
            Ok(pem) => PrivateKey::from_pem(&pem)
                .map(Some)
                .map_err(|error| StoreError::Key { path, error }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::Io { path, error }),
        }
    }

    /// Keeps the key of a first request until there is an identity: a token that was used with it is
    /// good for no other.
    ///
    /// # Errors
    /// The file system.
    pub fn save_first_key(&self, key: &PrivateKey) -> Result<(), StoreError> {
        self.write(FIRST_KEY, &key.to_pem())
    }

    /// The saved bundle, or none. `default` as in [`TrustBundle::from_pem`].
    ///
    /// # Errors
    /// [`StoreError`]: unreadable or damaged.
    pub fn load_bundle(&self, default: &TrustDomain) -> Result<Option<TrustBundle>, StoreError> {
        let path = self.directory.join(BUNDLE);
        match fs::read_to_string(&path) {
            Ok(pem) => TrustBundle::from_pem(&pem, default)
                .map(Some)
                .map_err(|error| StoreError::Bundle { path, error }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::Io { path, error }),
        }
    }

    /// Saves a bundle in place of the one before.
    ///
    /// # Errors
    /// The file system; the one before is then still there.
    pub fn save_bundle(&self, bundle: &TrustBundle) -> Result<(), StoreError> {
        self.write(BUNDLE, &bundle.to_pem())
    }

    fn write(&self, name: &str, contents: &str) -> Result<(), StoreError> {
        let path = self.directory.join(name);
        write_atomic(&path, contents.as_bytes(), PRIVATE)
            .map_err(|error| StoreError::Io { path, error })
    }
}
