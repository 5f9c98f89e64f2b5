//! What a service's port speaks, by what its Service says.

use std::collections::BTreeSet;

use weft_model::{ServicePort, Transport};

use crate::resource::Protocol;

/// The protocol that `appProtocol` declares, or else the first part of the port's name
/// (`http-metrics`). Whatever is not known there is detected.
pub(crate) fn declared(port: &ServicePort) -> Protocol {
    match &port.app_protocol {
        Some(declared) => from_word(declared),
        None => from_word(port.name.split('-').next().unwrap_or_default()),
    }
}

fn from_word(word: &str) -> Protocol {
    match word.to_ascii_lowercase().as_str() {
        "http" | "kubernetes.io/ws" => Protocol::Http,
        "http2" | "h2c" | "kubernetes.io/h2c" => Protocol::Http2,
        "grpc" => Protocol::Grpc,
        "tcp" => Protocol::Tcp,
        "tls" | "https" | "kubernetes.io/wss" => Protocol::Tls,
        _ => Protocol::Detect,
    }
}

/// The ports that a mesh carries: TCP.
pub(crate) fn tcp_ports(ports: &[ServicePort]) -> impl Iterator<Item = &ServicePort> {
    ports.iter().filter(|port| port.transport == Transport::Tcp)
}

/// What a pod's port speaks, given what the services say that lead to it: what they agree on.
pub(crate) fn agreed(said: impl IntoIterator<Item = Protocol>) -> Protocol {
    let known: BTreeSet<_> = said
        .into_iter()
        .filter(|protocol| *protocol != Protocol::Detect)
        .collect();
    match known.first() {
        Some(only) if known.len() == 1 => *only,
        Some(_) if known.iter().all(|protocol| protocol.is_http()) => Protocol::Http,
        _ => Protocol::Detect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::TargetPort;

    #[test]
    fn a_port_speaks_what_app_protocol_says_then_what_its_name_begins_with() {
        for (name, app_protocol, expected) in [
            ("", None, Protocol::Detect),
            ("http", None, Protocol::Http),
            ("http-metrics", None, Protocol::Http),
            ("httpx", None, Protocol::Detect),
            ("grpc-api", None, Protocol::Grpc),
            ("https", None, Protocol::Tls),
            ("tcp-echo", None, Protocol::Tcp),
            ("http", Some("tcp"), Protocol::Tcp),
            ("web", Some("kubernetes.io/h2c"), Protocol::Http2),
            ("http", Some("example.com/own"), Protocol::Detect),
        ] {
            let port = ServicePort {
                name: name.into(),
                port: 80,
                target: TargetPort::Number(80),
                transport: Transport::Tcp,
                app_protocol: app_protocol.map(Into::into),
            };
            assert_eq!(declared(&port), expected, "{name} {app_protocol:?}");
        }
    }

    #[test]
    fn services_that_disagree_about_a_port_leave_it_to_detection() {
        use Protocol::{Detect, Grpc, Http, Http2, Tcp, Tls};
        assert_eq!(agreed([]), Detect);
        assert_eq!(agreed([Detect, Tcp]), Tcp);
        assert_eq!(agreed([Grpc, Http2]), Http);
        assert_eq!(agreed([Http, Tls, Http]), Detect);
    }
}
