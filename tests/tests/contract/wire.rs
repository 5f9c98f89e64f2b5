//! Golden cases, from their YAML to what is on the stream, and proxies that are told what they ask for.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use weft_certs::{AuthoritySettings, CertificateAuthority};
use weft_compile::{Compiler, ResourceKey, Settings};
use weft_identity::{PodRef, TrustDomain};
use weft_model::Change;
use weft_proto::discovery::Resource;
use weft_proto::mesh;
use weft_proxy_config::Store;
use weft_proxy_xds as proxy;
use weft_xds::{Kind, Offline};

const GOLDEN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../control-plane/compile/tests/golden"
);

/// Ports that the cases' pods and services have.
const PORTS: [u16; 8] = [80, 81, 443, 5432, 8080, 8443, 9000, 9090];

pub fn pod(text: &str) -> PodRef {
    text.parse().unwrap()
}

pub fn proxy_kind(kind: Kind) -> proxy::Kind {
    proxy::Kind::from_type_url(kind.type_url()).unwrap()
}

/// Version and bytes of a resource with a body.
pub fn body(resource: Resource) -> Option<(String, Bytes)> {
    let any = resource.resource?;
    Some((resource.version, any.value.into()))
}

/// Made once: keys cost time.
static TRUST: OnceLock<Arc<mesh::TrustBundle>> = OnceLock::new();

/// The anchors of a CA's first day.
fn trust() -> mesh::TrustBundle {
    let directory = tempfile::tempdir().unwrap();
    let settings = AuthoritySettings::new(TrustDomain::default());
    let now = SystemTime::now();
    let authority = CertificateAuthority::open(directory.path(), settings, now).unwrap();
    let bundle = authority.bundle();
    let trust_domains = bundle.iter().map(|(domain, roots)| mesh::TrustDomain {
        name: domain.to_string(),
        roots: roots.iter().map(|root| root.to_vec()).collect(),
    });
    mesh::TrustBundle {
        trust_domains: trust_domains.collect(),
    }
}

/// A golden case, compiled.
pub struct Case {
    pub name: String,
    pub wire: Offline,
    keys: BTreeSet<ResourceKey>,
}

impl Case {
    pub fn all() -> Vec<Self> {
        let folders = fs::read_dir(GOLDEN).unwrap();
        let names = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| Self::load(&name)).collect()
    }

    pub fn load(name: &str) -> Self {
        let input = Path::new(GOLDEN).join(name).join("input.yaml");
        assert!(input.is_file(), "{}", input.display());
        let loaded = weft_source::load(&[input]);
        let mut compiler = Compiler::new(Settings::default());
        let delta = compiler.apply(loaded.world.objects().cloned().map(Change::Upsert));
        let trust = TRUST.get_or_init(|| Arc::new(trust())).clone();
        Self {
            name: name.to_owned(),
            wire: Offline::new(Arc::new(compiler.snapshot().clone()), trust),
            keys: delta.changed,
        }
    }

    /// The names of all resources, `Address` at the ports that somebody has.
    pub fn resources(&self) -> Vec<(Kind, String)> {
        let mut all: Vec<_> = self.keys.iter().flat_map(|key| self.names(key)).collect();
        all.push((Kind::MeshConfig, "default".to_owned()));
        all
    }

    fn names(&self, key: &ResourceKey) -> Vec<(Kind, String)> {
        match key {
            ResourceKey::Address(ip) => {
                let at = PORTS.map(|port| SocketAddr::new(*ip, port).to_string());
                let mut names: Vec<_> = at.into_iter().map(|name| (Kind::Address, name)).collect();
                names.retain(|(kind, name)| self.wire.resource(*kind, name).is_some());
                names
            }
            ResourceKey::Host { .. } | ResourceKey::MeshConfig => Vec::new(),
            ResourceKey::Service {
                namespace,
                name,
                from,
            } => {
                let from = from.as_deref().unwrap_or("shop");
                vec![(Kind::Service, format!("{namespace}/{name}?from={from}"))]
            }
            ResourceKey::Endpoints {
                namespace,
                name,
                bucket,
            } => {
                vec![(Kind::Endpoints, format!("{namespace}/{name}/{bucket}"))]
            }
            ResourceKey::Inbound { namespace, pod } => {
                vec![(Kind::Inbound, format!("{namespace}/{pod}"))]
            }
            ResourceKey::Authorization { namespace, name } => {
                vec![(Kind::Authorization, format!("{namespace}/{name}"))]
            }
        }
    }

    fn of_kind(&self, wanted: Kind) -> impl Iterator<Item = String> {
        let all = self.resources().into_iter();
        all.filter(move |(kind, _)| *kind == wanted)
            .map(|(_, name)| name)
    }

    /// The pods of the mesh, `namespace/name`.
    pub fn pods(&self) -> Vec<String> {
        self.of_kind(Kind::Inbound).collect()
    }

    /// All addresses that lead somewhere.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.of_kind(Kind::Address)
            .map(|name| name.parse().unwrap())
            .collect()
    }

    /// The store of a pod's proxy that was asked for `addresses` and was told all that it asked for in turn. Nothing may be refused.
    pub fn proxy(&self, name: &str, addresses: &[SocketAddr]) -> Arc<Store> {
        let (store, mut proxy) = proxy::Offline::new(pod(name));
        for address in addresses {
            proxy.want(*address);
        }
        let mut told = BTreeSet::new();
        loop {
            let mut asked = proxy.desired();
            asked.retain(|name| told.insert(name.clone()));
            if asked.is_empty() {
                return store;
            }
            for (kind, name) in asked {
                let here = Kind::from_type_url(kind.type_url()).unwrap();
                let said = self.wire.resource(here, &name).and_then(body);
                let outcome = proxy.apply(kind, &name, said);
                assert_eq!(outcome, Ok(()), "{}", self.name);
            }
        }
    }
}
