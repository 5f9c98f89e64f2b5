//! The text of one file → its objects, and what is wrong with what is none.

use std::sync::Arc;

use serde_json::Value;
use weft_api::parse::FaultReason;
use weft_api::{ApiObject, Fault, FieldPath, Kind, ObjectKey, Parsed, Recognised, recognise};
use weft_model::{
    Action, AuthorizationPolicy, PeerAuthentication, PolicyTargets, Problem, Reason, Severity,
    Spec, Subject,
};

use crate::convert::convert;
use crate::diagnostic::{Diagnostic, Place};
use crate::locate::Text;
use crate::yaml::{self, Document, Lines};

/// The largest file that is read.
pub(crate) const MAX_FILE_BYTES: u64 = 16 << 20;

/// One object as a file has it.
#[derive(Clone, Debug)]
pub(crate) struct ReadObject {
    pub(crate) key: ObjectKey,
    pub(crate) text: Text,
    /// Its position among the objects of the file, from 0.
    pub(crate) position: usize,
    /// As far as it can be read.
    pub(crate) api: Option<Arc<ApiObject>>,
    /// Its form in the model, as far as it can be read.
    pub(crate) spec: Option<Spec>,
    /// What is wrong with it; the object is accepted when there is nothing.
    pub(crate) faults: Vec<Fault>,
}

impl ReadObject {
    pub(crate) fn subject(&self) -> Subject {
        subject(self.key.kind.as_str(), &self.key.namespace, &self.key.name)
    }

    /// Where it begins.
    pub(crate) fn place(&self) -> Place {
        self.text.place(&FieldPath::root())
    }

    pub(crate) fn diagnostics(&self) -> impl Iterator<Item = Diagnostic> {
        diagnostics(self.subject(), &self.text, &self.faults)
    }

    /// What compile must know of the faults.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        problems(&self.faults)
    }
}

/// What compile must know of the faults.
pub(crate) fn problems(faults: &[Fault]) -> Vec<Problem> {
    let problem = |fault: &Fault| Problem {
        field: fault.field.to_string().as_str().into(),
        reason: reason(fault.reason),
        message: fault.message.clone(),
    };
    faults.iter().map(problem).collect()
}

/// What is in a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadFile {
    pub(crate) objects: Vec<Arc<ReadObject>>,
    /// What is wrong with the file, or with documents that are no objects that Weft reads.
    pub(crate) findings: Vec<Diagnostic>,
    /// Kinds that a mesh has no use for, where they stand.
    pub(crate) unused: Vec<(String, Place)>,
    /// Something in it is not YAML.
    pub(crate) is_broken: bool,
    /// Something in it should be an object and cannot be told which: objects that are missing
    /// from the file may be just that.
    pub(crate) has_unidentified: bool,
}

impl ReadFile {
    /// A file that could not be read at all.
    pub(crate) fn unreadable(file: &Arc<str>, message: String) -> Self {
        let mut read = Self {
            is_broken: true,
            ..Self::default()
        };
        let place = Place {
            file: Arc::clone(file),
            line: 0,
        };
        read.find(
            place,
            None,
            Severity::Error,
            Reason::UnreadableYaml,
            message,
        );
        read
    }

    fn find(
        &mut self,
        place: Place,
        subject: Option<Subject>,
        severity: Severity,
        reason: Reason,
        message: String,
    ) {
        self.findings.push(Diagnostic {
            place: Some(place),
            subject,
            field: weft_model::FieldPath::default(),
            severity,
            reason,
            message,
        });
    }
}

/// Reads the text of a file.
pub(crate) fn read(file: &Arc<str>, text: &str) -> ReadFile {
    let mut read = ReadFile::default();
    for document in yaml::documents(text) {
        match document {
            Ok(Document { value, lines }) => item(&mut read, file, &value, Arc::new(lines)),
            Err(error) => {
                read.is_broken = true;
                let place = Place {
                    file: Arc::clone(file),
                    line: error.line,
                };
                read.find(
                    place,
                    None,
                    Severity::Error,
                    Reason::UnreadableYaml,
                    error.message,
                );
            }
        }
    }
    read
}

/// Takes in one document, or one item of a list.
fn item(read: &mut ReadFile, file: &Arc<str>, value: &Value, lines: Arc<Lines>) {
    let text = Text {
        file: Arc::clone(file),
        lines,
    };
    let word = |key: &str| value.get(key).and_then(Value::as_str);
    let (Some(api_version), Some(kind)) = (word("apiVersion"), word("kind")) else {
        read.has_unidentified = true;
        let message = "is not a Kubernetes object: it has no apiVersion and kind".to_owned();
        let place = text.place(&FieldPath::root());
        read.find(place, None, Severity::Error, Reason::InvalidValue, message);
        return;
    };
    if let Some(Value::Array(items)) = value.get("items").filter(|_| kind.ends_with("List")) {
        for (index, value) in items.iter().enumerate() {
            let lines = text.lines.item("items", index).cloned();
            item(
                read,
                file,
                value,
                lines.map_or_else(|| Arc::clone(&text.lines), Arc::new),
            );
        }
        return;
    }
    match recognise(api_version, kind) {
        Recognised::Read(known) => object(read, known, value, text),
        Recognised::NoUse => {
            let place = text.place(&FieldPath::root());
            read.unused.push((kind.to_owned(), place));
        }
        other => not_read(read, &other, (api_version, kind), value, &text),
    }
}

