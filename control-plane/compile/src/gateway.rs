//! Gateways: whose they are, and who may lead a Gateway's route into another namespace. This control plane serves none:
//! those of its class are told so, with their routes; all others are their controllers' business.

use weft_model::{
    FieldPath, GATEWAY_GROUP, Gateway, GatewayClass, Kind, Object, ObjectKey, ParentRef, Reason,
    Spec,
};

use crate::findings::Findings;
use crate::index::Index;
use crate::snapshot::Name;

/// Who serves a Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    /// Its class names this control plane.
    Us,
    /// Its class names another controller, or there is no such class.
    Others,
    /// There is no such Gateway.
    Nobody,
}

/// The Gateway that a parent reference names, if it names one.
pub(crate) fn parent_gateway(route: &ObjectKey, parent: &ParentRef) -> Option<Name> {
    (*parent.group == *GATEWAY_GROUP && *parent.kind == *"Gateway").then(|| {
        let namespace = parent.namespace.as_ref().unwrap_or(&route.namespace);
        (namespace.clone(), parent.name.clone())
    })
}

/// Who serves the Gateway of this name.
pub(crate) fn manager(index: &Index, name: &Name) -> Manager {
    let key = ObjectKey::new(Kind::Gateway, name.0.clone(), name.1.clone());
    let object = index.world().object(&key);
    match object.map(|object| &object.spec) {
        Some(Spec::Gateway(gateway)) => match class(index, gateway) {
            Some(class) if class.is_ours() => Manager::Us,
            _ => Manager::Others,
        },
        _ => Manager::Nobody,
    }
}

fn class<'a>(index: &'a Index, gateway: &Gateway) -> Option<&'a GatewayClass> {
    let key = ObjectKey::new(Kind::GatewayClass, "", gateway.class.clone());
    match &index.world().object(&key)?.spec {
        Spec::GatewayClass(class) => Some(class),
        _ => None,
    }
}

/// The Gateways of a class.
pub(crate) fn of_class<'a>(
    index: &'a Index,
    class: &'a str,
) -> impl Iterator<Item = &'a ObjectKey> + use<'a> {
    let gateways = index.world().of_kind(Kind::Gateway);
    gateways
        .filter(move |object| matches!(&object.spec, Spec::Gateway(gateway) if *gateway.class == *class))
        .map(|object| &object.key)
}

/// Whether a ReferenceGrant lets this route lead to this Service of another namespace.
pub(crate) fn is_granted(index: &Index, route: &ObjectKey, service: &Name) -> bool {
    let mut grants = index
        .world()
        .in_namespace(Kind::ReferenceGrant, &service.0)
        .filter_map(|object| match &object.spec {
            Spec::ReferenceGrant(grant) => Some(grant),
            _ => None,
        });
    grants.any(|grant| {
        let from = grant.from.iter().any(|from| {
            *from.group == *GATEWAY_GROUP
                && *from.kind == *route.kind.as_str()
                && from.namespace == route.namespace
        });
        let to = grant.to.iter().any(|to| {
            to.group.is_empty()
                && *to.kind == *"Service"
                && to.name.as_ref().is_none_or(|name| *name == service.1)
        });
        from && to
    })
}

