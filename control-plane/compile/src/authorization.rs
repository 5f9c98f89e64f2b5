//! One AuthorizationPolicy as a condition. A policy that cannot be compiled refuses everything.

use std::sync::Arc;

use ipnet::IpNet;
use weft_identity::SpiffeId;
use weft_model::{
    Action, AuthorizationPolicy, AuthorizationRule as Rule, FieldPath, HeaderCondition, Object,
    Operation, Reason, Source,
};

use crate::findings::Findings;
use crate::resource::{Authorization, AuthorizationRule, Condition, StringMatch};
use crate::route::is_token;

/// Compiles a policy. Where something of it cannot be read, the result is the refusal of
/// everything: an ALLOW that was half understood might allow too much, a DENY refuse too little.
pub(crate) fn compile(
    object: &Object,
    policy: &AuthorizationPolicy,
    findings: &mut Findings,
) -> Authorization {
    let mut terms = Terms {
        object,
        findings,
        readable: object.problems.is_empty(),
    };
    let rules = policy
        .rules
        .iter()
        .enumerate()
        .map(|(position, rule)| terms.rule(position, rule))
        .collect();
    if terms.readable {
        return Authorization {
            action: policy.action,
            rules,
        };
    }
    findings.error(
        object,
        "spec".into(),
        Reason::PolicyDenies,
        "the policy cannot be used as it is, so it refuses everything on its targets; correct the fields reported",
    );
    Authorization {
        action: Action::Deny,
        rules: vec![AuthorizationRule {
            name: "unreadable".into(),
            condition: Condition::All(Vec::new()),
        }],
    }
}

struct Terms<'a, 'f> {
    object: &'a Object,
    findings: &'f mut Findings,
    readable: bool,
}

type Texts<'a> = &'a [Arc<str>];

impl Terms<'_, '_> {
    fn refuse(&mut self, at: FieldPath, message: String) {
        self.readable = false;
        self.findings
            .error(self.object, at, Reason::InvalidValue, message);
    }

    fn rule(&mut self, position: usize, rule: &Rule) -> AuthorizationRule {
        let at = FieldPath::from("spec.rules").index(position);
        let mut parts = Vec::new();
        if !rule.from.is_empty() {
            let sources = rule.from.iter().enumerate();
            parts.push(Condition::Any(
                sources
                    .map(|(nth, source)| self.source(source, &at.field("from").index(nth)))
                    .collect(),
            ));
        }
        if !rule.to.is_empty() {
            let operations = rule.to.iter().enumerate();
            parts.push(Condition::Any(
                operations
                    .map(|(nth, operation)| self.operation(operation, &at.field("to").index(nth)))
                    .collect(),
            ));
        }
        AuthorizationRule {
            name: rule
                .name
                .clone()
                .unwrap_or_else(|| position.to_string().into()),
            condition: Condition::All(parts),
        }
    }

    fn source(&mut self, source: &Source, at: &FieldPath) -> Condition {
        let own_namespace = Arc::clone(&self.object.key.namespace);
        let account = |text: &str| service_account(text, &own_namespace);
        let mut all = Vec::new();
        self.texts(
            &mut all,
            [&source.principals, &source.not_principals],
            at,
            "principals",
            principal,
        );
        self.texts(
            &mut all,
            [&source.namespaces, &source.not_namespaces],
            at,
            "namespaces",
            namespace,
        );
        self.texts(
            &mut all,
            [&source.service_accounts, &source.not_service_accounts],
            at,
            "serviceAccounts",
            account,
        );
        let blocks = |blocks: &[IpNet]| blocks.iter().copied().map(Condition::SourceIp).collect();
        push(
            &mut all,
            blocks(&source.ip_blocks),
            blocks(&source.not_ip_blocks),
        );
        Condition::All(all)
    }

    fn operation(&mut self, operation: &Operation, at: &FieldPath) -> Condition {
        let mut all = Vec::new();
        let ports = |ports: &[u16]| ports.iter().copied().map(Condition::Port).collect();
        push(
            &mut all,
            ports(&operation.ports),
            ports(&operation.not_ports),
        );
        self.texts(
            &mut all,
            [&operation.methods, &operation.not_methods],
            at,
            "methods",
            method,
        );
        self.texts(
            &mut all,
            [&operation.paths, &operation.not_paths],
            at,
            "paths",
            path,
        );
        self.texts(
            &mut all,
            [&operation.hosts, &operation.not_hosts],
            at,
            "hosts",
            host,
        );
        for (nth, header) in operation.headers.iter().enumerate() {
            all.push(self.header(header, &at.field("headers").index(nth)));
        }
        for (nth, header) in operation.not_headers.iter().enumerate() {
            let condition = self.header(header, &at.field("notHeaders").index(nth));
            all.push(Condition::Not(Box::new(condition)));
        }
        Condition::All(all)
    }

