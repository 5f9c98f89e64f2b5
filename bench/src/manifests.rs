//! The pods, as YAML that any cluster would take (JSON is YAML), and the files that the peers are
//! configured by, from the templates in `peers/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::contender::Contender;
use crate::credentials::Credentials;

/// The namespace of everything.
pub const NAMESPACE: &str = "bench";
/// A pod of no contender: what it asks for must be refused.
pub const INTRUDER: &str = "intruder";
/// The same, but in the mesh.
pub const MESHED_INTRUDER: &str = "weft-intruder";
/// What Weft is told.
pub const WEFT: &str = include_str!("../peers/weft.yaml");

const NGINX: &str = include_str!("../peers/nginx.conf");
const ENVOY_CLIENT: &str = include_str!("../peers/envoy-client.yaml");
const ENVOY_SERVER: &str = include_str!("../peers/envoy-server.yaml");
const HAPROXY_CLIENT: &str = include_str!("../peers/haproxy-client.cfg");
const HAPROXY_SERVER: &str = include_str!("../peers/haproxy-server.cfg");

/// The programs that run in pods.
#[derive(Debug, Clone)]
pub struct Programs {
    /// This program.
    pub bench: PathBuf,
    /// Envoy.
    pub envoy: PathBuf,
}

/// The ports of the load generator's side, on loopback.
#[derive(Debug, Clone, Copy)]
pub struct ClientPorts {
    /// Plain HTTP.
    pub http: u16,
    /// gRPC.
    pub grpc: u16,
}

/// Where a measured peer listens.
pub const CLIENT_PORTS: ClientPorts = ClientPorts {
    http: 9080,
    grpc: 9051,
};

/// The namespace.
pub fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

/// One pod.
pub fn pod(name: &str, meshed: bool, containers: Vec<Value>) -> Value {
    let inject = if meshed { "enabled" } else { "disabled" };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"app": name},
            "annotations": {"mesh.weft.dev/inject": inject},
        },
        "spec": {"serviceAccountName": name, "terminationGracePeriodSeconds": 1, "containers": containers},
    })
}

/// A container without a port.
pub fn container(name: &str, argv: &[String]) -> Value {
    json!({"name": name, "command": argv})
}

/// A container that is ready once its port takes connections.
fn listening(name: &str, argv: &[String], port: u16) -> Value {
    json!({
        "name": name,
        "command": argv,
        "ports": [{"containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
    })
}

/// The container that keeps a pod of which only commands are run in.
pub fn idle() -> Value {
    container("idle", &["sleep".to_owned(), "infinity".to_owned()])
}

/// nginx and the gRPC backend.
pub fn application(programs: &Programs, nginx_conf: &Path) -> Vec<Value> {
    let nginx = [
        "nginx".to_owned(),
        "-c".to_owned(),
        nginx_conf.display().to_string(),
    ];
    let grpc = [
        programs.bench.display().to_string(),
        "grpc-backend".to_owned(),
    ];
    vec![
        listening("nginx", &nginx, 8080),
        listening("grpc", &grpc, 50051),
    ]
}

/// nginx's configuration.
pub fn nginx_conf(gib: &Path) -> anyhow::Result<String> {
    let kib = "k".repeat(1024);
    fill(NGINX, &[("GIB", gib.display().to_string()), ("KIB", kib)])
}

/// What a peer is configured with.
#[derive(Debug)]
pub struct Peer<'a> {
    /// Which one.
    pub contender: Contender,
    /// Its own identity.
    pub own: &'a Credentials,
    /// The SPIFFE ID that the other side must have.
    pub other: String,
    /// PEM file with the root.
    pub root: &'a Path,
}

impl Peer<'_> {
    /// The configuration beside the client.
    pub fn client(&self, upstream: std::net::IpAddr, ports: ClientPorts) -> anyhow::Result<String> {
        let template = if self.contender.is_envoy() {
            ENVOY_CLIENT
        } else {
            HAPROXY_CLIENT
        };
        let hop = match self.contender {
            Contender::EnvoyH2 => "{http2_protocol_options: {}}",
            _ => "{http_protocol_options: {}}",
        };
        let mut values = self.values();
        values.extend([
            ("UPSTREAM", upstream.to_string()),
            ("HTTP_PORT", ports.http.to_string()),
            ("GRPC_PORT", ports.grpc.to_string()),
            ("HOP", hop.to_owned()),
        ]);
        fill(template, &values)
    }

    /// The configuration beside the server.
    pub fn server(&self) -> anyhow::Result<String> {
        let template = if self.contender.is_envoy() {
            ENVOY_SERVER
        } else {
            HAPROXY_SERVER
        };
        fill(template, &self.values())
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        let hex = self
            .other
            .bytes()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        let path = |path: &Path| path.display().to_string();
        vec![
            ("CA", path(self.root)),
            ("CERTIFICATE", path(&self.own.chain)),
            ("KEY", path(&self.own.key)),
            ("PAIR", path(&self.own.pair)),
            ("PEER_ID", self.other.clone()),
            ("PEER_ID_HEX", hex),
        ]
    }

    /// The command that runs it.
    pub fn command(&self, programs: &Programs, config: &Path) -> Vec<String> {
        let config = config.display().to_string();
        let envoy = programs.envoy.display().to_string();
        let words: Vec<&str> = if self.contender.is_envoy() {
            vec![
                &envoy,
                "-c",
                &config,
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "-l",
                "error",
            ]
        } else {
            vec!["haproxy", "-db", "-f", &config]
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// How its files are named.
    pub fn file(&self, directory: &Path, side: &str) -> PathBuf {
        let extension = if self.contender.is_envoy() {
            "yaml"
        } else {
            "cfg"
        };
        directory.join(format!("{}-{side}.{extension}", self.contender))
    }
}

/// Puts values in the places of `{{NAME}}`.
fn fill(template: &str, values: &[(&str, String)]) -> anyhow::Result<String> {
    let values: BTreeMap<&str, &str> = values
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut parts = template.split("{{");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").context("{{ without }}")?;
        filled += values
            .get(name)
            .with_context(|| format!("no value for {name}"))?;
        filled += rest;
    }
    Ok(filled)
}

/// Objects as one file of YAML documents.
pub fn documents(objects: &[Value]) -> String {
    objects
        .iter()
        .map(|object| format!("---\n{object:#}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled_or_named() {
        let values = [("A", "1".to_owned()), ("B", "{2}".to_owned())];
        assert_eq!(fill("x {{A}}-{{B}}}", &values).unwrap(), "x 1-{2}}");
        assert_eq!(
            fill("{{C}}", &values).unwrap_err().to_string(),
            "no value for C"
        );
    }
}
