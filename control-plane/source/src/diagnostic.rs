//! A finding with its place: what people get to see.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use weft_model::{FieldPath, Reason, Severity, Subject};

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The file, as it was reached from the path that the user gave.
    pub file: Arc<str>,
    /// The line, from 1; 0 when it is about the file as a whole.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// One finding about a file or an object in it. Sorted by place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    /// Where it is; none for objects that came from no file.
    pub place: Option<Place>,
    /// The object; none when there is no telling.
    pub subject: Option<Subject>,
    /// The field; empty for the object as a whole.
    pub field: FieldPath,
    /// How bad it is.
    pub severity: Severity,
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

impl Diagnostic {
    /// As it is shown to people: its text, and what it is if it is no error.
    #[must_use]
    pub fn line(&self) -> String {
        match self.severity {
            Severity::Error => self.to_string(),
            lesser => format!("{self} ({lesser})"),
        }
    }
}

impl fmt::Display for Diagnostic {
    /// `file:line: Kind namespace/name: field: reason`, without the parts that are not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(subject) = &self.subject {
            write!(f, "{subject}: ")?;
        }
        if !self.field.as_str().is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}
