//! The accepted objects in their YAML types, for whoever needs more than the model keeps of them
//! (`weft up` runs Deployments and Pods).

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_api::kubernetes::{Deployment, Namespace, Pod, Service};
use weft_api::{ApiObject, ObjectKey};

/// One step from one set of objects to the next.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectChange {
    /// The object is new or different.
    Upsert(Arc<ApiObject>),
    /// The object is gone.
    Delete(ObjectKey),
}

/// All accepted objects: read without a fault, now or last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects(BTreeMap<ObjectKey, Arc<ApiObject>>);

impl Objects {
    /// Takes one step.
    pub fn apply(&mut self, change: ObjectChange) {
        match change {
            ObjectChange::Upsert(object) => {
                self.0.insert(object.key(), object);
            }
            ObjectChange::Delete(key) => {
                self.0.remove(&key);
            }
        }
    }

    /// The object with this key.
    pub fn find(&self, key: &ObjectKey) -> Option<&Arc<ApiObject>> {
        self.0.get(key)
    }

    /// All objects, by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ApiObject>> {
        self.0.values()
    }

    /// All Deployments.
    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.iter().filter_map(|object| match &**object {
            ApiObject::Deployment(deployment) => Some(&**deployment),
            _ => None,
        })
    }

    /// All Pods.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.iter().filter_map(|object| match &**object {
            ApiObject::Pod(pod) => Some(&**pod),
            _ => None,
        })
    }

    /// All Services.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.iter().filter_map(|object| match &**object {
            ApiObject::Service(service) => Some(&**service),
            _ => None,
        })
    }

    /// All Namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.iter().filter_map(|object| match &**object {
            ApiObject::Namespace(namespace) => Some(&**namespace),
            _ => None,
        })
    }

    /// The steps from these to `next`.
    pub fn changes_to(&self, next: &Self) -> Vec<ObjectChange> {
        let gone = self.0.keys().filter(|key| !next.0.contains_key(*key));
        let gone = gone.map(|key| ObjectChange::Delete(key.clone()));
        let new = next.0.iter().filter(|(key, object)| {
            // Objects that were not read anew are the same allocation.
            let before = self.0.get(*key);
            !before.is_some_and(|before| Arc::ptr_eq(before, object) || before == *object)
        });
        let new = new.map(|(_, object)| ObjectChange::Upsert(Arc::clone(object)));
        gone.chain(new).collect()
    }
}

impl FromIterator<Arc<ApiObject>> for Objects {
    fn from_iter<T: IntoIterator<Item = Arc<ApiObject>>>(objects: T) -> Self {
        Self(
            objects
                .into_iter()
                .map(|object| (object.key(), object))
                .collect(),
        )
    }
}
