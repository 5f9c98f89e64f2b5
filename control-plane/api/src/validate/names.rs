//! Names and namespaces (RFC 1123 labels and subdomains, as Kubernetes has them).

use super::{Faults, allows_dots};
use crate::ApiObject;
use crate::field_path::FieldPath;

/// The object has a name, and its name and namespace are well-formed.
pub(super) fn metadata(object: &ApiObject, faults: &mut Faults) {
    let at = FieldPath::root().key("metadata");
    let metadata = object.metadata();
    match metadata.name.as_deref() {
        None | Some("") if metadata.generate_name.is_some() => faults.invalid(
            at.key("generateName"),
            "names are not generated here; give the object a name",
        ),
        None | Some("") => faults.invalid(at.key("name"), "is required"),
        Some(name) if allows_dots(object.kind()) => {
            if !is_subdomain(name) {
                faults.invalid(
                    at.key("name"),
                    not_a_name(name, "letters, digits, '-' and '.'"),
                );
            }
        }
        Some(name) => {
            if !is_label(name) {
                faults.invalid(at.key("name"), not_a_name(name, "letters, digits and '-'"));
            }
        }
    }
    if let Some(namespace) = metadata.namespace.as_deref()
        && !is_label(namespace)
    {
        faults.invalid(
            at.key("namespace"),
            not_a_name(namespace, "letters, digits and '-'"),
        );
    }
}

fn not_a_name(name: &str, of: &str) -> String {
    format!("{name:?} is not a name: small {of}, beginning and ending with a letter or digit")
}

/// RFC 1123 label.
pub(super) fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// RFC 1123 subdomain: labels joined by dots.
fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}
