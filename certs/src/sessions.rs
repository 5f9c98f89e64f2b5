//! Resumption that does not outlive a change of trust.
//!
//! Server: tickets are encrypted under a key that belongs to one generation of trust and one own
//! certificate; after a change of either the old key is gone, old tickets are not read and the
//! handshake is a full one. Their lifetime ends with the server's own leaf, so that no client
//! resumes towards an expired one. (The lifetime alone is not enough: a resumed session keeps the
//! leaf of its first handshake, and would get tickets that live as long as the present one.)
//! Client: stored sessions belong to one generation of trust and one own certificate, and are
//! dropped with either. What slips between (a change during a handshake) is caught afterwards by
//! [`crate::MeshTls::server_of`] and [`crate::MeshTls::client_of`], which verify the chain of a
//! resumed handshake again.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::server::ProducesTickets;

use crate::clock::Clock;
use crate::trust::TrustStore;
use crate::workload::WorkloadIdentity;

/// A hop lives at most an hour, and so does the right to resume it.
const LONGEST_TICKET: Duration = Duration::from_secs(3600);
/// Sessions a client keeps over all endpoints, about 2 KiB each.
const CLIENT_SESSIONS: usize = 512;

/// Makes ticket keys: rustls' own, which also roll with time.
type MakeTicketer = fn() -> Result<Arc<dyn ProducesTickets>, rustls::Error>;

/// The server's ticket keys, one set per generation of trust and of its own identity.
pub(crate) struct GenerationTickets {
    trust: Arc<TrustStore>,
    identity: Arc<WorkloadIdentity>,
    clock: Arc<dyn Clock>,
    make: MakeTicketer,
    current: ArcSwap<((u64, u64), Arc<dyn ProducesTickets>)>,
}

impl GenerationTickets {
    pub(crate) fn new(
        trust: Arc<TrustStore>,
        identity: Arc<WorkloadIdentity>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, rustls::Error> {
        let make: MakeTicketer = rustls::crypto::aws_lc_rs::Ticketer::new;
        let generation = (trust.current().generation(), identity.generation());
        let first = (generation, make()?);
        Ok(Self {
            trust,
            identity,
            clock,
            make,
            current: ArcSwap::from_pointee(first),
        })
    }

    /// The keys of the present generation; none if they cannot be made, then nothing resumes.
    fn ticketer(&self) -> Option<Arc<dyn ProducesTickets>> {
        let generation = (
            self.trust.current().generation(),
            self.identity.generation(),
        );
        let current = self.current.load();
        if current.0 == generation {
            return Some(current.1.clone());
        }
        // Two threads may both get here: the last one's keys stay, the other's tickets are not
        // read again, which costs a full handshake.
        let fresh = (self.make)().ok()?;
        self.current.store(Arc::new((generation, fresh.clone())));
        Some(fresh)
    }
}

impl ProducesTickets for GenerationTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        let left = self
            .identity
            .current()
            .and_then(|identity| {
                identity
                    .chain()
                    .not_after()
                    .duration_since(self.clock.now())
                    .ok()
            })
            .unwrap_or_default();
        u32::try_from(left.min(LONGEST_TICKET).as_secs()).unwrap_or_default()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.ticketer()?.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.ticketer()?.decrypt(cipher)
    }
}

impl fmt::Debug for GenerationTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GenerationTickets")
    }
}

/// The client's sessions, of one generation of trust and of its own identity.
pub(crate) struct GenerationSessions {
    trust: Arc<TrustStore>,
    identity: Arc<WorkloadIdentity>,
    current: ArcSwap<Sessions>,
}

struct Sessions {
    generation: (u64, u64),
    cache: ClientSessionMemoryCache,
}

impl Sessions {
    fn empty(generation: (u64, u64)) -> Arc<Self> {
        Arc::new(Self {
            generation,
            cache: ClientSessionMemoryCache::new(CLIENT_SESSIONS),
        })
    }
}

impl GenerationSessions {
    pub(crate) fn new(trust: Arc<TrustStore>, identity: Arc<WorkloadIdentity>) -> Self {
        let generation = (trust.current().generation(), identity.generation());
        Self {
            trust,
            identity,
            current: ArcSwap::new(Sessions::empty(generation)),
        }
    }

    fn sessions(&self) -> Arc<Sessions> {
        let generation = (
            self.trust.current().generation(),
            self.identity.generation(),
        );
        let current = self.current.load_full();
        if current.generation == generation {
            return current;
        }
        let fresh = Sessions::empty(generation);
        self.current.store(fresh.clone());
        fresh
    }
}

impl ClientSessionStore for GenerationSessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.sessions().cache.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.sessions().cache.kx_hint(server_name)
    }

    /// Mesh hops are TLS 1.3 only: there is never one.
    fn set_tls12_session(&self, _name: ServerName<'static>, _session: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {}

    fn insert_tls13_ticket(
        &self,
        server_name: ServerName<'static>,
        ticket: Tls13ClientSessionValue,
    ) {
        self.sessions()
            .cache
            .insert_tls13_ticket(server_name, ticket);
    }

    fn take_tls13_ticket(
        &self,
        server_name: &ServerName<'static>,
    ) -> Option<Tls13ClientSessionValue> {
        self.sessions().cache.take_tls13_ticket(server_name)
    }
}

impl fmt::Debug for GenerationSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GenerationSessions")
    }
}
