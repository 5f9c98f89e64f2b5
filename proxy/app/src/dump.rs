//! The active configuration as JSON, for people and for `weft proxy config`: what the workers act on
//! at this moment, not what was sent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weft_certs::WorkloadIdentity;
use weft_proxy_config::{
    Backend, Inbound, MtlsMode, OutboundPolicy, Port, Resolution, Service, Store,
    WeightedBackendTarget,
};
use weft_proxy_xds::StatusHandle;

use crate::admin::leaving_status;
use crate::readiness::Readiness;

/// Who a proxy is.
#[derive(Debug, Clone)]
pub struct About {
    /// `namespace/name`.
    pub pod: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where its control plane is.
    pub control_plane: String,
    /// How the stream client is doing.
    pub status: StatusHandle,
}

/// All of it.
pub fn configuration(about: &About, readiness: &Readiness) -> Value {
    let store = &readiness.store;
    let mesh = store.mesh();
    json!({
        "pod": about.pod,
        "addresses": about.addresses,
        "version": env!("CARGO_PKG_VERSION"),
        "controlPlane": control_plane(about),
        "readiness": readiness.report(),
        "leaving": leaving_status(&readiness.leaving),
        "certificate": certificate(&readiness.identity),
        "mesh": {
            "trustDomain": mesh.trust_domain.as_str(),
            "ranges": mesh.ranges,
            "outbound": match mesh.outbound {
                OutboundPolicy::AllowAny => "AllowAny",
                OutboundPolicy::RegistryOnly => "RegistryOnly",
            },
            "accessLog": mesh.access_log,
        },
        "inbound": store.inbound().map(|inbound| inbound_json(&inbound)),
        "outbound": outbound(store),
    })
}

fn control_plane(about: &About) -> Value {
    let status = about.status.load();
    let subscribed: Vec<_> = status
        .subscribed
        .iter()
        .map(|one| json!({ "kind": one.kind, "name": one.name, "version": one.version }))
        .collect();
    let refused: Vec<_> = status
        .refused
        .iter()
        .map(|one| {
            json!({
                "kind": one.kind,
                "name": one.name,
                "field": one.field,
                "reason": one.reason,
            })
        })
        .collect();
    json!({
        "address": about.control_plane,
        "connected": status.connected,
        "connections": status.connections,
        "confirmedAt": status.confirmed_at.map(unix_seconds),
        "unconfirmed": status.unconfirmed,
        "lastError": status.last_error,
        "subscribed": subscribed,
        "refused": refused,
    })
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn certificate(identity: &WorkloadIdentity) -> Option<Value> {
    let own = identity.current()?;
    let chain = own.chain();
    Some(json!({
        "identity": chain.id().as_str(),
        "serial": chain.serial().to_string(),
        "notBefore": unix_seconds(chain.not_before()),
        "notAfter": unix_seconds(chain.not_after()),
    }))
}

fn inbound_json(inbound: &Inbound) -> Value {
    let ports: Vec<_> = inbound
        .ports()
        .iter()
        .map(|port| {
            json!({
                "port": port.port,
                "protocol": format!("{:?}", port.protocol),
                "routed": port.routed,
                "mtls": mtls(port.mtls),
            })
        })
        .collect();
    let policies: Vec<_> = inbound
        .policies()
        .iter()
        .map(|binding| {
            json!({
                "name": binding.policy.name(),
                "action": format!("{:?}", binding.policy.action()),
                "ports": binding.ports.as_slice(),
            })
        })
        .collect();
    json!({
        "namespace": inbound.namespace,
        "pod": inbound.pod,
        "serviceAccount": inbound.service_account,
        "workload": inbound.workload,
        "addresses": inbound.addresses,
        "mtls": mtls(inbound.mtls),
        "terminating": inbound.terminating,
        "drained": inbound.drained,
        "ports": ports,
        "policies": policies,
    })
}

fn mtls(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Permissive => "Permissive",
        MtlsMode::Strict => "Strict",
    }
}

fn outbound(store: &Store) -> Vec<Value> {
    store
        .addresses()
        .into_iter()
        .map(|(address, resolution, live)| destination(address, &resolution, live))
        .collect()
}

fn destination(address: SocketAddr, resolution: &Resolution, live: bool) -> Value {
    let mut shown = json!({ "address": address, "subscribed": live });
    match resolution {
        Resolution::Service { service, port } => {
            let service = service.load();
            shown["service"] = service_json(&service, *port);
        }
        Resolution::Workload(backend) => shown["workload"] = backend_json(backend),
        Resolution::Passthrough => shown["passthrough"] = json!(true),
        Resolution::Refused(reason) => shown["refused"] = json!(reason.to_string()),
    }
    shown
}

fn service_json(service: &Arc<Service>, port: u16) -> Value {
    json!({
        "namespace": service.namespace,
        "name": service.name,
        "addresses": service.addresses,
        "port": service.port(port).map(port_json),
    })
}

fn port_json(port: &Port) -> Value {
    let rules: Vec<_> = port
        .rules
        .iter()
        .map(|rule| {
            let backends: Vec<_> = rule
                .backends()
                .iter()
                .map(|backend| match &backend.target {
                    WeightedBackendTarget::Backend(target) => {
                        json!({ "weight": backend.weight, "backend": backend_json(target) })
                    }
                    WeightedBackendTarget::Invalid(reason) => {
                        json!({ "weight": backend.weight, "invalid": reason })
                    }
                })
                .collect();
            json!({
                "name": rule.name,
                "matches": format!("{:?}", rule.matches),
                "filters": format!("{:?}", rule.filters),
                "requestTimeout": rule.request_timeout.map(|t| t.as_secs_f64()),
                "backendTimeout": rule.backend_timeout.map(|t| t.as_secs_f64()),
                "backends": backends,
            })
        })
        .collect();
    json!({
        "port": port.port,
        "name": port.name,
        "protocol": format!("{:?}", port.protocol),
        "routed": port.routed,
        "rules": rules,
        "own": backend_json(&port.own),
    })
}

fn backend_json(backend: &Backend) -> Value {
    let now = Instant::now();
    let snapshot = backend.snapshot();
    let endpoints: Vec<_> = snapshot
        .all()
        .iter()
        .map(|target| {
            let endpoint = &target.endpoint;
            json!({
                "address": target.addr,
                "mtls": target.mtls,
                "identity": endpoint.identity.as_ref().map(|id| id.as_str()),
                "workload": endpoint.workload,
                "weight": endpoint.weight,
                "ready": endpoint.ready,
                "terminating": endpoint.terminating,
                "ejected": endpoint.state.is_ejected(now),
                "inFlight": endpoint.state.in_flight(),
            })
        })
        .collect();
    json!({
        "backend": backend.key.to_string(),
        "protocol": format!("{:?}", snapshot.protocol),
        "policy": format!("{:?}", snapshot.policy),
        "requests": backend.state.requests(),
        "connections": backend.state.connections(),
        "pending": backend.state.pending(),
        "endpoints": endpoints,
    })
}
