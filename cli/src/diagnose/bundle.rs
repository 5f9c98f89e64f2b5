//! The file: entries one after the other, each cleaned of secrets as it goes in. What could not be had says why.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{Builder, Header};

use super::redact;

/// Everything lies in this folder.
const FOLDER: &str = "weft-diagnose";

pub(super) struct Bundle {
    archive: Builder<GzEncoder<File>>,
    written: u64,
    files: usize,
}

impl Bundle {
    /// A new file, readable by its owner alone.
    pub(super) fn create(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Self {
            archive: Builder::new(GzEncoder::new(file, Compression::default())),
            written: now.unwrap_or_default().as_secs(),
            files: 0,
        })
    }

    /// A value, or why there is none.
    pub(super) fn json(&mut self, path: &str, value: Result<Value>) -> Result<()> {
        let value = value.unwrap_or_else(|error| json!({"unavailable": format!("{error:#}")}));
        self.add(path, &(serde_json::to_string_pretty(&value)? + "\n"))
    }

    /// A text, or why there is none.
    pub(super) fn text(&mut self, path: &str, text: Result<String>) -> Result<()> {
        self.add(
            path,
            &text.unwrap_or_else(|error| format!("unavailable: {error:#}\n")),
        )
    }

    fn add(&mut self, path: &str, text: &str) -> Result<()> {
        let text = redact::text(text);
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.written);
        self.archive
            .append_data(&mut header, format!("{FOLDER}/{path}"), text.as_bytes())?;
        self.files += 1;
        Ok(())
    }

    /// Closes the file; how many entries it has.
    pub(super) fn finish(self) -> Result<usize> {
        self.archive.into_inner()?.finish()?.sync_all()?;
        Ok(self.files)
    }
}
