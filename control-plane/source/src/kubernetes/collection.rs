//! What all watches have told together → the objects in force, and what changes of them.
//!
//! Pure: decoded objects go in, batches come out. Here is decided what is a change (a list that
//! says what was known is none, nor is a new status), and what stays when an object turns bad (the
//! last good version).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use weft_model::{Change, Created, Kind, Meta, Object, ObjectKey, Origin, Spec, World};

use super::decode::{Content, Decoded, Read};
use super::definitions::Definitions;
use super::interner::Interner;
use super::resource::Resource;
use super::shown::{Shown, Status};
use crate::batch::Batch;
use crate::diagnostic::Diagnostic;
use crate::locate::Locator;
use crate::read::problems;

/// A state of an object that somebody waits for; what is not named does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// `metadata.generation`, at least.
    pub generation: Option<u64>,
    /// `metadata.resourceVersion`, at least. It tells an object from one of its name that was
    /// before, and counts for kinds that have no generation.
    pub resource_version: Option<u64>,
}

/// All objects, nodes and definitions.
#[derive(Debug, Default)]
pub(crate) struct Collection {
    objects: BTreeMap<ObjectKey, Entry>,
    nodes: HashMap<Arc<str>, Node>,
    definitions: Definitions,
    /// What is wrong with an object.
    findings: BTreeMap<ObjectKey, Vec<Diagnostic>>,
    /// Nodes whose zone has become another.
    moved: HashSet<Arc<str>>,
    interner: Interner,
    /// The list that runs, or ran last.
    lists: List,
    running: HashMap<Resource, List>,
    changes: Vec<Change>,
    shown: Shown,
    /// What is new of it; `None`: the object is gone.
    showing: Vec<(ObjectKey, Option<Status>)>,
    /// The diagnostics may be others than those of the last batch.
    has_new_findings: bool,
    /// The diagnostics of the last batch.
    told: Vec<Diagnostic>,
    batches: u64,
}

/// Numbers the lists; says of an object which one named it last.
pub(super) type List = u32;

/// One object, as it came last.
#[derive(Debug)]
struct Entry {
    /// In force; none when nothing of it can be read.
    object: Option<Arc<Object>>,
    /// What is in force was without a fault.
    is_sound: bool,
    generation: u64,
    version: u64,
    /// The node of a pod.
    node: Option<Arc<str>>,
    list: List,
}

#[derive(Debug)]
struct Node {
    zone: Option<Arc<str>>,
    list: List,
}

impl Collection {
    /// A list of the resource begins.
    pub(crate) fn begin(&mut self, resource: Resource) {
        self.lists += 1;
        self.running.insert(resource, self.lists);
    }

    /// The list has ended: what it did not name is gone.
    pub(crate) fn listed(&mut self, resource: Resource) {
        let Some(list) = self.running.remove(&resource) else {
            return;
        };
        match resource {
            Resource::CustomResourceDefinition => {
                self.has_new_findings |= self.definitions.keep_listed(list);
            }
            Resource::Node => {
                let gone = self.nodes.extract_if(|_, node| node.list != list);
                self.moved.extend(gone.map(|(name, _)| name));
            }
            Resource::Object(kind) => self.delete_where(kind, |entry| entry.list != list),
        }
    }

    /// The resource is there no more, and with it all its objects.
    pub(crate) fn drop_all(&mut self, resource: Resource) {
        self.running.remove(&resource);
        if let Resource::Object(kind) = resource {
            self.delete_where(kind, |_| true);
        }
    }

