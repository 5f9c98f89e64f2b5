//! Folders and files on disk: which there are, and which changed since the last look.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weft_model::{Reason, Severity};

use crate::collection::{FileId, Update};
use crate::diagnostic::{Diagnostic, Place};
use crate::read::{MAX_FILE_BYTES, ReadFile, read};

/// A file that changed less than this ago is read again next time: a clock tick can hide a second
/// change of the same size.
const YOUNG: Duration = Duration::from_millis(100);

/// Folders below folders that are followed at most (links can make them endless).
const MAX_FOLDER_DEPTH: usize = 32;

/// The folders and files that a user named, and what they held at the last look.
#[derive(Debug)]
pub(crate) struct Files {
    roots: Vec<PathBuf>,
    /// A root that is not there: an error once, or worth waiting for.
    missing_root: Severity,
    known: BTreeMap<FileId, Stamp>,
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    is_young: bool,
}

/// What one look found.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Files that are new, different or gone.
    pub(crate) updates: Vec<(FileId, Update)>,
    /// What is wrong with the folders.
    pub(crate) findings: Vec<Diagnostic>,
    /// Every folder that was looked into, with its identity.
    pub(crate) folders: BTreeMap<PathBuf, (u64, u64)>,
}

impl Files {
    pub(crate) fn new(roots: Vec<PathBuf>, missing_root: Severity) -> Self {
        Self {
            roots,
            missing_root,
            known: BTreeMap::new(),
        }
    }

    pub(crate) fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// Looks at everything and reads what is new or different.
    pub(crate) fn look(&mut self) -> Look {
        let mut walk = Walk::default();
        for (index, root) in self.roots.iter().enumerate() {
            match fs::metadata(root) {
                Ok(metadata) if metadata.is_dir() => walk.folder(index, root, &metadata, 0),
                Ok(metadata) => walk.file(index, root.clone(), &metadata),
                Err(error) => {
                    let message = format!("cannot be read: {error}");
                    walk.find(root, self.missing_root, message);
                }
            }
        }
        let Walk {
            files, mut look, ..
        } = walk;
        for id in self.known.keys().filter(|id| !files.contains_key(*id)) {
            look.updates.push((id.clone(), Update::Gone));
        }
        for (id, stamp) in &files {
            let unchanged = self
                .known
                .get(id)
                .is_some_and(|known| known == stamp && !known.is_young);
            if !unchanged {
                look.updates.push((id.clone(), content(&id.path)));
            }
        }
        self.known = files;
        look
    }
}

/// Reads one file.
fn content(path: &Path) -> Update {
    let name: Arc<str> = path.to_string_lossy().into();
    let unreadable = |message: String| Update::Read(ReadFile::unreadable(&name, message));
    match text(path) {
        Ok(text) if text.trim().is_empty() => Update::Empty(name),
        Ok(text) => Update::Read(read(&name, &text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Update::Gone,
        Err(error) => unreadable(format!("cannot be read: {error}")),
    }
}

fn text(path: &Path) -> io::Result<String> {
    let size = fs::metadata(path)?.len();
    if size > MAX_FILE_BYTES {
        let message = format!("{size} bytes are more than {MAX_FILE_BYTES}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(fs::read(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// One pass over the roots.
#[derive(Default)]
struct Walk {
    files: BTreeMap<FileId, Stamp>,
    look: Look,
    /// Real paths of what was seen: roots may overlap, links may lead back.
    seen: BTreeSet<PathBuf>,
}

impl Walk {
    fn folder(&mut self, root: usize, path: &Path, metadata: &Metadata, depth: usize) {
        if depth > MAX_FOLDER_DEPTH || !self.is_new(path) {
            return;
        }
        self.look
            .folders
            .insert(path.to_owned(), (metadata.dev(), metadata.ino()));
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                self.find(path, Severity::Error, format!("cannot be read: {error}"));
                return;
            }
        };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if name.to_string_lossy().starts_with('.') {
                continue;
            }
            // A link that leads nowhere is as good as no file.
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => self.folder(root, &path, &metadata, depth + 1),
                Ok(metadata) if is_yaml(&path) => self.file(root, path, &metadata),
                _ => {}
            }
        }
    }

    fn file(&mut self, root: usize, path: PathBuf, metadata: &Metadata) {
        if self.is_new(&path) {
            let stamp = Stamp::new(metadata);
            self.files.insert(FileId { root, path }, stamp);
        }
    }

    fn is_new(&mut self, path: &Path) -> bool {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.seen.insert(real)
    }

    fn find(&mut self, path: &Path, severity: Severity, message: String) {
        self.look.findings.push(Diagnostic {
            place: Some(Place {
                file: path.to_string_lossy().into(),
                line: 0,
            }),
            subject: None,
            field: weft_model::FieldPath::default(),
            severity,
            reason: Reason::UnreadableYaml,
            message,
        });
    }
}

impl Stamp {
    fn new(metadata: &Metadata) -> Self {
        let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let changed = changed + Duration::from_nanos(metadata.ctime_nsec().unsigned_abs());
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            // A clock that was set back makes every file young: read too often, never too late.
            is_young: SystemTime::now()
                .duration_since(changed)
                .map_or(true, |age| age < YOUNG),
        }
    }
}

fn is_yaml(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}
