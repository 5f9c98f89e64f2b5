//! Environment variables of a container and `$(NAME)` references to them, as Kubernetes expands
//! them: `$$` is a dollar sign, a reference to nothing stays as it is written.

use std::net::IpAddr;

use serde::Serialize;

/// Where a variable's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Value {
    /// Written in the YAML, references not yet expanded.
    Literal(String),
    /// A field of the pod.
    Field(Field),
}

/// The pod's fields that `fieldRef` may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Field {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// `metadata.uid`
    Uid,
    /// `status.podIP`
    PodIp,
    /// `status.podIPs`
    PodIps,
    /// `spec.serviceAccountName`
    ServiceAccount,
    /// `spec.nodeName` and `status.hostIP`: the bridge.
    Host,
}

impl Field {
    /// The field at `path`.
    pub fn parse(path: &str) -> Option<Self> {
        Some(match path {
            "metadata.name" => Self::Name,
            "metadata.namespace" => Self::Namespace,
            "metadata.uid" => Self::Uid,
            "status.podIP" => Self::PodIp,
            "status.podIPs" => Self::PodIps,
            "spec.serviceAccountName" => Self::ServiceAccount,
            "spec.nodeName" | "status.hostIP" => Self::Host,
            _ => return None,
        })
    }
}

/// The pod whose fields are asked for.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// UID.
    pub uid: String,
    /// Addresses, IPv4 first.
    pub ips: Vec<IpAddr>,
    /// Service account.
    pub service_account: String,
}

impl Facts {
    fn field(&self, field: Field) -> String {
        match field {
            Field::Name => self.name.clone(),
            Field::Namespace => self.namespace.clone(),
            Field::Uid => self.uid.clone(),
            Field::PodIp => self
                .ips
                .first()
                .map(ToString::to_string)
                .unwrap_or_default(),
            Field::PodIps => self
                .ips
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
            Field::ServiceAccount => self.service_account.clone(),
            Field::Host => crate::network::GATEWAY_V4.to_string(),
        }
    }
}

/// The variables' values, in order; a literal may refer to the variables before it.
pub fn resolve(variables: &[(String, Value)], facts: &Facts) -> Vec<(String, String)> {
    let mut resolved: Vec<(String, String)> = Vec::with_capacity(variables.len());
    for (name, value) in variables {
        let value = match value {
            Value::Literal(text) => expand(text, &resolved),
            Value::Field(field) => facts.field(*field),
        };
        resolved.retain(|(earlier, _)| earlier != name);
        resolved.push((name.clone(), value));
    }
    resolved
}

/// `text` with `$(NAME)` replaced.
pub fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
            continue;
        }
        let reference = after
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'));
        let found = reference.and_then(|(name, tail)| {
            let (_, value) = variables.iter().find(|(known, _)| known == name)?;
            Some((value, tail))
        });
        match found {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_in_kubernetes() {
        let vars = [
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), "2".to_owned()),
        ];
        let cases = [
            ("$(A)-$(B)", "1-2"),
            ("$$(A)", "$(A)"),
            ("$(NONE) $A $(A", "$(NONE) $A $(A"),
            ("100$", "100$"),
            ("$$$(A)", "$1"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &vars), expected, "{text}");
        }
    }

    #[test]
    fn variables_see_those_before_them_and_the_pods_fields() {
        let facts = Facts {
            name: "web-1".to_owned(),
            namespace: "shop".to_owned(),
            uid: "u".to_owned(),
            ips: vec!["10.244.0.10".parse().unwrap(), "fd00::a".parse().unwrap()],
            service_account: "default".to_owned(),
        };
        let variables = [
            ("IP".to_owned(), Value::Field(Field::PodIp)),
            (
                "URL".to_owned(),
                Value::Literal("http://$(IP):$(PORT)".to_owned()),
            ),
            ("PORT".to_owned(), Value::Literal("80".to_owned())),
        ];
        let resolved = resolve(&variables, &facts);
        assert_eq!(resolved[1].1, "http://10.244.0.10:$(PORT)");
    }
}
