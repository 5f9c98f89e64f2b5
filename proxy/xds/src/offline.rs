//! A proxy's view of the mesh without a stream: resources come in by hand, decisions come out of the store. For contract tests and
//! offline checks: what is read here is read by the very decoding and activation that a running proxy has.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use weft_certs::{TrustBundle, TrustStore};
use weft_identity::PodRef;
use weft_proxy_config::{Store, StoreLimits};

use crate::activation::Activation;
use crate::kind::Kind;
use crate::resource::{Update, Wire};
use crate::status::RefusedResource;

/// What the proxy of one pod makes of the resources that it is given.
#[derive(Debug)]
pub struct Offline {
    activation: Activation,
}

impl Offline {
    /// The proxy of a pod that knows nothing yet, and its store.
    pub fn new(pod: PodRef) -> (Arc<Store>, Self) {
        let (store, writer) = Store::new(StoreLimits::default());
        let trust = Arc::new(TrustStore::new(TrustBundle::default()));
        let activation = Activation::new(writer, trust, pod);
        (store, Self { activation })
    }

    /// Somebody wants to know what is behind an address.
    pub fn want(&mut self, address: SocketAddr) {
        self.activation.want(address);
    }

    /// All that the proxy would be subscribed to now.
    pub fn desired(&self) -> Vec<(Kind, String)> {
        let of_kind = |(kind, names): (Kind, std::collections::BTreeSet<String>)| {
            names.into_iter().map(move |name| (kind, name))
        };
        self.activation
            .desired()
            .into_iter()
            .flat_map(of_kind)
            .collect()
    }

    /// Takes in what a control plane says of a name: its version and bytes; None: there is no such thing.
    ///
    /// # Errors
    /// It cannot be read; what was in force before stays.
    pub fn apply(
        &mut self,
        kind: Kind,
        name: &str,
        body: Option<(String, Bytes)>,
    ) -> Result<(), RefusedResource> {
        let update = Update {
            name: name.to_owned(),
            body: body.map(|(version, bytes)| Wire { version, bytes }),
        };
        let mut refused = self.activation.apply(kind, vec![update], Vec::new());
        match refused.pop() {
            None => Ok(()),
            Some((name, fault)) => Err(RefusedResource {
                kind: kind.to_string(),
                name,
                field: fault.field,
                reason: fault.reason,
            }),
        }
    }
}
