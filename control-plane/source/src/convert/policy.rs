//! `AuthorizationPolicy`, `PeerAuthentication` and `MeshConfig`.

use weft_api::FieldPath;
use weft_api::authorization_policy as api;
use weft_api::mesh_config::OutboundPolicy as ApiOutboundPolicy;
use weft_api::peer_authentication::MutualTlsMode;
use weft_model::{
    Action, AuthorizationPolicy, AuthorizationRule, HeaderCondition, MeshConfig, MtlsMode,
    Operation, OutboundPolicy, PeerAuthentication, PolicyTargets, Source,
};

use super::{Faults, labels, spec_path, target_refs, text, texts};

pub(super) fn authorization(
    policy: &api::AuthorizationPolicy,
    faults: &mut Faults,
) -> AuthorizationPolicy {
    let spec = &policy.spec;
    let targets = match (&spec.target_refs, &spec.selector) {
        (Some(targets), _) => PolicyTargets::References(target_refs(targets)),
        (None, Some(selector)) => PolicyTargets::Selector(labels(Some(&selector.match_labels))),
        (None, None) => PolicyTargets::Everything,
    };
    let at = spec_path().key("rules");
    let rules = spec.rules.iter().flatten().enumerate();
    AuthorizationPolicy {
        action: match spec.action {
            api::Action::Allow => Action::Allow,
            api::Action::Deny => Action::Deny,
        },
        targets,
        rules: rules
            .map(|(index, entry)| rule(entry, &at.index(index), faults))
            .collect(),
    }
}

fn rule(rule: &api::AuthorizationRule, at: &FieldPath, faults: &mut Faults) -> AuthorizationRule {
    let at = at.key("from");
    let from = rule.from.iter().flatten().enumerate();
    AuthorizationRule {
        name: text(&rule.name),
        from: from
            .map(|(index, entry)| source(entry, &at.index(index), faults))
            .collect(),
        to: rule.to.iter().flatten().map(operation).collect(),
    }
}

fn source(source: &api::Source, at: &FieldPath, faults: &mut Faults) -> Source {
    Source {
        principals: texts(source.principals.as_ref()),
        namespaces: texts(source.namespaces.as_ref()),
        service_accounts: texts(source.service_accounts.as_ref()),
        ip_blocks: faults.blocks(source.ip_blocks.as_ref(), &at.key("ipBlocks")),
        not_principals: texts(source.not_principals.as_ref()),
        not_namespaces: texts(source.not_namespaces.as_ref()),
        not_service_accounts: texts(source.not_service_accounts.as_ref()),
        not_ip_blocks: faults.blocks(source.not_ip_blocks.as_ref(), &at.key("notIpBlocks")),
    }
}

fn operation(operation: &api::Operation) -> Operation {
    Operation {
        methods: texts(operation.methods.as_ref()),
        paths: texts(operation.paths.as_ref()),
        hosts: texts(operation.hosts.as_ref()),
        ports: operation.ports.clone().unwrap_or_default(),
        headers: headers(operation.headers.as_ref()),
        not_methods: texts(operation.not_methods.as_ref()),
        not_paths: texts(operation.not_paths.as_ref()),
        not_hosts: texts(operation.not_hosts.as_ref()),
        not_ports: operation.not_ports.clone().unwrap_or_default(),
        not_headers: headers(operation.not_headers.as_ref()),
    }
}

fn headers(list: Option<&Vec<api::HeaderCondition>>) -> Vec<HeaderCondition> {
    let header = |header: &api::HeaderCondition| HeaderCondition {
        name: header.name.as_str().into(),
        values: texts(header.values.as_ref()),
    };
    list.into_iter().flatten().map(header).collect()
}

pub(super) fn peer_authentication(policy: &weft_api::PeerAuthentication) -> PeerAuthentication {
    let spec = &policy.spec;
    let selector = spec
        .selector
        .as_ref()
        .map(|selector| &selector.match_labels);
    let ports = spec.port_level_mtls.iter().flatten();
    PeerAuthentication {
        selector: labels(selector),
        mode: spec.mtls.map(|mtls| mode(mtls.mode)),
        ports: ports
            .filter_map(|(port, mtls)| Some((port.parse().ok()?, mode(mtls.mode))))
            .collect(),
    }
}

fn mode(mode: MutualTlsMode) -> MtlsMode {
    match mode {
        MutualTlsMode::Strict => MtlsMode::Strict,
        MutualTlsMode::Permissive => MtlsMode::Permissive,
    }
}

pub(super) fn mesh_config(config: &weft_api::MeshConfig, faults: &mut Faults) -> MeshConfig {
    let spec = &config.spec;
    MeshConfig {
        trust_domain: text(&spec.trust_domain),
        outbound_policy: spec.outbound_policy.map(|policy| match policy {
            ApiOutboundPolicy::AllowAny => OutboundPolicy::AllowAny,
            ApiOutboundPolicy::RegistryOnly => OutboundPolicy::RegistryOnly,
        }),
        mesh_cidrs: faults.blocks(spec.mesh_cidrs.as_ref(), &spec_path().key("meshCIDRs")),
        access_log: spec.access_log.map(|log| log.enabled),
        mtls: spec.mtls.map(|mtls| mode(mtls.mode)),
    }
}
