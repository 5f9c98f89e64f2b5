//! Certificates for the peers: a CA made for one run, leaves with one SPIFFE ID each, as Weft's
//! own workloads have them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use weft_certs::{
    AuthoritySettings, CertificateAuthority, Csr, PRIVATE, PUBLIC, PrivateKey, write_atomic,
};
use weft_identity::{SpiffeId, TrustDomain};

/// The CA of one run and where its files are.
#[derive(Debug)]
pub struct Issuer {
    authority: CertificateAuthority,
    directory: PathBuf,
    /// PEM file with the root.
    pub root: PathBuf,
}

/// One peer's identity in files.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The SPIFFE ID.
    pub id: SpiffeId,
    /// PEM file with the chain.
    pub chain: PathBuf,
    /// PEM file with the key.
    pub key: PathBuf,
    /// PEM file with both, as HAProxy wants it.
    pub pair: PathBuf,
}

impl Issuer {
    /// A new CA with its files in `directory`.
    pub fn new(directory: &Path) -> anyhow::Result<Self> {
        let state = directory.join("ca");
        std::fs::create_dir_all(&state)?;
        let settings = AuthoritySettings::new(TrustDomain::default());
        let authority = CertificateAuthority::open(&state, settings, SystemTime::now())?;
        let root = directory.join("ca.pem");
        // The bundle's headers name the trust domain; programs that read plain PEM pass over them.
        write_atomic(&root, authority.bundle().to_pem().as_bytes(), PUBLIC)?;
        Ok(Self {
            authority,
            directory: directory.to_owned(),
            root,
        })
    }

    /// A key and a certificate for the service account `account` in namespace `bench`.
    pub fn issue(&self, account: &str) -> anyhow::Result<Credentials> {
        let id = SpiffeId::new(self.authority.trust_domain(), "bench", account)?;
        let key = PrivateKey::generate()?;
        let request = Csr::verify(&key.csr(&id)?, &id)?;
        let settings = AuthoritySettings::new(self.authority.trust_domain().clone());
        let chain = self
            .authority
            .issue(&request, settings.leaf_lifetime, SystemTime::now())?;
        let file = |suffix: &str| self.directory.join(format!("{account}{suffix}"));
        let credentials = Credentials {
            id,
            chain: file(".pem"),
            key: file("-key.pem"),
            pair: file("-pair.pem"),
        };
        write_atomic(&credentials.chain, chain.to_pem().as_bytes(), PUBLIC)?;
        key.save(&credentials.key)?;
        let pair = format!("{}{}", chain.to_pem(), key.to_pem());
        write_atomic(&credentials.pair, pair.as_bytes(), PRIVATE).context("writing a pair")?;
        Ok(credentials)
    }
}