/// Reports an object of a kind that Weft does not read.
fn not_read(
    read: &mut ReadFile,
    recognised: &Recognised,
    (api_version, kind): (&str, &str),
    value: &Value,
    text: &Text,
) {
    let (severity, field, message) = match recognised {
        Recognised::OtherVersion(known) => (
            Severity::Error,
            "apiVersion",
            format!(
                "{known} is read as {}, not as {api_version}",
                known.api_version()
            ),
        ),
        Recognised::OtherGroup(known) => (
            Severity::Warning,
            "apiVersion",
            format!(
                "{known} is of {}, not of {api_version}: ignored",
                known.api_version()
            ),
        ),
        Recognised::NotYet => (
            Severity::Error,
            "kind",
            format!("Weft does not do {kind} yet"),
        ),
        Recognised::UnknownInOwnGroup => (
            Severity::Error,
            "kind",
            format!("{api_version} has no kind {kind}{}", similar_kind(kind)),
        ),
        _ => (
            Severity::Warning,
            "kind",
            format!("{api_version} {kind} is not a kind that Weft knows: ignored"),
        ),
    };
    read.has_unidentified |= severity == Severity::Error;
    let metadata = |key: &str| {
        value
            .pointer(&format!("/metadata/{key}"))
            .and_then(Value::as_str)
    };
    let namespace = metadata("namespace").unwrap_or("");
    let subject = subject(kind, namespace, metadata("name").unwrap_or(""));
    let place = text.place(&FieldPath::root().key(field));
    read.find(place, Some(subject), severity, Reason::UnknownKind, message);
}

/// `; did you mean X?` when a kind differs by case only.
fn similar_kind(kind: &str) -> String {
    let similar = Kind::ALL
        .into_iter()
        .find(|known| known.as_str().eq_ignore_ascii_case(kind));
    similar.map_or_else(String::new, |known| format!("; did you mean {known}?"))
}

/// Takes in an object of a kind that Weft reads.
fn object(read: &mut ReadFile, kind: Kind, value: &Value, text: Text) {
    let Understood {
        object,
        spec,
        faults,
    } = understand(kind, value);
    let metadata = |key: &str| {
        value
            .pointer(&format!("/metadata/{key}"))
            .and_then(Value::as_str)
    };
    let namespace = match metadata("namespace") {
        _ if !kind.is_namespaced() => "",
        None | Some("") => "default",
        Some(namespace) => namespace,
    };
    let name = metadata("name").unwrap_or("");
    if name.is_empty() {
        read.has_unidentified = true;
        let subject = subject(kind.as_str(), namespace, name);
        read.findings.extend(diagnostics(subject, &text, &faults));
        return;
    }
    read.objects.push(Arc::new(ReadObject {
        key: ObjectKey {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        },
        text,
        position: read.objects.len(),
        api: object.map(Arc::new),
        spec,
        faults,
    }));
}

/// What a raw object says.
pub(crate) struct Understood {
    /// As far as it can be read.
    pub(crate) object: Option<ApiObject>,
    /// Its form in the model, as far as it can be read.
    pub(crate) spec: Option<Spec>,
    /// What is wrong with it.
    pub(crate) faults: Vec<Fault>,
}

/// Reads one object, from wherever it came.
pub(crate) fn understand(kind: Kind, value: &Value) -> Understood {
    let Parsed { object, mut faults } = weft_api::parse(kind, value);
    let mut spec = None;
    if let Some(object) = &object {
        let (converted, more) = convert(object);
        spec = converted;
        faults.extend(more);
        faults.sort();
        faults.dedup();
    }
    // A security policy of which nothing can be read is there all the same: it refuses.
    let spec = spec.or_else(|| match kind {
        Kind::AuthorizationPolicy => Some(Spec::AuthorizationPolicy(AuthorizationPolicy {
            action: Action::Allow,
            targets: PolicyTargets::Everything,
            rules: Vec::new(),
        })),
        Kind::PeerAuthentication => Some(Spec::PeerAuthentication(PeerAuthentication::default())),
        _ => None,
    });
    Understood {
        object,
        spec,
        faults,
    }
}

fn diagnostics(
    subject: Subject,
    text: &Text,
    faults: &[Fault],
) -> impl Iterator<Item = Diagnostic> {
    faults.iter().map(move |fault| Diagnostic {
        place: Some(text.place(&fault.field)),
        subject: Some(subject.clone()),
        field: fault.field.to_string().as_str().into(),
        severity: Severity::Error,
        reason: reason(fault.reason),
        message: fault.message.clone(),
    })
}

fn reason(reason: FaultReason) -> Reason {
    match reason {
        FaultReason::UnknownField => Reason::UnknownField,
        FaultReason::InvalidValue => Reason::InvalidValue,
        FaultReason::DuplicateValue => Reason::DuplicateValue,
    }
}

pub(crate) fn subject(kind: &str, namespace: &str, name: &str) -> Subject {
    Subject {
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
    }
}
