//! Collects what compile has to say about objects.

use std::collections::BTreeMap;

use weft_model::{Diagnostic, FieldPath, Object, ObjectKey, Reason, Severity, Subject};

use crate::snapshot::Name;

/// The part of compile that a diagnostic comes from; recompiling it replaces its diagnostics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    /// One object on its own.
    Object(ObjectKey),
    /// The place of routes, policies and addresses at one service.
    Service(Name),
    /// The PeerAuthentications of one namespace among each other.
    PeerAuthentications(std::sync::Arc<str>),
}

/// All diagnostics, by where they come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(BTreeMap<Unit, Vec<Diagnostic>>);

impl Ledger {
    pub(crate) fn replace(&mut self, unit: Unit, findings: Findings) {
        if findings.0.is_empty() {
            self.0.remove(&unit);
        } else {
            self.0.insert(unit, findings.0);
        }
    }

    /// Sorted by object and field, each once.
    pub(crate) fn all(&self) -> Vec<Diagnostic> {
        let mut all: Vec<_> = self.0.values().flatten().cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

/// The diagnostics of one unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(Vec<Diagnostic>);

impl Findings {
    pub(crate) fn error(
        &mut self,
        object: &Object,
        field: FieldPath,
        reason: Reason,
        message: impl Into<String>,
    ) {
        self.push(object, field, Severity::Error, reason, message.into());
    }

    pub(crate) fn warning(
        &mut self,
        object: &Object,
        field: FieldPath,
        reason: Reason,
        message: impl Into<String>,
    ) {
        self.push(object, field, Severity::Warning, reason, message.into());
    }

    pub(crate) fn info(
        &mut self,
        object: &Object,
        field: FieldPath,
        reason: Reason,
        message: impl Into<String>,
    ) {
        self.push(object, field, Severity::Info, reason, message.into());
    }

    fn push(
        &mut self,
        object: &Object,
        field: FieldPath,
        severity: Severity,
        reason: Reason,
        message: String,
    ) {
        if object.problems.iter().any(|problem| problem.field == field) {
            // Said already by whoever read the object.
            return;
        }
        self.0.push(Diagnostic {
            subject: Subject::from(&object.key),
            field,
            severity,
            reason,
            message,
        });
    }
}
