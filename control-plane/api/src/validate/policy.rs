//! `AuthorizationPolicy` and `PeerAuthentication`.

use super::{Faults, spec_path};
use crate::authorization_policy::{AuthorizationRule, HeaderCondition, Operation, Source};
use crate::field_path::FieldPath;
use crate::target::{TargetRef, WorkloadSelector};
use crate::{AuthorizationPolicy, PeerAuthentication};

const MAX_ENTRIES: usize = 64;

/// The rules of the CRD.
pub(super) fn authorization(policy: &AuthorizationPolicy, faults: &mut Faults) {
    let (at, spec) = (spec_path(), &policy.spec);
    selector(spec.selector.as_ref(), &at, faults);
    if spec.selector.is_some() && spec.target_refs.is_some() {
        faults.invalid(
            at.key("targetRefs"),
            "selector and targetRefs exclude each other",
        );
    }
    if let Some(targets) = &spec.target_refs {
        target_refs(targets, &at.key("targetRefs"), faults);
    }
    for (index, entry) in spec.rules.iter().flatten().enumerate() {
        rule(entry, &at.key("rules").index(index), faults);
    }
}

/// Targets are Services, and there is at least one.
pub(super) fn target_refs(targets: &Vec<TargetRef>, at: &FieldPath, faults: &mut Faults) {
    faults.list(at.clone(), Some(targets), 16);
    for (index, target) in targets.iter().enumerate() {
        let at = at.index(index);
        if !target.is_service() {
            faults.invalid(
                at.key("kind"),
                "only a Service (group \"\") can be a target",
            );
        }
        if target.name.is_empty() {
            faults.invalid(at.key("name"), "is empty");
        }
    }
}

fn selector(selector: Option<&WorkloadSelector>, at: &FieldPath, faults: &mut Faults) {
    if selector.is_some_and(|selector| selector.match_labels.is_empty()) {
        faults.invalid(
            at.key("selector").key("matchLabels"),
            "is empty; leave the selector out to mean every pod",
        );
    }
}

fn rule(rule: &AuthorizationRule, at: &FieldPath, faults: &mut Faults) {
    faults.list(at.key("from"), rule.from.as_ref(), MAX_ENTRIES);
    faults.list(at.key("to"), rule.to.as_ref(), MAX_ENTRIES);
    for (index, entry) in rule.from.iter().flatten().enumerate() {
        source(entry, &at.key("from").index(index), faults);
    }
    for (index, entry) in rule.to.iter().flatten().enumerate() {
        operation(entry, &at.key("to").index(index), faults);
    }
}

fn source(source: &Source, at: &FieldPath, faults: &mut Faults) {
    if *source == Source::default() {
        faults.invalid(at.clone(), "is empty; leave `from` out to mean anybody");
    }
    for (field, list) in [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
        ("namespaces", &source.namespaces),
        ("notNamespaces", &source.not_namespaces),
        ("serviceAccounts", &source.service_accounts),
        ("notServiceAccounts", &source.not_service_accounts),
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
    ] {
        strings(list.as_ref(), at.key(field), faults);
    }
    for (field, list) in [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
    ] {
        for (index, principal) in list.iter().flatten().enumerate() {
            if !principal.starts_with("spiffe://") && !principal.starts_with('*') {
                faults.invalid(
                    at.key(field).index(index),
                    format!("{principal:?} is no SPIFFE ID; write it like spiffe://cluster.local/ns/shop/sa/web"),
                );
            }
        }
    }
}

fn operation(operation: &Operation, at: &FieldPath, faults: &mut Faults) {
    if *operation == Operation::default() {
        faults.invalid(at.clone(), "is empty; leave `to` out to mean anything");
    }
    for (field, list) in [
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
    ] {
        strings(list.as_ref(), at.key(field), faults);
    }
    for (field, list) in [
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
    ] {
        for (index, path) in list.iter().flatten().enumerate() {
            if !path.is_empty() && !path.starts_with(['/', '*']) {
                let message = format!("{path:?} does not begin with '/' or '*'");
                faults.invalid(at.key(field).index(index), message);
            }
        }
    }
    for (field, list) in [
        ("ports", &operation.ports),
        ("notPorts", &operation.not_ports),
    ] {
        faults.list(at.key(field), list.as_ref(), MAX_ENTRIES);
        for (index, port) in list.iter().flatten().enumerate() {
            faults.range(at.key(field).index(index), Some(*port), 1, u16::MAX);
        }
    }
    for (field, list) in [
        ("headers", &operation.headers),
        ("notHeaders", &operation.not_headers),
    ] {
        faults.list(at.key(field), list.as_ref(), 16);
        for (index, entry) in list.iter().flatten().enumerate() {
            header(entry, &at.key(field).index(index), faults);
        }
    }
}

fn header(header: &HeaderCondition, at: &FieldPath, faults: &mut Faults) {
    super::route::header_name(&header.name, at.key("name"), faults);
    faults.list(at.key("values"), header.values.as_ref(), MAX_ENTRIES);
}

/// A list of words, none of them empty, with `*` at the beginning or end only.
fn strings(list: Option<&Vec<String>>, at: FieldPath, faults: &mut Faults) {
    for (index, text) in list.into_iter().flatten().enumerate() {
        let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or("");
        if text.is_empty() {
            faults.invalid(at.index(index), "is empty");
        } else if inner.contains('*') {
            let message =
                format!("{text:?} has a '*' that is neither at its beginning nor its end");
            faults.invalid(at.index(index), message);
        }
    }
    faults.list(at, list, MAX_ENTRIES);
}

/// The rules of the CRD.
pub(super) fn peer_authentication(policy: &PeerAuthentication, faults: &mut Faults) {
    let (at, spec) = (spec_path(), &policy.spec);
    selector(spec.selector.as_ref(), &at, faults);
    let ports = at.key("portLevelMtls");
    if spec.mtls.is_none() && spec.port_level_mtls.is_none() {
        faults.invalid(
            at.key("mtls"),
            "one of mtls and portLevelMtls must be given",
        );
    }
    if spec.port_level_mtls.is_some() && spec.selector.is_none() {
        faults.invalid(
            ports.clone(),
            "needs a selector: ports are those of certain pods",
        );
    }
    for port in spec.port_level_mtls.iter().flat_map(|ports| ports.keys()) {
        if !port
            .parse::<u16>()
            .is_ok_and(|number| number > 0 && number.to_string() == *port)
        {
            faults.invalid(ports.key(port), format!("{port:?} is not a port number"));
        }
    }
}
