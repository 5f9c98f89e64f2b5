//! What is known of objects that a status tells of: what is in force of them, what is wrong with
//! them, and what proxies refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use weft_compile::RouteStanding;
use weft_model::{FieldPath, Object, ObjectKey, Problem, Reason, Severity, Subject};
use weft_source::kubernetes::Shown;

use super::Mesh;
use crate::findings::Finding;

/// One object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// As it is in force; `None` when nothing of it can be read.
    pub object: Option<Arc<Object>>,
    /// Of a route.
    pub standing: Option<RouteStanding>,
    /// Errors of the source in what the user wrote last.
    pub unread: Vec<Problem>,
    /// Errors of compile in what is in force.
    pub compiled: Vec<Problem>,
    /// Its warnings: in force, but hardly what was meant.
    pub remarks: Vec<Problem>,
}

fn problem(field: &FieldPath, reason: Reason, message: &str) -> Problem {
    Problem {
        field: field.clone(),
        reason,
        message: message.to_owned(),
    }
}

/// What proxies refused, by the object that it was mainly made from, each as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusals(BTreeMap<Subject, Vec<String>>);

impl Refusals {
    /// Each object, and what was refused of it.
    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &[String])> {
        self.0.iter().map(|(object, texts)| (object, &texts[..]))
    }

    pub fn of(&self, kind: &str, namespace: &str, name: &str) -> &[String] {
        let subject = Subject {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        self.0.get(&subject).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn add(&mut self, kind: &str, namespace: &str, name: &str, text: String) {
        let subject = Subject {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let texts = self.0.entry(subject).or_default();
        if let Err(position) = texts.binary_search(&text) {
            texts.insert(position, text);
        }
    }
}

impl Mesh {
    /// The status that the objects of a cluster show; `None` before the source is read, and of
    /// folders.
    pub fn shown(&self) -> Option<Shown> {
        self.progress.get()?.shown()
    }

    /// The number of the last batch that is compiled and published.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// What is known of each of these objects.
    pub fn facts<'a>(
        &self,
        keys: impl Iterator<Item = &'a ObjectKey>,
    ) -> BTreeMap<ObjectKey, Facts> {
        let state = self.state();
        let world = state.compiler.world();
        let mut facts: BTreeMap<Subject, (ObjectKey, Facts)> = keys
            .map(|key| {
                let facts = Facts {
                    object: world.object(key).cloned(),
                    standing: state.compiler.standing(key),
                    ..Facts::default()
                };
                (Subject::from(key), (key.clone(), facts))
            })
            .collect();
        for found in &state.source_diagnostics {
            let of = found.subject.as_ref().and_then(|of| facts.get_mut(of));
            if let (Some((_, facts)), Severity::Error) = (of, found.severity) {
                let problem = problem(&found.field, found.reason, &found.message);
                facts.unread.push(problem);
            }
        }
        for found in state.compiler.diagnostics() {
            let Some((_, facts)) = facts.get_mut(&found.subject) else {
                continue;
            };
            let problem = problem(&found.field, found.reason, &found.message);
            match found.severity {
                Severity::Error => facts.compiled.push(problem),
                Severity::Warning => facts.remarks.push(problem),
                Severity::Info => {}
            }
        }
        facts.into_values().collect()
    }

    /// What the proxies that stream from this replica refuse.
    pub fn refusals(&self) -> Refusals {
        let mut refusals = Refusals::default();
        for refused in self
            .server
            .proxies()
            .iter()
            .flat_map(|proxy| &proxy.refused)
        {
            let found = Finding::from(refused);
            let mut text = found.message;
            if !found.field.is_empty() {
                text = format!("{}: {text}", found.field);
            }
            refusals.add(&found.kind, &found.namespace, &found.name, text);
        }
        refusals
    }
}
