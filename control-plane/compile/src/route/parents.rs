//! What a route attaches to: ports of Services. Gateways are looked at for whose they are.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::{FieldPath, GATEWAY_GROUP, ParentRef, Reason, Service, ServiceType};

use super::Report;
use crate::gateway::{Manager, manager, parent_gateway};
use crate::index::{Index, parent_service};
use crate::protocol::{declared, tcp_ports};
use crate::resource::Protocol;
use crate::snapshot::Name;

/// A port of a Service that a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attachment {
    pub(crate) service: Name,
    pub(crate) port: u16,
    /// Position in `parentRefs`.
    pub(crate) parent: usize,
}

/// What the parents of a route are.
#[derive(Debug, Default)]
pub(crate) struct Parents {
    /// The ports of Services that they name, each once: at the first parent that names it.
    pub(crate) attachments: Vec<Attachment>,
    /// Positions of Gateways that are this control plane's.
    pub(crate) gateways: BTreeSet<usize>,
    /// How many are other controllers' business.
    pub(crate) others: usize,
}

/// Sorts the parents of a route.
pub(super) fn of_route(index: &Index, parents: &[ParentRef], report: &mut Report<'_>) -> Parents {
    let mut sorted = Parents::default();
    let mut found: BTreeMap<(Name, u16), usize> = BTreeMap::new();
    for (position, parent) in parents.iter().enumerate() {
        let at = FieldPath::from("spec.parentRefs").index(position);
        if report.is_unreadable(&at) {
            continue;
        }
        match gateway(index, parent, &at, report) {
            Some(Manager::Us) => {
                sorted.gateways.insert(position);
            }
            Some(Manager::Others) => sorted.others += 1,
            Some(Manager::Nobody) => {}
            None => {
                if let Some((name, service)) = service(index, parent, &at, report) {
                    for port in ports(parent, &name, service, &at, report) {
                        found.entry((name.clone(), port)).or_insert(position);
                    }
                }
            }
        }
    }
    let attachments = found.into_iter();
    let attachments = attachments.map(|((service, port), parent)| Attachment {
        service,
        port,
        parent,
    });
    sorted.attachments = attachments.collect();
    sorted
}

/// Who serves the parent, where it is a Gateway or listeners of one. What is wrong with it is reported.
fn gateway(
    index: &Index,
    parent: &ParentRef,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<Manager> {
    if *parent.group == *GATEWAY_GROUP && *parent.kind == *"ListenerSet" {
        return Some(Manager::Others);
    }
    let name = parent_gateway(&report.object.key, parent)?;
    let manager = manager(index, &name);
    match manager {
        Manager::Us => {
            let message = format!(
                "Gateway {}/{} is of this control plane's class, which serves no Gateways yet; attach the route to a Service, or to a Gateway of an ingress controller",
                name.0, name.1
            );
            report.error(at.clone(), Reason::UnsupportedValue, message);
        }
        Manager::Nobody => {
            let message = format!("there is no Gateway {}/{}", name.0, name.1);
            report.error(at.field("name"), Reason::NoMatchingParent, message);
        }
        Manager::Others => {}
    }
    Some(manager)
}

fn service<'a>(
    index: &'a Index,
    parent: &ParentRef,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Option<(Name, &'a Service)> {
    let Some(name) = parent_service(&report.object.key, parent) else {
        return report.refuse(
            at.field("kind"),
            Reason::InvalidKind,
            format!(
                "a route attaches to a Service (group \"\", kind Service); {} {:?} is not supported",
                parent.kind, parent.group
            ),
        );
    };
    match index.service(&name) {
        None => report.refuse(
            at.field("name"),
            Reason::NoMatchingParent,
            format!("there is no Service {}/{}", name.0, name.1),
        ),
        Some((_, service)) if matches!(service.kind, ServiceType::ExternalName(_)) => report
            .refuse(
                at.field("name"),
                Reason::UnsupportedValue,
                format!(
                    "Service {}/{} is an ExternalName, which cannot be routed",
                    name.0, name.1
                ),
            ),
        Some((_, service)) => Some((name, service)),
    }
}

/// The ports of `service` that `parent` names and that can be routed as HTTP.
fn ports(
    parent: &ParentRef,
    name: &Name,
    service: &Service,
    at: &FieldPath,
    report: &mut Report<'_>,
) -> Vec<u16> {
    let named: Vec<_> = tcp_ports(&service.ports)
        .filter(|port| parent.port.is_none_or(|number| port.port == number))
        .filter(|port| {
            parent
                .section_name
                .as_ref()
                .is_none_or(|section| port.name == *section)
        })
        .collect();
    if named.is_empty() {
        let field = match (parent.port, &parent.section_name) {
            (Some(_), _) => at.field("port"),
            (None, Some(_)) => at.field("sectionName"),
            (None, None) => at.field("name"),
        };
        let known: Vec<_> = tcp_ports(&service.ports)
            .map(|port| format!("{} {:?}", port.port, port.name))
            .collect();
        report.error(
            field,
            Reason::PortNotFound,
            format!(
                "Service {}/{} has no such TCP port; it has {}",
                name.0,
                name.1,
                if known.is_empty() {
                    "none".into()
                } else {
                    known.join(", ")
                }
            ),
        );
    }
    let (routable, opaque): (Vec<_>, Vec<_>) = named
        .into_iter()
        .partition(|port| !matches!(declared(port), Protocol::Tcp | Protocol::Tls));
    // A route on the whole Service means its HTTP ports; one that names the port means that port.
    let by_name = parent.port.is_some() || parent.section_name.is_some();
    if let Some(port) = opaque.first()
        && (by_name || routable.is_empty())
    {
        report.error(
            at.clone(),
            Reason::UnsupportedProtocol,
            format!(
                "port {} of Service {}/{} is declared as {:?}, where requests cannot be told apart; change its appProtocol or name",
                port.port,
                name.0,
                name.1,
                declared(port)
            ),
        );
    }
    routable.into_iter().map(|port| port.port).collect()
}