    fn delete_where(&mut self, kind: weft_api::Kind, is_gone: impl Fn(&Entry) -> bool) {
        let Some(kind) = Kind::parse(kind.as_str()) else {
            return;
        };
        let of_kind = self.objects.range(ObjectKey::new(kind, "", "")..);
        let gone = of_kind
            .take_while(|(key, _)| key.kind == kind)
            .filter(|(_, entry)| is_gone(entry));
        let gone: Vec<ObjectKey> = gone.map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.remove(&key);
        }
    }

    /// The object is there, and is now this.
    pub(crate) fn apply(&mut self, resource: Resource, decoded: Decoded) {
        let list = self.running.get(&resource).copied().unwrap_or(0);
        match decoded.content {
            Content::Object(read) => {
                let version = decoded.version.as_deref().map_or(Ok(0), str::parse);
                if let Some(key) = self.key(resource, &decoded.name) {
                    self.object(key, version.unwrap_or(0), *read, list);
                }
            }
            Content::Node(zone) => {
                let name = self.interner.share(&decoded.name.1);
                let zone = zone.map(|zone| self.interner.share(&zone));
                let node = Node {
                    zone: zone.clone(),
                    list,
                };
                let before = self.nodes.insert(Arc::clone(&name), node);
                if before.and_then(|node| node.zone) != zone {
                    self.moved.insert(name);
                }
            }
            Content::Definition(versions) => {
                let name = &decoded.name.1;
                self.has_new_findings |= self.definitions.define(name, versions, list);
            }
        }
    }

    /// The object is gone.
    pub(crate) fn delete(&mut self, resource: Resource, decoded: &Decoded) {
        match decoded.content {
            Content::Object(_) => {
                if let Some(key) = self.key(resource, &decoded.name) {
                    self.remove(&key);
                }
            }
            Content::Node(_) => {
                let gone = self.nodes.remove_entry(decoded.name.1.as_str());
                self.moved.extend(gone.map(|(name, _)| name));
            }
            Content::Definition(_) => {
                self.has_new_findings |= self.definitions.remove(&decoded.name.1);
            }
        }
    }

    fn key(&mut self, resource: Resource, name: &(String, String)) -> Option<ObjectKey> {
        let kind = Kind::parse(resource.kind())?;
        let namespace = self.interner.share(&name.0);
        Some(ObjectKey::new(kind, namespace, name.1.as_str()))
    }

    fn object(&mut self, key: ObjectKey, version: u64, read: Read, list: List) {
        self.find(&key, read.diagnostics(&key));
        let before = self.objects.get(&key);
        let node = read.node.as_deref().map(|node| self.interner.share(node));
        let keeps_good = !read.faults.is_empty() && before.is_some_and(|entry| entry.is_sound);
        let (object, is_sound) = if keeps_good {
            (before.and_then(|entry| entry.object.clone()), true)
        } else {
            let object = self.modelled(&key, version, &read, node.as_deref());
            (object, read.faults.is_empty())
        };
        let before = self.objects.get(&key);
        let generation = read.generation.unwrap_or_else(|| {
            let last = before.map_or(0, |entry| entry.generation);
            let in_force = before.and_then(|entry| entry.object.as_ref());
            last + u64::from(!in_force.zip(object.as_ref()).is_some_and(is_same_content))
        });
        let in_force = before.and_then(|entry| entry.object.as_ref());
        let object = object.map(|mut object| {
            if !keeps_good && object.meta.generation != generation {
                Arc::make_mut(&mut object).meta.generation = generation;
            }
            // One that says the same stays: nobody has to look at it again.
            match in_force {
                Some(same) if is_same(same, &object) => Arc::clone(same),
                _ => object,
            }
        });
        match (&object, in_force) {
            (Some(new), Some(old)) if Arc::ptr_eq(new, old) => {}
            (Some(new), _) => self.changes.push(Change::Upsert(Arc::clone(new))),
            (None, Some(_)) => self.changes.push(Change::Delete(key.clone())),
            (None, None) => {}
        }
        if let Some(shown) = read.shown {
            let status = Status {
                version,
                generation,
                references: shown.references,
                status: shown.status,
                since: 0,
            };
            self.showing.push((key.clone(), Some(status)));
        }
        let entry = Entry {
            object,
            is_sound,
            generation,
            version,
            node,
            list,
        };
        // The key of the object itself: one allocation for both.
        let key = entry
            .object
            .as_ref()
            .map_or(key, |object| object.key.clone());
        self.objects.insert(key, entry);
    }

    /// The object as the world gets it, as far as it can be read. Its generation is yet to come.
    fn modelled(
        &mut self,
        key: &ObjectKey,
        version: u64,
        read: &Read,
        node: Option<&str>,
    ) -> Option<Arc<Object>> {
        let mut object = Object {
            key: key.clone(),
            meta: Meta {
                origin: Origin::Kubernetes {
                    resource_version: version,
                },
                created: Created {
                    seconds: read.created,
                    place: self.interner.share(""),
                },
                generation: 0,
            },
            spec: read.spec.clone()?,
            problems: problems(&read.faults),
        };
        if let Spec::Pod(pod) = &mut object.spec {
            pod.zone = node.and_then(|node| self.nodes.get(node)?.zone.clone());
        }
        self.interner.share_within(&mut object);
        Some(Arc::new(object))
    }

    fn remove(&mut self, key: &ObjectKey) {
        self.find(key, Vec::new());
        self.showing.push((key.clone(), None));
        let gone = self.objects.remove(key);
        if gone.is_some_and(|entry| entry.object.is_some()) {
            self.changes.push(Change::Delete(key.clone()));
        }
    }

    /// Notes what is wrong with the object.
    fn find(&mut self, key: &ObjectKey, found: Vec<Diagnostic>) {
        let before = match found.is_empty() {
            true => self.findings.remove(key),
            false => self.findings.insert(key.clone(), found.clone()),
        };
        self.has_new_findings |= before.unwrap_or_default() != found;
    }

    /// Puts pods into the zones that their nodes are in now.
    fn move_pods(&mut self) {
        if self.moved.is_empty() {
            return;
        }
        let pods = self.objects.range_mut(ObjectKey::new(Kind::Pod, "", "")..);
        for (_, entry) in pods.take_while(|(key, _)| key.kind == Kind::Pod) {
            let Some(node) = entry
                .node
                .as_ref()
                .filter(|node| self.moved.contains(*node))
            else {
                continue;
            };
            let zone = self.nodes.get(node).and_then(|node| node.zone.clone());
            let Some(object) = &mut entry.object else {
                continue;
            };
            if !matches!(&object.spec, Spec::Pod(pod) if pod.zone == zone) {
                if let Spec::Pod(pod) = &mut Arc::make_mut(object).spec {
                    pod.zone = zone;
                }
                self.changes.push(Change::Upsert(Arc::clone(object)));
            }
        }
        self.moved.clear();
    }

    /// The custom resources that can be read.
    pub(crate) fn served(&self) -> impl Iterator<Item = Resource> {
        self.definitions.served()
    }

    /// The status that objects show.
    pub(crate) fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// Everything that has changed since the last call; `None` when nothing has. The first call
    /// always gives a batch.
    pub(crate) fn batch(&mut self) -> Option<Batch> {
        let batch = self.news();
        self.shown.update(self.showing.drain(..), self.batches);
        batch
    }

    fn news(&mut self) -> Option<Batch> {
        self.move_pods();
        let mut is_news = self.batches == 0 || !self.changes.is_empty();
        if std::mem::take(&mut self.has_new_findings) {
            let now = self.diagnostics();
            is_news |= now != self.told;
            self.told = now;
        }
        if !is_news {
            return None;
        }
        self.batches += 1;
        Some(Batch {
            number: self.batches,
            changes: std::mem::take(&mut self.changes),
            objects: Vec::new(),
            diagnostics: self.told.clone(),
            locator: Locator::default(),
        })
    }

    /// The number of the last batch.
    pub(crate) fn batches(&self) -> u64 {
        self.batches
    }

    /// Whether the object is known as it was then, or later.
    pub(crate) fn has_reached(&self, key: &ObjectKey, revision: &Revision) -> bool {
        self.objects.get(key).is_some_and(|entry| {
            let generation = revision.generation.unwrap_or(0);
            let version = revision.resource_version.unwrap_or(0);
            entry.generation >= generation && entry.version >= version
        })
    }

    /// All objects in force.
    pub(crate) fn world(&self) -> World {
        let objects = self.objects.values();
        objects.filter_map(|entry| entry.object.clone()).collect()
    }

    fn diagnostics(&self) -> Vec<Diagnostic> {
        let of_objects = self.findings.values().flatten().cloned();
        let mut all: Vec<_> = of_objects.chain(self.definitions.unread()).collect();
        all.sort();
        all
    }
}

fn is_same_content((one, other): (&Arc<Object>, &Arc<Object>)) -> bool {
    one.spec == other.spec && one.problems == other.problems
}

/// Whether the two differ in their version at most.
fn is_same(one: &Arc<Object>, other: &Arc<Object>) -> bool {
    is_same_content((one, other))
        && one.meta.created == other.meta.created
        && one.meta.generation == other.meta.generation
}

#[cfg(test)]
mod tests;