/// What is to be said about a Gateway or a GatewayClass.
pub(crate) fn check(index: &Index, object: &Object) -> Findings {
    let mut findings = Findings::default();
    match &object.spec {
        Spec::GatewayClass(class) if class.is_ours() => findings.error(
            object,
            "spec.controllerName".into(),
            Reason::UnsupportedValue,
            "this control plane serves no Gateways yet, so nothing listens for those of this class",
        ),
        Spec::Gateway(gateway) => {
            let field = FieldPath::from("spec.gatewayClassName");
            match class(index, gateway) {
                Some(class) if class.is_ours() => findings.error(
                    object,
                    field,
                    Reason::UnsupportedValue,
                    format!(
                        "GatewayClass {} is this control plane's, which serves no Gateways yet, so nothing listens for this one; use the class of an ingress controller",
                        gateway.class
                    ),
                ),
                Some(_) => {}
                None => findings.warning(
                    object,
                    field,
                    Reason::TargetNotFound,
                    format!(
                        "there is no GatewayClass {}, so no controller serves this Gateway",
                        gateway.class
                    ),
                ),
            }
        }
        _ => {}
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use weft_model::{
        CONTROLLER, Change, Created, Granted, GrantedTo, HttpRoute, Meta, Origin, ReferenceGrant,
        Severity,
    };

    use super::*;

    fn object(namespace: &str, name: &str, spec: Spec) -> Change {
        let meta = Meta {
            origin: Origin::Kubernetes {
                resource_version: 1,
            },
            created: Created::default(),
            generation: 1,
        };
        Change::Upsert(Arc::new(Object::new(namespace, name, meta, spec)))
    }

    fn index(changes: impl IntoIterator<Item = Change>) -> Index {
        let mut index = Index::default();
        for change in changes {
            index.apply(change);
        }
        index
    }

    fn class(name: &str, controller: &str) -> Change {
        let controller = controller.into();
        object("", name, Spec::GatewayClass(GatewayClass { controller }))
    }

    fn gateway(name: &str, class: &str) -> Change {
        let class = class.into();
        object("shop", name, Spec::Gateway(Gateway { class }))
    }

    #[test]
    fn a_gateway_is_its_controllers() {
        let index = index([
            class("weft", CONTROLLER),
            class("other", "example.com/controller"),
            gateway("ours", "weft"),
            gateway("theirs", "other"),
            gateway("nobodys", "missing"),
        ]);
        let manager = |name: &str| manager(&index, &("shop".into(), name.into()));
        assert_eq!(manager("ours"), Manager::Us);
        assert_eq!(manager("theirs"), Manager::Others);
        assert_eq!(manager("nobodys"), Manager::Others);
        assert_eq!(manager("gone"), Manager::Nobody);
        let said = |kind, namespace: &str, name: &str| {
            let key = ObjectKey::new(kind, namespace, name);
            let mut ledger = crate::findings::Ledger::default();
            let findings = check(&index, index.world().object(&key).unwrap());
            ledger.replace(crate::findings::Unit::Object(key), findings);
            let all = ledger.all();
            all.first().map(|found| (found.severity, found.reason))
        };
        let refused = Some((Severity::Error, Reason::UnsupportedValue));
        assert_eq!(said(Kind::GatewayClass, "", "weft"), refused);
        assert_eq!(said(Kind::GatewayClass, "", "other"), None);
        assert_eq!(said(Kind::Gateway, "shop", "ours"), refused);
        assert_eq!(said(Kind::Gateway, "shop", "theirs"), None);
        let missing = Some((Severity::Warning, Reason::TargetNotFound));
        assert_eq!(said(Kind::Gateway, "shop", "nobodys"), missing);
    }

    #[test]
    fn a_grant_is_for_what_it_names() {
        let from = |group: &str, kind: &str, namespace: &str| GrantedTo {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
        };
        let to = |group: &str, kind: &str, name: Option<&str>| Granted {
            group: group.into(),
            kind: kind.into(),
            name: name.map(Arc::from),
        };
        let route = object("shop", "web", Spec::HttpRoute(HttpRoute::default()));
        let granted = |namespace: &str, from, to| {
            let grant = Spec::ReferenceGrant(ReferenceGrant {
                from: vec![from],
                to: vec![to],
            });
            let index = index([object(namespace, "grant", grant)]);
            is_granted(&index, route.key(), &("bank".into(), "ledger".into()))
        };
        let ours = || from(GATEWAY_GROUP, "HTTPRoute", "shop");
        let ledger = || to("", "Service", Some("ledger"));
        assert!(granted("bank", ours(), ledger()));
        assert!(granted("bank", ours(), to("", "Service", None)));
        assert!(!granted("shop", ours(), ledger()));
        for other in [
            from("", "HTTPRoute", "shop"),
            from(GATEWAY_GROUP, "GRPCRoute", "shop"),
            from(GATEWAY_GROUP, "HTTPRoute", "bank"),
        ] {
            assert!(!granted("bank", other.clone(), ledger()), "{other:?}");
        }
        for other in [
            to(GATEWAY_GROUP, "Service", Some("ledger")),
            to("", "Secret", Some("ledger")),
            to("", "Service", Some("vault")),
        ] {
            assert!(!granted("bank", ours(), other.clone()), "{other:?}");
        }
    }
}
