//! Files that are either whole or not there, with the mode they should have from their first byte.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The mode of keys and state: owner only.
pub const PRIVATE: u32 = 0o600;
/// The mode of what anyone may read, such as trust bundles.
pub const PUBLIC: u32 = 0o644;

/// Replaces `path` by `contents` in one step: a reader sees the old file or the new one, also after
/// a crash. The directory must exist.
///
/// # Errors
/// Whatever the file system says; the old file is then untouched.
pub fn write_atomic(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let staged = stage(path, contents, mode)?;
    fs::rename(&staged, path).inspect_err(|_| discard(&staged))?;
    sync_directory(path)
}

/// Like [`write_atomic`], but fails with `AlreadyExists` rather than replace a file.
pub(crate) fn create_atomic(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let staged = stage(path, contents, mode)?;
    let linked = fs::hard_link(&staged, path);
    discard(&staged);
    linked?;
    sync_directory(path)
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// `PermissionDenied` when its mode lets others in, else whatever the file system says.
pub(crate) fn read_private(path: &Path) -> io::Result<String> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("mode {mode:04o} lets others at a private key, expected 0600"),
        ));
    }
    fs::read_to_string(path)
}

/// Writes and syncs a temporary file beside `path`.
fn stage(path: &Path, contents: &[u8], mode: u32) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a file name"))?;
    let mut staged_name = std::ffi::OsString::from(".");
    staged_name.push(name);
    staged_name.push(format!(".{:016x}", rand::random::<u64>()));
    let staged = path.with_file_name(staged_name);

    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&staged)
        .and_then(|mut file| {
            // The umask may have taken bits away that the reader needs.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(contents)?;
            file.sync_all()
        });
    match written {
        Ok(()) => Ok(staged),
        Err(error) => {
            discard(&staged);
            Err(error)
        }
    }
}

/// Removes a staged file; one that stays behind is litter, never read, and the first error counts.
fn discard(staged: &Path) {
    let _ = fs::remove_file(staged);
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        Some(parent) => File::open(parent)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}
