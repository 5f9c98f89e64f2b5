//! `Authorization`.

use weft_compile::resource::{Action, Authorization, Condition, StringMatch};
use weft_proto::mesh;
use weft_proto::mesh::condition::Kind;

/// One policy.
pub(crate) fn authorization(policy: &Authorization) -> mesh::Authorization {
    let action = match policy.action {
        Action::Allow => mesh::Action::Allow,
        Action::Deny => mesh::Action::Deny,
    };
    mesh::Authorization {
        action: action.into(),
        rules: policy
            .rules
            .iter()
            .map(|rule| mesh::Rule {
                name: rule.name.to_string(),
                condition: Some(condition(&rule.condition)),
            })
            .collect(),
    }
}

fn condition(from: &Condition) -> mesh::Condition {
    let kind = match from {
        Condition::All(parts) => Kind::All(mesh::All {
            conditions: parts.iter().map(condition).collect(),
        }),
        Condition::Any(parts) => Kind::Any(mesh::Any {
            conditions: parts.iter().map(condition).collect(),
        }),
        Condition::Not(part) => Kind::Not(Box::new(condition(part))),
        Condition::Principal(text) => Kind::Principal(string(text)),
        Condition::Namespace(text) => Kind::Namespace(string(text)),
        Condition::ServiceAccount { namespace, name } => {
            Kind::ServiceAccount(mesh::ServiceAccount {
                namespace: namespace.to_string(),
                name: name.to_string(),
            })
        }
        Condition::SourceIp(block) => Kind::SourceIp(block.to_string()),
        Condition::Port(port) => Kind::Port((*port).into()),
        Condition::Method(text) => Kind::Method(string(text)),
        Condition::Path(text) => Kind::Path(string(text)),
        Condition::Host(text) => Kind::Host(string(text)),
        Condition::Header { name, value } => Kind::Header(mesh::HeaderCondition {
            name: name.to_string(),
            value: Some(string(value)),
        }),
    };
    mesh::Condition { kind: Some(kind) }
}

fn string(from: &StringMatch) -> mesh::StringMatch {
    use mesh::string_match::Kind;
    let kind = match from {
        StringMatch::Exact(text) => Kind::Exact(text.to_string()),
        StringMatch::Prefix(text) => Kind::Prefix(text.to_string()),
        StringMatch::Suffix(text) => Kind::Suffix(text.to_string()),
        StringMatch::Present => Kind::Present(true),
    };
    mesh::StringMatch { kind: Some(kind) }
}
