//! Who is compared.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// One way from the load generator to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// No proxy and no encryption.
    Direct,
    /// A pair of Envoys, HTTP/1.1 between them.
    EnvoyH1,
    /// A pair of Envoys, HTTP/2 between them.
    EnvoyH2,
    /// A pair of HAProxies, HTTP/1.1 between them, HTTP/2 for gRPC.
    Haproxy,
    /// A mesh of two pods: interception, sidecars, control plane.
    Weft,
}

impl Contender {
    /// All of them, in the order of their turns.
    pub const ALL: [Self; 5] = [
        Self::Direct,
        Self::EnvoyH1,
        Self::EnvoyH2,
        Self::Haproxy,
        Self::Weft,
    ];

    /// As flags, pods and results have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::EnvoyH1 => "envoy-h1",
            Self::EnvoyH2 => "envoy-h2",
            Self::Haproxy => "haproxy",
            Self::Weft => "weft",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "no proxy, plaintext",
            Self::EnvoyH1 => "Envoy, HTTP/1.1 hop",
            Self::EnvoyH2 => "Envoy, HTTP/2 hop",
            Self::Haproxy => "HAProxy",
            Self::Weft => "Weft",
        }
    }

    /// The pod that the load comes from.
    pub fn client_pod(self) -> String {
        format!("{}-client", self.name())
    }

    /// The pod with the application.
    pub fn server_pod(self) -> String {
        format!("{}-server", self.name())
    }

    /// The container of the proxy in either pod, if it has one.
    pub fn proxy_container(self) -> Option<&'static str> {
        match self {
            Self::Direct => None,
            Self::EnvoyH1 | Self::EnvoyH2 | Self::Haproxy => Some("proxy"),
            Self::Weft => Some("weft-proxy"),
        }
    }

    /// Whether it is configured by a file of its own rather than by the mesh.
    pub fn is_peer(self) -> bool {
        matches!(self, Self::EnvoyH1 | Self::EnvoyH2 | Self::Haproxy)
    }

    /// Whether it is one of the Envoys.
    pub fn is_envoy(self) -> bool {
        matches!(self, Self::EnvoyH1 | Self::EnvoyH2)
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
