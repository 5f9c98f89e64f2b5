//! The TLS of mesh hops and of the way to the control plane: TLS 1.3 only, mutual, by SPIFFE ID.
//!
//! One [`MeshTls`] per process. Its configurations read trust and identity when a handshake needs
//! them, so they are built once and kept; [`crate::peer_name`] tells a client connection whom to
//! expect. After every handshake the caller asks [`MeshTls::server_of`] or [`MeshTls::client_of`]
//! who the peer is; that is also where a resumed handshake is verified again.

use std::sync::Arc;

use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::CertificateDer;
use rustls::server::ServerConnection;
use rustls::{ClientConfig, CommonState, HandshakeKind, ServerConfig, version};
use weft_identity::SpiffeId;

use crate::clock::{Clock, TlsClock};
use crate::leaf::{Leaf, LeafError};
use crate::sessions::{GenerationSessions, GenerationTickets};
use crate::trust::{PeerError, PeerRole, TrustStore};
use crate::verifier::{ClientVerifier, ServerVerifier};
use crate::workload::WorkloadIdentity;

/// Which key exchange to offer and accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyExchange {
    /// X25519MLKEM768 first, X25519 for peers that lack it.
    #[default]
    PostQuantum,
    /// X25519 alone: for comparisons with proxies that have nothing else.
    X25519,
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Without one the handshake fails.
    Required,
    /// It may come without (first contact with the control plane); one it shows must be valid.
    Optional,
}

/// Builds configurations over one trust store and one identity. Clones share everything.
#[derive(Debug, Clone)]
pub struct MeshTls {
    trust: Arc<TrustStore>,
    identity: Arc<WorkloadIdentity>,
    clock: Arc<dyn Clock>,
    provider: Arc<CryptoProvider>,
    client: ClientConfig,
}

impl MeshTls {
    /// Sets up what all configurations share.
    ///
    /// # Errors
    /// None in practice: the provider has what TLS 1.3 needs.
    pub fn new(
        trust: Arc<TrustStore>,
        identity: Arc<WorkloadIdentity>,
        clock: Arc<dyn Clock>,
        key_exchange: KeyExchange,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(provider(key_exchange));
        let verifier =
            ServerVerifier::new(trust.clone(), provider.signature_verification_algorithms);
        let mut client =
            ClientConfig::builder_with_details(provider.clone(), Arc::new(TlsClock(clock.clone())))
                .with_protocol_versions(&[&version::TLS13])?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_client_cert_resolver(identity.clone());
        client.enable_sni = false;
        client.resumption = Resumption::store(Arc::new(GenerationSessions::new(
            trust.clone(),
            identity.clone(),
        )));
        Ok(Self {
            trust,
            identity,
            clock,
            provider,
            client,
        })
    }

    /// The client side with this ALPN, for all peers. Keep one per ALPN list.
    pub fn client_config(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = self.client.clone();
        config.alpn_protocols = owned(alpn);
        Arc::new(config)
    }

    /// The server side with these ALPNs, best first. Keep it for the life of the listener.
    ///
    /// # Errors
    /// No randomness for ticket keys.
    pub fn server_config(
        &self,
        alpn: &[&[u8]],
        client_auth: ClientAuth,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let verifier = ClientVerifier::new(
            self.trust.clone(),
            self.provider.signature_verification_algorithms,
            client_auth == ClientAuth::Required,
        );
        let clock = Arc::new(TlsClock(self.clock.clone()));
        let mut config = ServerConfig::builder_with_details(self.provider.clone(), clock)
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(self.identity.clone());
        config.alpn_protocols = owned(alpn);
        // Keys of its own: a ticket that a client without a certificate got elsewhere is none here.
        config.ticketer = Arc::new(GenerationTickets::new(
            self.trust.clone(),
            self.identity.clone(),
            self.clock.clone(),
        )?);
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }

    /// Who answered, once the handshake is done: `expected`, or an error. A resumed handshake has
    /// its chain verified against the trust of now.
    ///
    /// # Errors
    /// [`PeerError`]; the connection must then be closed and may be tried again, with a full
    /// handshake.
    pub fn server_of(
        &self,
        connection: &ClientConnection,
        expected: &SpiffeId,
    ) -> Result<Leaf, PeerError> {
        let leaf = self
            .peer(connection, PeerRole::Server)?
            .ok_or(LeafError::Missing)?;
        if leaf.id != *expected {
            return Err(PeerError::OtherIdentity { presented: leaf.id });
        }
        Ok(leaf)
    }

    /// Who called, once the handshake is done; none if it showed no certificate (only possible with
    /// [`ClientAuth::Optional`]). A resumed handshake has its chain verified against the trust of
    /// now.
    ///
    /// # Errors
    /// [`PeerError`]; the connection must then be closed.
    pub fn client_of(&self, connection: &ServerConnection) -> Result<Option<Leaf>, PeerError> {
        self.peer(connection, PeerRole::Client)
    }

    /// Verifies the chain of an open connection again, as after [`TrustStore::replace`].
    ///
    /// # Errors
    /// [`PeerError`]; what rests on that chain should be drained.
    pub fn recheck(&self, chain: &[CertificateDer<'_>], role: PeerRole) -> Result<Leaf, PeerError> {
        self.trust.current().verify(chain, role, self.clock.now())
    }

    /// The trust that the configurations read.
    pub fn trust(&self) -> &Arc<TrustStore> {
        &self.trust
    }

    /// The identity that the configurations show.
    pub fn identity(&self) -> &Arc<WorkloadIdentity> {
        &self.identity
    }

    fn peer(&self, connection: &CommonState, role: PeerRole) -> Result<Option<Leaf>, PeerError> {
        let Some(chain) = connection.peer_certificates() else {
            return Ok(None);
        };
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            return self.recheck(chain, role).map(Some);
        }
        Ok(Some(Leaf::of_chain(chain)?))
    }
}

/// aws-lc-rs with TLS 1.3 suites only. AES-128 first: as strong as the P-256 leaves, and cheaper.
fn provider(key_exchange: KeyExchange) -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: match key_exchange {
            KeyExchange::PostQuantum => vec![kx_group::X25519MLKEM768, kx_group::X25519],
            KeyExchange::X25519 => vec![kx_group::X25519],
        },
        ..default_provider()
    }
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}
