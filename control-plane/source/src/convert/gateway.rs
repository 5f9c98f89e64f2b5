//! `GatewayClass`, `Gateway` and `ReferenceGrant`.

use weft_api::gateway as api;
use weft_model::{Gateway, GatewayClass, Granted, GrantedTo, ReferenceGrant};

use super::text;

pub(super) fn class(class: &api::GatewayClass) -> GatewayClass {
    GatewayClass {
        controller: class.spec.controller_name.as_str().into(),
    }
}

pub(super) fn gateway(gateway: &api::Gateway) -> Gateway {
    Gateway {
        class: gateway.spec.gateway_class_name.as_str().into(),
    }
}

pub(super) fn grant(grant: &api::ReferenceGrant) -> ReferenceGrant {
    let from = grant.spec.from.iter().map(|from| GrantedTo {
        group: from.group.as_str().into(),
        kind: from.kind.as_str().into(),
        namespace: from.namespace.as_str().into(),
    });
    let to = grant.spec.to.iter().map(|to| Granted {
        group: to.group.as_str().into(),
        kind: to.kind.as_str().into(),
        name: text(&to.name),
    });
    ReferenceGrant {
        from: from.collect(),
        to: to.collect(),
    }
}
