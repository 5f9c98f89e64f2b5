//! Accepting mutual TLS: admission, handshake, who it is, which parser, how long.

use std::time::SystemTime;

use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use weft_certs::{Leaf, PeerRole};
use weft_proxy_telemetry::Flag;

use crate::connector::Alpn;
use crate::drain::Drain;
use crate::io::{Io, Tcp};
use crate::vanished;
use crate::worker::{Refusal, Worker};

/// A peer that has proven who it is.
pub(crate) struct Proven {
    pub(crate) io: Io,
    pub(crate) leaf: Leaf,
    pub(crate) alpn: Alpn,
    pub(crate) drain: Drain,
}

impl<S> Worker<S> {
    /// The server's side of a handshake, within the limits on handshakes.
    pub(crate) async fn accept_mutual_tls(&self, tcp: Tcp) -> Result<Proven, Refusal> {
        let own = self.tls.identity().current();
        if own.is_none_or(|own| own.chain().not_after() <= SystemTime::now()) {
            let reason = "this workload has no valid certificate";
            return Err(Refusal::new(Flag::NotReady, reason));
        }
        let waiting = self.handshakes_waiting.get();
        if waiting >= self.limits.handshakes && self.handshakes.available_permits() == 0 {
            let reason = "too many TLS handshakes at once";
            return Err(Refusal::new(Flag::Overloaded, reason));
        }
        timeout(self.limits.handshake_timeout, self.handshake(tcp))
            .await
            .unwrap_or_else(|_| {
                let reason = "the TLS handshake took too long";
                Err(Refusal::new(Flag::HandshakeFailed, reason))
            })
    }

    async fn handshake(&self, tcp: Tcp) -> Result<Proven, Refusal> {
        let failed =
            |reason: &dyn ToString| Refusal::new(Flag::HandshakeFailed, reason.to_string());
        let admitted = {
            let _waiting = Waiting::new(&self.handshakes_waiting);
            self.handshakes.acquire().await
        };
        let stream = TlsAcceptor::from(self.server_config.clone())
            .accept(tcp.for_tls())
            .await
            .map_err(|error| failed(&error))?;
        drop(admitted);
        let session = stream.get_ref().1;
        let leaf = self
            .tls
            .client_of(session)
            .map_err(|error| failed(&error))?
            .ok_or_else(|| failed(&"the peer showed no certificate"))?;
        let alpn = session
            .alpn_protocol()
            .and_then(Alpn::parse)
            .ok_or_else(|| failed(&"the peer did not say what it speaks"))?;
        if alpn == Alpn::H2 {
            vanished::always_reads(stream.get_ref().0.socket(), self.limits.keepalive);
        }
        let chain = session.peer_certificates().unwrap_or_default();
        let life = self.standing.enter(&leaf, chain, PeerRole::Client);
        Ok(Proven {
            io: Io::Tls(Box::new(stream.into())),
            leaf,
            alpn,
            drain: self.leaving.drain().with_life(life),
        })
    }
}

/// Counts one handshake as waiting for admission.
struct Waiting<'a>(&'a std::cell::Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a std::cell::Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
