//! Resources for tests, short to write.

use std::sync::Arc;

use prost::Message;
use weft_certs::{TrustBundle, TrustStore};
use weft_proto::mesh;
use weft_proxy_config::{Store, StoreLimits};

use crate::activation::Activation;
use crate::kind::Kind;
use crate::resource::{Update, Wire};

pub(crate) fn wire(version: &str, message: &impl Message) -> Wire {
    Wire {
        version: version.to_owned(),
        bytes: message.encode_to_vec().into(),
    }
}

pub(crate) fn update(name: &str, version: &str, message: &impl Message) -> Update {
    Update {
        name: name.to_owned(),
        body: Some(wire(version, message)),
    }
}

pub(crate) fn absent(name: &str) -> Update {
    Update {
        name: name.to_owned(),
        body: None,
    }
}

/// The service `shop/NAME` with one bucket and port 80, whose one rule leads to `backends`.
pub(crate) fn service(name: &str, backends: &[&str]) -> mesh::Service {
    let backends: Vec<_> = backends
        .iter()
        .map(|name| mesh::WeightedBackend {
            weight: 1,
            target: Some(mesh::weighted_backend::Target::Backend(mesh::Backend {
                namespace: "shop".into(),
                name: (*name).to_owned(),
                port: 80,
            })),
            filters: vec![],
        })
        .collect();
    let rules = if backends.is_empty() {
        vec![]
    } else {
        vec![mesh::HttpRule {
            name: "rule".into(),
            backends,
            ..Default::default()
        }]
    };
    mesh::Service {
        namespace: "shop".into(),
        name: name.to_owned(),
        ports: vec![mesh::Port {
            port: 80,
            rules,
            ..Default::default()
        }],
        buckets: 1,
        ..Default::default()
    }
}

pub(crate) fn service_update(version: &str, name: &str, backends: &[&str]) -> Update {
    update(
        &format!("shop/{name}?from=shop"),
        version,
        &service(name, backends),
    )
}

pub(crate) fn endpoint(address: &str) -> mesh::Endpoint {
    mesh::Endpoint {
        address: address.to_owned(),
        ports: vec![mesh::EndpointPort {
            service_port: 80,
            port_on_endpoint: 8080,
            mtls: true,
            protocol: mesh::Protocol::Http1.into(),
        }],
        service_account: "web".into(),
        namespace: "shop".into(),
        trust_domain: "cluster.local".into(),
        weight: 1,
        ready: true,
        ..Default::default()
    }
}

pub(crate) fn bucket(version: &str, name: &str, addresses: &[&str]) -> Update {
    let endpoints = addresses.iter().map(|address| endpoint(address)).collect();
    update(name, version, &mesh::Endpoints { endpoints })
}

/// The address `name` leads to port 80 of `shop/SERVICE`.
pub(crate) fn address(version: &str, name: &str, service: &str) -> Update {
    let target = mesh::address::Target::Service(mesh::ServicePort {
        namespace: "shop".into(),
        name: service.to_owned(),
        port: 80,
    });
    let target = Some(target);
    update(name, version, &mesh::Address { target })
}

pub(crate) fn policy(action: mesh::Action, namespace: &str) -> mesh::Authorization {
    let condition = mesh::Condition {
        kind: Some(mesh::condition::Kind::Namespace(mesh::StringMatch {
            kind: Some(mesh::string_match::Kind::Exact(namespace.to_owned())),
        })),
    };
    mesh::Authorization {
        action: action.into(),
        rules: vec![mesh::Rule {
            name: "0".into(),
            condition: Some(condition),
        }],
    }
}

/// The inbound of `shop/web-1` with these policies, name and version.
pub(crate) fn inbound(version: &str, policies: &[(&str, &str)]) -> Update {
    let policies = policies
        .iter()
        .map(|(name, version)| mesh::PolicyRef {
            name: (*name).to_owned(),
            version: (*version).to_owned(),
            ports: vec![],
        })
        .collect();
    let inbound = mesh::Inbound {
        namespace: "shop".into(),
        pod: "web-1".into(),
        mtls: mesh::MtlsMode::Strict.into(),
        policies,
        ..Default::default()
    };
    update("shop/web-1", version, &inbound)
}

pub(crate) fn mesh_config() -> mesh::MeshConfig {
    mesh::MeshConfig {
        trust_domain: "cluster.local".into(),
        address_ranges: vec!["10.0.0.0/8".into()],
        outbound_policy: mesh::OutboundPolicy::AllowAny.into(),
        access_log: false,
    }
}

/// An activation that knows the mesh's settings, of the pod `shop/web-1`.
pub(crate) fn activation() -> (Arc<Store>, Activation) {
    let (store, writer) = Store::new(StoreLimits::default());
    let trust = Arc::new(TrustStore::new(TrustBundle::default()));
    let pod = "shop/web-1".parse().unwrap();
    let mut activation = Activation::new(writer, trust, pod);
    let mesh = update("default", "m1", &mesh_config());
    assert!(
        activation
            .apply(Kind::MeshConfig, vec![mesh], vec![])
            .is_empty()
    );
    (store, activation)
}
