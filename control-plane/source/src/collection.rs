//! What all files hold together → the objects in force.
//!
//! Pure: files that were read go in, batches come out. Here it is decided which of two objects of
//! one name is in force (the one that was there first), and what stays when a file or an object
//! turns bad (the last good version).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use weft_api::{ApiObject, Kind, ObjectKey};
use weft_model::{Created, Meta, Object, Origin, Reason, ServiceType, Severity, Spec, World};

use crate::batch::Batch;
use crate::diagnostic::{Diagnostic, Place};
use crate::locate::Locator;
use crate::objects::Objects;
use crate::read::{ReadFile, ReadObject};

/// Names a file; files are in the order of the folders that were given, then of their paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    /// The folder among those given.
    pub(crate) root: usize,
    /// The path as people know it.
    pub(crate) path: PathBuf,
}

/// What became of a file.
#[derive(Debug)]
pub(crate) enum Update {
    /// It was read, with whatever success.
    Read(ReadFile),
    /// It is there and holds nothing at all.
    Empty(Arc<str>),
    /// It is not there any more.
    Gone,
}

/// All files, and what of them is in force.
#[derive(Debug, Default)]
pub(crate) struct Collection {
    files: BTreeMap<FileId, ReadFile>,
    in_force: BTreeMap<ObjectKey, InForce>,
    modelled: BTreeMap<ObjectKey, Modelled>,
    world: World,
    objects: Objects,
    diagnostics: Vec<Diagnostic>,
    /// The last generation of each object that ever was.
    generations: HashMap<weft_model::ObjectKey, u64>,
    /// What is wrong with the folders themselves.
    folder_findings: Vec<Diagnostic>,
    /// How many batches were given.
    batches: u64,
}

/// The versions of one object.
#[derive(Clone, Debug)]
struct InForce {
    file: FileId,
    /// What the file holds now.
    present: Arc<ReadObject>,
    /// The last version without a fault.
    good: Option<Arc<ReadObject>>,
}

impl InForce {
    /// The version that counts.
    fn version(&self) -> &Arc<ReadObject> {
        self.good.as_ref().unwrap_or(&self.present)
    }
}

/// What an object was made of when it was put into the world.
#[derive(Debug)]
struct Modelled {
    file: FileId,
    read: Arc<ReadObject>,
    addresses: Vec<IpAddr>,
    object: Option<Arc<Object>>,
}

impl Modelled {
    fn is_of(&self, entry: &InForce, addresses: &[IpAddr]) -> bool {
        Arc::ptr_eq(&self.read, entry.version())
            && self.file == entry.file
            && self.addresses == addresses
    }
}

impl Collection {
    /// Takes in files and says what changed by them; `None` when nothing did. The first call
    /// always gives a batch.
    pub(crate) fn update(
        &mut self,
        updates: Vec<(FileId, Update)>,
        folder_findings: Vec<Diagnostic>,
    ) -> Option<Batch> {
        for (id, update) in updates {
            self.take(id, update);
        }
        self.folder_findings = folder_findings;
        let diagnostics = self.resolve();
        let (world, objects) = (self.next_world(), self.next_objects());
        let batch = Batch {
            number: self.batches + 1,
            changes: self.world.changes_to(&world),
            objects: self.objects.changes_to(&objects),
            diagnostics,
            locator: self.locator(),
        };
        let is_news = self.batches == 0
            || !batch.changes.is_empty()
            || !batch.objects.is_empty()
            || batch.diagnostics != self.diagnostics;
        self.batches += u64::from(is_news);
        self.world = world;
        self.objects = objects;
        self.diagnostics.clone_from(&batch.diagnostics);
        is_news.then_some(batch)
    }

    /// The number of the last batch.
    pub(crate) fn batches(&self) -> u64 {
        self.batches
    }

