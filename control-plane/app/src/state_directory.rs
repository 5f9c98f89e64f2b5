//! The directory of the authority's state: made if it is not there, and this process's alone while it runs. Two authorities
//! over one state would overwrite each other's phases of a rotation.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;

/// Stays in the directory; what counts is who holds its lock.
const LOCK: &str = "lock";

/// A state directory in use. The lock goes with it, and with the process however that ends.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    _lock: File,
}

impl StateDirectory {
    /// Makes the directory (0700) and locks it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        let lock = path.join(LOCK);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock)
            .with_context(|| format!("cannot open {}", lock.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _lock: file }),
            Err(TryLockError::WouldBlock) => anyhow::bail!(
                "another control plane runs with the state in {}; stop it, or give this one a --state of its own",
                path.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", lock.display()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_uses_a_state_directory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/state");
        let first = StateDirectory::open(&path).unwrap();
        let refused = StateDirectory::open(&path).unwrap_err().to_string();
        assert!(refused.contains("another control plane"), "{refused}");
        assert!(refused.contains(&path.display().to_string()), "{refused}");
        drop(first);
        StateDirectory::open(&path).unwrap();
    }
}
