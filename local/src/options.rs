//! What a mesh on one machine is started with. Serialised to `RUN_DIR/options.json`, which is how
//! the supervisor inside the outer namespace receives it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The programs that a mesh consists of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Binaries {
    /// A binary whose `main` calls [`crate::reexec::main_if_requested`] first: `weft` or `weft-local`.
    pub local: PathBuf,
    /// `weft-control-plane`.
    pub control_plane: PathBuf,
    /// `weft-proxy`.
    pub proxy: PathBuf,
}

impl Binaries {
    /// The binaries that lie in `dir`, with `local` as the re-executed one.
    pub fn in_dir(dir: &std::path::Path, local: PathBuf) -> Self {
        Self {
            local,
            control_plane: dir.join("weft-control-plane"),
            proxy: dir.join("weft-proxy"),
        }
    }
}

/// One Service port on the host's loopback: `8080=shop/web:80`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Where the host listens; port 0 lets the kernel choose.
    pub listen: SocketAddr,
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// A port's number or name.
    pub port: String,
}

/// Why a `--publish` value was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not of the form [ADDRESS:]PORT=NAMESPACE/SERVICE:PORT, as in 8080=shop/web:80")]
pub struct PublishSyntax(String);

impl FromStr for Publish {
    type Err = PublishSyntax;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || PublishSyntax(text.to_owned());
        let (listen, target) = text.split_once('=').ok_or_else(syntax)?;
        let (namespace, rest) = target.split_once('/').ok_or_else(syntax)?;
        let (service, port) = rest.split_once(':').ok_or_else(syntax)?;
        let listen = match listen.parse::<u16>() {
            Ok(port) => SocketAddr::from(([127, 0, 0, 1], port)),
            Err(_) => listen.parse().map_err(|_| syntax())?,
        };
        if namespace.is_empty() || service.is_empty() || port.is_empty() {
            return Err(syntax());
        }
        Ok(Self {
            listen,
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            port: port.to_owned(),
        })
    }
}

/// Everything a mesh is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// The user's YAML: one folder.
    pub folder: PathBuf,
    /// Sockets, logs, state and generated objects; created, and owned by this mesh alone. Keep it
    /// short: a Unix socket's path has 107 bytes.
    pub run_dir: PathBuf,
    /// The programs.
    pub binaries: Binaries,
    /// Services on the host's loopback.
    pub publish: Vec<Publish>,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// Whether the control plane starts with the mesh; tests may start it later.
    pub start_control_plane: bool,
    /// Appended to the control plane's arguments.
    pub control_plane_args: Vec<String>,
    /// Appended to every proxy's arguments.
    pub proxy_args: Vec<String>,
    /// Added to the environment of every proxy and of the control plane.
    pub env: BTreeMap<String, String>,
}

impl Options {
    /// A mesh over `folder` with its files in `run_dir`, everything else as `weft up` has it.
    pub fn new(folder: PathBuf, run_dir: PathBuf, binaries: Binaries) -> Self {
        Self {
            folder,
            run_dir,
            binaries,
            publish: Vec::new(),
            trust_domain: "cluster.local".to_owned(),
            start_control_plane: true,
            control_plane_args: Vec::new(),
            proxy_args: Vec::new(),
            env: BTreeMap::new(),
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout {
            root: self.run_dir.clone(),
        }
    }
}

/// Where things lie in the run directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }
    pub fn options(&self) -> PathBuf {
        self.root.join("options.json")
    }
    pub fn supervisor_socket(&self) -> PathBuf {
        self.root.join("supervisor.sock")
    }
    pub fn publish_socket(&self) -> PathBuf {
        self.root.join("publish.sock")
    }
    pub fn control_plane_admin(&self) -> PathBuf {
        self.root.join("control-plane.sock")
    }
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
    /// The objects that this crate writes for the control plane.
    pub fn generated(&self) -> PathBuf {
        self.root.join("objects")
    }
    pub fn control_plane_state(&self) -> PathBuf {
        self.root.join("state")
    }
    pub fn join_records(&self) -> PathBuf {
        self.root.join("join")
    }
    /// A tmpfs of the outer mount namespace: roots, volumes and proxy state of the pods.
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publish_takes_a_port_or_an_address() {
        let publish: Publish = "8080=shop/web:80".parse().unwrap();
        assert_eq!(publish.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(
            (publish.namespace.as_str(), publish.service.as_str()),
            ("shop", "web")
        );
        assert_eq!(publish.port, "80");
        let publish: Publish = "[::1]:9000=a/b:http".parse().unwrap();
        assert_eq!(publish.listen, "[::1]:9000".parse().unwrap());
        for bad in ["8080", "8080=web:80", "x=a/b:80", "8080=a/b", "8080=/b:80"] {
            assert!(bad.parse::<Publish>().is_err(), "{bad}");
        }
    }
}
