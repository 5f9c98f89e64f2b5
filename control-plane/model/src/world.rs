//! The set of all objects, and the changes that lead from one set to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::key::{Kind, ObjectKey};
use crate::object::Object;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The object is now this.
    Upsert(Arc<Object>),
    /// The object is gone.
    Delete(ObjectKey),
}

impl Change {
    /// The object concerned.
    #[must_use]
    pub fn key(&self) -> &ObjectKey {
        match self {
            Change::Upsert(object) => &object.key,
            Change::Delete(key) => key,
        }
    }
}

/// All objects by kind, namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
}

impl World {
    /// Applies one change. Returns the object that was there before.
    pub fn apply(&mut self, change: Change) -> Option<Arc<Object>> {
        match change {
            Change::Upsert(object) => self.objects.insert(object.key.clone(), object),
            Change::Delete(key) => self.objects.remove(&key),
        }
    }

    /// One object.
    #[must_use]
    pub fn object(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// All objects in the order of their keys.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// The objects of one kind, by namespace and name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        let first = ObjectKey::new(kind, "", "");
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.kind == kind)
            .map(|(_, object)| object)
    }

    /// The objects of one kind in one namespace, by name.
    pub fn in_namespace<'a>(
        &'a self,
        kind: Kind,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let first = ObjectKey::new(kind, namespace, "");
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.kind == kind && *key.namespace == *namespace)
            .map(|(_, object)| object)
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The changes that lead from `self` to `next`; objects that are equal but for their meta's
    /// origin count as changed, so that lines stay right.
    #[must_use]
    pub fn changes_to(&self, next: &World) -> Vec<Change> {
        let gone = self
            .objects
            .keys()
            .filter(|key| !next.objects.contains_key(*key))
            .map(|key| Change::Delete(key.clone()));
        let new = next
            .objects
            .iter()
            .filter(|(key, object)| self.objects.get(*key) != Some(object))
            .map(|(_, object)| Change::Upsert(Arc::clone(object)));
        gone.chain(new).collect()
    }
}

impl FromIterator<Arc<Object>> for World {
    fn from_iter<T: IntoIterator<Item = Arc<Object>>>(objects: T) -> Self {
        Self {
            objects: objects
                .into_iter()
                .map(|object| (object.key.clone(), object))
                .collect(),
        }
    }
}
