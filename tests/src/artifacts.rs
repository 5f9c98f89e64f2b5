//! Where the things that explain a failure are kept.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// `target/e2e/TEST`, made if need be.
pub fn artifacts(test: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(3).context("the suite lies nowhere")?;
    let dir = target.join("e2e").join(test);
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Copies the files of a folder, but no folders in it.
pub fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for file in std::fs::read_dir(from)?.flatten() {
        if file.file_type()?.is_file() {
            std::fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    Ok(())
}
