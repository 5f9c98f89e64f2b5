//! Which custom resources there are, and whether they can be read.

use std::collections::BTreeMap;

use weft_model::{Reason, Severity, Subject};

use super::collection::List;
use super::resource::Resource;
use crate::diagnostic::Diagnostic;

/// The versions in which each custom resource that is of interest is served, and the list that
/// named it last.
#[derive(Debug, Default)]
pub(super) struct Definitions(BTreeMap<Resource, (Vec<String>, List)>);

impl Definitions {
    /// The resource of that name is served so. Whether that is news.
    pub(super) fn define(&mut self, name: &str, versions: Vec<String>, list: List) -> bool {
        let Some(resource) = custom(name) else {
            return false;
        };
        let before = self.0.insert(resource, (versions.clone(), list));
        before.is_none_or(|(before, _)| before != versions)
    }

    /// The resource of that name is gone. Whether that is news.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        custom(name).is_some_and(|resource| self.0.remove(&resource).is_some())
    }

    /// Those that the list did not name are gone. Whether there were any.
    pub(super) fn keep_listed(&mut self, list: List) -> bool {
        let before = self.0.len();
        self.0.retain(|_, (_, named)| *named == list);
        self.0.len() != before
    }

    /// Those that can be read.
    pub(super) fn served(&self) -> impl Iterator<Item = Resource> {
        let served = self
            .0
            .iter()
            .filter(|(resource, _)| self.is_read(**resource));
        served.map(|(resource, _)| *resource)
    }

    /// A finding for each that is served in other versions only.
    pub(super) fn unread(&self) -> impl Iterator<Item = Diagnostic> {
        let unread = self
            .0
            .iter()
            .filter(|(resource, (versions, _))| !versions.is_empty() && !self.is_read(**resource));
        unread.map(|(resource, (versions, _))| Diagnostic {
            place: None,
            subject: Some(Subject {
                kind: Resource::CustomResourceDefinition.kind().into(),
                namespace: "".into(),
                name: resource.to_string().into(),
            }),
            field: "spec.versions".into(),
            severity: Severity::Error,
            reason: Reason::UnknownKind,
            message: format!(
                "{} is served as {}, and would be read as {}: none of its objects are; update the CRD",
                resource.kind(),
                versions.join(", "),
                resource.version()
            ),
        })
    }

    fn is_read(&self, resource: Resource) -> bool {
        self.0.get(&resource).is_some_and(|(versions, _)| {
            versions.iter().any(|version| version == resource.version())
        })
    }
}

/// The custom resource whose definition has this name.
fn custom(name: &str) -> Option<Resource> {
    let mut custom = Resource::CUSTOM.into_iter();
    custom.find(|resource| resource.to_string() == name)
}
