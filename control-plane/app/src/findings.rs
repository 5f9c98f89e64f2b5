//! What is wrong, from every step: files and objects (source), what they mean together (compile),
//! what proxies refused (stream).

use std::collections::BTreeSet;

use serde::Serialize;
use weft_model::{Severity, Subject};
use weft_source::Diagnostic;
use weft_xds::{Kind, RefusedBy};

/// One finding as the admin interface shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// `error`, `warning` or `info`.
    pub severity: String,
    /// File and line, where it came from a file.
    pub place: Option<String>,
    /// The object's kind; empty where there is no telling.
    pub kind: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The field; empty for the object as a whole.
    pub field: String,
    /// Why, in one word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// The line as it is logged.
    pub text: String,
}

impl From<&Diagnostic> for Finding {
    fn from(diagnostic: &Diagnostic) -> Self {
        let subject = diagnostic.subject.as_ref();
        let part = |part: fn(&Subject) -> &str| subject.map_or("", part).to_owned();
        Self {
            severity: diagnostic.severity.to_string(),
            place: diagnostic.place.as_ref().map(ToString::to_string),
            kind: part(|subject| &subject.kind),
            namespace: part(|subject| &subject.namespace),
            name: part(|subject| &subject.name),
            field: diagnostic.field.to_string(),
            reason: diagnostic.reason.to_string(),
            message: diagnostic.message.clone(),
            text: diagnostic.to_string(),
        }
    }
}

impl Finding {
    /// An error about an object that the mesh itself keeps, and the field where it is.
    pub fn of_own_object(
        (kind, namespace, name): (&str, &str, &str),
        field: &str,
        reason: &str,
        message: String,
    ) -> Self {
        let at = if field.is_empty() {
            String::new()
        } else {
            format!("{field}: ")
        };
        Self {
            severity: Severity::Error.to_string(),
            place: None,
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            field: field.to_owned(),
            reason: reason.to_owned(),
            text: format!("{kind} {namespace}/{name}: {at}{message}"),
            message,
        }
    }
}

impl From<&RefusedBy> for Finding {
    fn from(refused: &RefusedBy) -> Self {
        let subject = object_of(refused.kind, &refused.name);
        let message = format!(
            "the proxy of {} refused {} {}: {}",
            refused.pod, refused.kind, refused.name, refused.reason
        );
        let (kind, namespace, name) = match &subject {
            Some((kind, namespace, name)) => (*kind, *namespace, *name),
            None => ("", "", ""),
        };
        Self {
            severity: Severity::Error.to_string(),
            place: None,
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            field: refused.field.clone(),
            reason: "RefusedByProxy".to_owned(),
            text: format!("{kind} {namespace}/{name}: {}: {message}", refused.field),
            message,
        }
    }
}

/// The object that a resource was mainly made from: kind, namespace, name.
fn object_of(kind: Kind, resource: &str) -> Option<(&'static str, &str, &str)> {
    let (namespace, rest) = resource.split_once('/').unwrap_or(("", resource));
    match kind {
        Kind::TrustBundle | Kind::Address => None,
        Kind::MeshConfig => Some(("MeshConfig", "", rest)),
        Kind::Authorization => Some(("AuthorizationPolicy", namespace, rest)),
        Kind::Inbound => Some(("Pod", namespace, rest)),
        Kind::Endpoints => Some(("Service", namespace, rest.split('/').next()?)),
        Kind::Service => Some(("Service", namespace, rest.split('?').next()?)),
    }
}

/// Remembers what was logged: each finding is logged when it comes and when it goes.
#[derive(Debug, Default)]
pub(crate) struct FindingLog {
    logged: BTreeSet<Diagnostic>,
}

impl FindingLog {
    /// Logs the differences to what was there before.
    pub fn update(&mut self, now: BTreeSet<Diagnostic>) {
        for gone in self.logged.difference(&now) {
            tracing::info!("resolved: {gone}");
        }
        for new in now.difference(&self.logged) {
            match new.severity {
                Severity::Error => tracing::error!("{new}"),
                Severity::Warning => tracing::warn!("{new}"),
                Severity::Info => tracing::info!("{new}"),
            }
        }
        self.logged = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_resource_is_told_to_its_object() {
        let object = |kind, name| object_of(kind, name);
        assert_eq!(
            object(Kind::Service, "shop/web?from=bank"),
            Some(("Service", "shop", "web"))
        );
        assert_eq!(
            object(Kind::Endpoints, "shop/web/3"),
            Some(("Service", "shop", "web"))
        );
        assert_eq!(
            object(Kind::Inbound, "shop/web-1"),
            Some(("Pod", "shop", "web-1"))
        );
        assert_eq!(
            object(Kind::Authorization, "shop/p"),
            Some(("AuthorizationPolicy", "shop", "p"))
        );
        assert_eq!(
            object(Kind::MeshConfig, "default"),
            Some(("MeshConfig", "", "default"))
        );
        assert_eq!(object(Kind::Address, "10.0.0.1:80"), None);
    }
}