    /// The world as of the last update.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// The accepted objects as of the last update.
    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Replaces what is known of one file, as far as what was read can be trusted.
    fn take(&mut self, id: FileId, update: Update) {
        let mut read = match update {
            Update::Gone => {
                self.files.remove(&id);
                return;
            }
            Update::Empty(file) => match self.files.get(&id) {
                Some(before) if !before.objects.is_empty() => ReadFile::emptied(&file),
                _ => ReadFile::default(),
            },
            Update::Read(read) => read,
        };
        if let Some(before) = self.files.get(&id) {
            if read.is_broken && !before.is_broken {
                // It was good as a whole: a half-written file changes nothing.
                read.objects.clone_from(&before.objects);
                read.unused.clone_from(&before.unused);
                read.is_broken = false;
            } else if read.is_broken || read.has_unidentified {
                let missing = before.objects.iter().filter(|old| {
                    let same_key = |new: &Arc<ReadObject>| new.key == old.key;
                    !read.objects.iter().any(same_key)
                });
                let missing: Vec<_> = missing.cloned().collect();
                read.objects.extend(missing);
            }
        }
        self.files.insert(id, read);
    }

    /// Decides for each key which object is in force. Returns everything that is wrong.
    fn resolve(&mut self) -> Vec<Diagnostic> {
        let mut candidates: BTreeMap<&ObjectKey, Vec<(&FileId, &Arc<ReadObject>)>> =
            BTreeMap::new();
        for (id, file) in &self.files {
            for object in &file.objects {
                candidates
                    .entry(&object.key)
                    .or_default()
                    .push((id, object));
            }
        }
        let mut diagnostics: Vec<_> = self.folder_findings.clone();
        let mut in_force = BTreeMap::new();
        for (key, candidates) in candidates {
            let before = self.in_force.get(key);
            let incumbent =
                before.and_then(|before| candidates.iter().position(|(id, _)| **id == before.file));
            // A generated object is the user's own with its status.
            let generated = candidates
                .iter()
                .position(|(_, object)| object.is_generated());
            let in_charge = generated.or(incumbent).unwrap_or(0);
            let (owner, others) = split_at(&candidates, in_charge);
            let (file, present) = owner;
            let duplicates = others.filter(|_| generated.is_none());
            diagnostics.extend(duplicates.map(|other| duplicate(other.1, present)));
            diagnostics.extend(present.diagnostics());
            let good = if present.faults.is_empty() {
                Some(Arc::clone(present))
            } else {
                before.and_then(|before| before.good.clone())
            };
            let entry = InForce {
                file: file.clone(),
                present: Arc::clone(present),
                good,
            };
            in_force.insert(key.clone(), entry);
        }
        let files = self.files.values();
        diagnostics.extend(files.flat_map(|file| file.findings.iter().cloned()));
        diagnostics.extend(unused(self.files.values()));
        diagnostics.sort();
        self.in_force = in_force;
        diagnostics
    }

    fn next_objects(&self) -> Objects {
        let good = self
            .in_force
            .values()
            .filter_map(|entry| entry.good.as_ref());
        good.filter_map(|object| object.api.clone()).collect()
    }

    /// The world of the objects in force. Those that are what they were keep their allocation.
    fn next_world(&mut self) -> World {
        let given = self.cluster_ips();
        let mut before = std::mem::take(&mut self.modelled);
        for (key, entry) in &self.in_force {
            let name = format!("{}/{}", key.namespace, key.name);
            let addresses = given.get(&name).filter(|_| key.kind == Kind::Service);
            let addresses = addresses.map(Vec::as_slice).unwrap_or_default();
            let modelled = match before.remove(key) {
                Some(before) if before.is_of(entry, addresses) => before,
                _ => {
                    let object = entry.version().model(&entry.file, addresses);
                    let object = object.map(|mut object| {
                        object.meta.generation =
                            generation(&self.world, &mut self.generations, &object);
                        Arc::new(object)
                    });
                    Modelled {
                        file: entry.file.clone(),
                        read: Arc::clone(entry.version()),
                        addresses: addresses.to_vec(),
                        object,
                    }
                }
            };
            self.modelled.insert(key.clone(), modelled);
        }
        let objects = self
            .modelled
            .values()
            .filter_map(|modelled| modelled.object.clone());
        objects.collect()
    }

    /// The addresses that `ClusterIPs` objects give to Services.
    fn cluster_ips(&self) -> BTreeMap<String, Vec<IpAddr>> {
        let versions = self
            .in_force
            .values()
            .filter_map(|entry| entry.version().api.as_deref());
        let given = versions.filter_map(|object| match object {
            ApiObject::ClusterIps(given) => Some(given.spec.services.clone()),
            _ => None,
        });
        given.flatten().collect()
    }

