//! A small mesh to test with: a CA in a temporary directory, workloads, handshakes in memory.

mod authority;
mod csr;
mod handshake;
mod resumption;
mod rotation;
mod schedule;
mod serving;
mod store;
mod trust;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, ServerConnection};
use tempfile::TempDir;
use weft_identity::{SpiffeId, TrustDomain};

use crate::*;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Some afternoon in 2026.
pub(crate) fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::default()
}

pub(crate) fn id(namespace: &str, account: &str) -> SpiffeId {
    SpiffeId::new(&domain(), namespace, account).unwrap()
}

pub(crate) fn settings() -> AuthoritySettings {
    AuthoritySettings::new(domain())
}

/// A CA and its clock.
pub(crate) struct Mesh {
    pub directory: TempDir,
    pub authority: CertificateAuthority,
    pub clock: ManualClock,
}

impl Mesh {
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let authority = CertificateAuthority::open(directory.path(), settings(), start()).unwrap();
        Self {
            directory,
            authority,
            clock: ManualClock::new(start()),
        }
    }

    /// Begins to rotate to a new root: stored, then in force.
    pub fn begin_rotation(&mut self, now: SystemTime) -> Result<(), AuthorityError> {
        let next = self.authority.with_new_root(now)?;
        self.enter(next)?;
        Ok(())
    }

    /// Goes on with the rotation where it may; the phase entered.
    pub fn advance_rotation(
        &mut self,
        confirmed: Confirmed,
        now: SystemTime,
    ) -> Result<Option<RotationPhase>, AuthorityError> {
        let Some(next) = self.authority.advanced(confirmed, now) else {
            return Ok(None);
        };
        self.enter(next)?;
        Ok(Some(self.authority.phase()))
    }

    fn enter(&mut self, next: CertificateAuthority) -> Result<(), StateError> {
        AuthorityDirectory::new(self.directory.path()).save(&next)?;
        self.authority = next;
        Ok(())
    }

    pub fn issue(&self, id: &SpiffeId) -> Identity {
        issue(&self.authority, id, self.clock.now())
    }

    pub fn workload(&self, namespace: &str, account: &str) -> MeshTls {
        self.workload_with(namespace, account, KeyExchange::default())
    }

    pub fn workload_with(&self, namespace: &str, account: &str, group: KeyExchange) -> MeshTls {
        let identity = WorkloadIdentity::new();
        identity.set(self.issue(&id(namespace, account)));
        self.tls(identity, group)
    }

    /// A workload that has no certificate yet.
    pub fn newcomer(&self) -> MeshTls {
        self.tls(WorkloadIdentity::new(), KeyExchange::default())
    }

    fn tls(&self, identity: WorkloadIdentity, group: KeyExchange) -> MeshTls {
        let trust = Arc::new(TrustStore::new(self.authority.bundle()));
        let clock = Arc::new(self.clock.clone());
        MeshTls::new(trust, Arc::new(identity), clock, group).unwrap()
    }
}

pub(crate) fn issue(authority: &CertificateAuthority, id: &SpiffeId, now: SystemTime) -> Identity {
    let key = PrivateKey::generate().unwrap();
    let request = Csr::verify(&key.csr(id).unwrap(), id).unwrap();
    Identity::new(key, authority.issue(&request, DAY, now).unwrap()).unwrap()
}

/// A CA made by hand, for certificates that ours would not issue.
pub(crate) struct Forge {
    pub issuer: Issuer<'static, KeyPair>,
    pub root: CertificateDer<'static>,
}

impl Forge {
    pub fn new() -> Self {
        let mut params = base_params();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "forge");
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            root,
        }
    }

    pub fn bundle(&self) -> TrustBundle {
        TrustBundle::of(&domain(), [self.root.clone()]).unwrap()
    }

    /// A leaf as it should be, after `change`.
    pub fn leaf(&self, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        self.leaf_with_key(change).0
    }

    pub fn leaf_with_key(
        &self,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, KeyPair) {
        let mut params = leaf_params();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (leaf.der().clone(), key)
    }
}

pub(crate) fn leaf_params() -> CertificateParams {
    let mut params = base_params();
    params.subject_alt_names = vec![uri(id("shop", "web").as_str())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    params
}

fn base_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = (start() - HOUR).into();
    params.not_after = (start() + DAY).into();
    params
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub(crate) struct Connected {
    pub client: ClientConnection,
    pub server: ServerConnection,
}

/// Shakes hands in memory, both ways until nothing is left to say; with the first error of either
/// side.
pub(crate) fn handshake(
    client: &MeshTls,
    server: &std::sync::Arc<rustls::ServerConfig>,
    name: ServerName<'static>,
) -> Result<Connected, rustls::Error> {
    let config = client.client_config(&[b"weft/h2"]);
    let mut client = ClientConnection::new(config, name)?;
    let mut server = ServerConnection::new(server.clone())?;
    exchange(&mut client, &mut server)?;
    Ok(Connected { client, server })
}

pub(crate) fn exchange(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> Result<(), rustls::Error> {
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

/// Where the server of a test listens, as far as a client's sessions are concerned.
pub(crate) fn address() -> std::net::SocketAddr {
    "10.1.2.3:8080".parse().unwrap()
}
