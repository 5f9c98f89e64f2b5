//! Object and field → file and line, for findings of later steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_api::{FieldPath, ObjectKey};
use weft_model::Subject;

use crate::diagnostic::{Diagnostic, Place};
use crate::read::subject;
use crate::yaml::Lines;

/// Knows where each object and field stands. Cheap to clone; it speaks of the moment at which it
/// was handed out.
#[derive(Clone, Debug, Default)]
pub struct Locator {
    objects: Arc<BTreeMap<Subject, Text>>,
}

/// Where the text of an object stands.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) file: Arc<str>,
    pub(crate) lines: Arc<Lines>,
}

impl Text {
    /// The place of the field, or of what is closest to it.
    pub(crate) fn place(&self, field: &FieldPath) -> Place {
        Place {
            file: Arc::clone(&self.file),
            line: self.lines.find(field),
        }
    }
}

impl Locator {
    pub(crate) fn new(objects: BTreeMap<Subject, Text>) -> Self {
        Self {
            objects: Arc::new(objects),
        }
    }

    /// Where the field of the object stands; none for objects that came from no file.
    pub fn place(&self, subject: &Subject, field: &weft_model::FieldPath) -> Option<Place> {
        let text = self.objects.get(subject)?;
        Some(text.place(&FieldPath::parse(field.as_str())))
    }

    /// Where the field of the object with this key stands.
    pub fn place_of(&self, key: &ObjectKey, field: &FieldPath) -> Option<Place> {
        let subject = subject(key.kind.as_str(), &key.namespace, &key.name);
        Some(self.objects.get(&subject)?.place(field))
    }

    /// Adds its place to a finding of compile.
    pub fn locate(&self, finding: &weft_model::Diagnostic) -> Diagnostic {
        Diagnostic {
            place: self.place(&finding.subject, &finding.field),
            subject: Some(finding.subject.clone()),
            field: finding.field.clone(),
            severity: finding.severity,
            reason: finding.reason,
            message: finding.message.clone(),
        }
    }
}