    fn locator(&self) -> Locator {
        let texts = self
            .in_force
            .values()
            .map(|entry| (entry.present.subject(), entry.present.text.clone()));
        Locator::new(texts.collect())
    }
}

/// The generation of the object: counted up when its content is new.
fn generation(
    world: &World,
    last: &mut HashMap<weft_model::ObjectKey, u64>,
    object: &Object,
) -> u64 {
    let same = world
        .object(&object.key)
        .is_some_and(|before| before.spec == object.spec && before.problems == object.problems);
    let last = last.entry(object.key.clone()).or_insert(0);
    *last += u64::from(!same);
    *last
}

impl ReadFile {
    /// What is known of a file that held objects and now holds nothing.
    fn emptied(file: &Arc<str>) -> Self {
        let mut read = Self::unreadable(
            file,
            "is empty now; its objects stay until it is removed or has content".to_owned(),
        );
        for finding in &mut read.findings {
            finding.severity = Severity::Warning;
        }
        read
    }
}

impl ReadObject {
    /// Whether `weft up` wrote it.
    fn is_generated(&self) -> bool {
        let metadata = self.api.as_ref().map(|object| object.metadata());
        metadata
            .and_then(|metadata| metadata.annotations.as_ref())
            .is_some_and(|annotations| annotations.contains_key(weft_api::GENERATED_ANNOTATION))
    }

    /// The object for the world; none when the model has no use for the kind, or nothing of the
    /// object can be read.
    fn model(&self, file: &FileId, addresses: &[IpAddr]) -> Option<Object> {
        let mut spec = self.spec.clone()?;
        if let Spec::Service(service) = &mut spec
            && service.cluster_ips.is_empty()
            && !service.headless
            && !matches!(service.kind, ServiceType::ExternalName(_))
        {
            service.cluster_ips = addresses.to_vec();
        }
        let metadata = self.api.as_ref().map(|object| object.metadata());
        let created = metadata.and_then(|metadata| metadata.creation_timestamp.as_ref());
        let place = self.place();
        let meta = Meta {
            created: Created {
                seconds: created.map_or(0, |time| time.0.as_second()),
                place: format!("{}:{}:{:06}", file.root, place.file, self.position).into(),
            },
            origin: Origin::File {
                path: place.file,
                line: place.line,
            },
            generation: 0,
        };
        let (namespace, name) = (self.key.namespace.as_str(), self.key.name.as_str());
        let mut object = Object::new(namespace, name, meta, spec);
        object.problems = self.problems();
        Some(object)
    }
}

/// The item at `at`, and the others.
fn split_at<T: Copy>(items: &[T], at: usize) -> (T, impl Iterator<Item = T>) {
    let others = items
        .iter()
        .enumerate()
        .filter(move |(index, _)| *index != at);
    (items[at], others.map(|(_, item)| *item))
}

fn duplicate(duplicate: &ReadObject, in_force: &ReadObject) -> Diagnostic {
    Diagnostic {
        place: Some(duplicate.place()),
        subject: Some(duplicate.subject()),
        field: weft_model::FieldPath::default(),
        severity: Severity::Error,
        reason: Reason::DuplicateObject,
        message: format!(
            "the same object stands at {}, which is in force; remove one of the two",
            in_force.place()
        ),
    }
}

/// One line for each kind that Weft has no use for, at its first place.
fn unused<'a>(files: impl Iterator<Item = &'a ReadFile>) -> Vec<Diagnostic> {
    let mut kinds: BTreeMap<&str, (&Place, usize)> = BTreeMap::new();
    for (kind, place) in files.flat_map(|file| &file.unused) {
        kinds.entry(kind).or_insert((place, 0)).1 += 1;
    }
    let diagnostic = |(kind, (place, count)): (&str, (&Place, usize))| Diagnostic {
        place: Some(place.clone()),
        subject: None,
        field: weft_model::FieldPath::default(),
        severity: Severity::Info,
        reason: Reason::UnusedKind,
        message: match count {
            1 => format!("a mesh has no use for {kind}: ignored"),
            _ => format!(
                "a mesh has no use for {kind}: ignored, here and {} times more",
                count - 1
            ),
        },
    };
    kinds.into_iter().map(diagnostic).collect()
}

#[cfg(test)]
mod tests;