    /// A field that lists texts and its `not` counterpart.
    fn texts(
        &mut self,
        all: &mut Vec<Condition>,
        [wanted, unwanted]: [Texts<'_>; 2],
        at: &FieldPath,
        field: &str,
        condition: impl Fn(&str) -> Result<Condition, String>,
    ) {
        let mut each = |texts: Texts<'_>, field: &str| {
            let mut conditions = Vec::new();
            for (nth, text) in texts.iter().enumerate() {
                match condition(text) {
                    Ok(condition) => conditions.push(condition),
                    Err(message) => self.refuse(at.field(field).index(nth), message),
                }
            }
            conditions
        };
        let wanted = each(wanted, field);
        let unwanted = each(unwanted, &negated(field));
        push(all, wanted, unwanted);
    }

    fn header(&mut self, header: &HeaderCondition, at: &FieldPath) -> Condition {
        let name: Arc<str> = header.name.to_ascii_lowercase().into();
        if !is_token(&name) {
            let message = format!("{:?} is not the name of a header", header.name);
            self.refuse(at.field("name"), message);
        }
        let of = |value| Condition::Header {
            name: Arc::clone(&name),
            value,
        };
        if header.values.is_empty() {
            return of(StringMatch::Present);
        }
        let mut values = Vec::new();
        for (nth, value) in header.values.iter().enumerate() {
            match pattern(value) {
                Ok(value) => values.push(of(value)),
                Err(message) => self.refuse(at.field("values").index(nth), message),
            }
        }
        Condition::Any(values)
    }
}

/// `principals` → `notPrincipals`.
fn negated(field: &str) -> String {
    let (first, rest) = field.split_at(1);
    format!("not{}{rest}", first.to_ascii_uppercase())
}

/// Adds "one of `wanted`" and "none of `unwanted`", each where there is any.
fn push(all: &mut Vec<Condition>, wanted: Vec<Condition>, unwanted: Vec<Condition>) {
    if !wanted.is_empty() {
        all.push(Condition::Any(wanted));
    }
    if !unwanted.is_empty() {
        all.push(Condition::Not(Box::new(Condition::Any(unwanted))));
    }
}

/// `*`, `prefix*`, `*suffix` or the text itself.
fn pattern(text: &str) -> Result<StringMatch, String> {
    let inner = text.strip_prefix('*').unwrap_or(text);
    let inner = inner.strip_suffix('*').unwrap_or(inner);
    if text.is_empty() {
        return Err("an empty text matches nothing".into());
    }
    if inner.contains('*') {
        return Err(format!(
            "{text:?} has a * that is neither at its beginning nor its end"
        ));
    }
    match (text.starts_with('*'), text.ends_with('*')) {
        _ if text == "*" => Ok(StringMatch::Present),
        (true, true) => Err(format!("{text:?} has a * at both ends; one is possible")),
        (true, false) => Ok(StringMatch::Suffix(inner.into())),
        (false, true) => Ok(StringMatch::Prefix(inner.into())),
        (false, false) => Ok(StringMatch::Exact(text.into())),
    }
}

fn principal(text: &str) -> Result<Condition, String> {
    let matches = pattern(text)?;
    let advice = "write it like spiffe://cluster.local/ns/shop/sa/web";
    match &matches {
        StringMatch::Exact(id) => {
            SpiffeId::parse(id)
                .map_err(|error| format!("{text:?} is no SPIFFE ID ({error}); {advice}"))?;
        }
        StringMatch::Prefix(start) if !start.starts_with("spiffe://") => {
            return Err(format!("no SPIFFE ID begins with {start:?}; {advice}"));
        }
        _ => {}
    }
    Ok(Condition::Principal(matches))
}

fn namespace(text: &str) -> Result<Condition, String> {
    pattern(text).map(Condition::Namespace)
}

/// `name` in the policy's own namespace, or `namespace/name`.
fn service_account(text: &str, own_namespace: &Arc<str>) -> Result<Condition, String> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (namespace.into(), name),
        None => (Arc::clone(own_namespace), text),
    };
    if namespace.is_empty() || name.is_empty() || text.contains('*') || name.contains('/') {
        return Err(format!(
            "{text:?} is no service account; write name or namespace/name"
        ));
    }
    Ok(Condition::ServiceAccount {
        namespace,
        name: name.into(),
    })
}

fn method(text: &str) -> Result<Condition, String> {
    pattern(text).map(Condition::Method)
}

fn path(text: &str) -> Result<Condition, String> {
    if !text.starts_with(['/', '*']) {
        return Err(format!("{text:?} can match no path; begin it with / or *"));
    }
    pattern(text).map(Condition::Path)
}

fn host(text: &str) -> Result<Condition, String> {
    pattern(&text.to_ascii_lowercase()).map(Condition::Host)
}
