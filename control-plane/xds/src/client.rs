//! Who a stream is, and what it may see: one proxy can get nothing that is another's.

use std::net::IpAddr;

use weft_identity::{PodRef, SpiffeId};

use crate::body::InboundFacts;
use crate::kind::Kind;

/// The other end of a connection, put into the request's extensions by whoever terminated TLS.
#[derive(Clone, Debug)]
pub struct Peer {
    /// From the verified client certificate; `None` where it showed none.
    pub identity: Option<SpiffeId>,
    /// The address it connects from.
    pub address: IpAddr,
    /// The network may have put that address in place of its own: it says nothing about the peer.
    pub masqueraded: bool,
    /// When its certificate expires; a stream does not outlive it.
    pub until: Option<tokio::time::Instant>,
}

/// A proxy: what its certificate proves and the pod it claims to be.
#[derive(Clone, Debug)]
pub struct Client {
    /// Namespace and service account come from here.
    pub identity: SpiffeId,
    /// The claimed pod, in the certificate's namespace.
    pub pod: PodRef,
    /// The address it connects from.
    pub address: IpAddr,
    /// That address says nothing. A pod can then pass for another of its own namespace and service
    /// account, which gives it the identity that it has anyway, and never for one of another account.
    pub masqueraded: bool,
}

/// Why a stream is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The certificate is of another namespace.
    #[error("the certificate is for namespace {certificate}, the pod {pod} is not in it")]
    Namespace {
        /// The certificate's namespace.
        certificate: String,
        /// The claimed pod.
        pod: String,
    },
    /// No such pod, or it is not in the mesh.
    #[error("there is no pod {0} in the mesh")]
    UnknownPod(String),
    /// The pod runs under another account.
    #[error("pod {pod} runs under service account {actual}, the certificate is for {certificate}")]
    ServiceAccount {
        /// The claimed pod.
        pod: String,
        /// The account it runs under.
        actual: String,
        /// The certificate's account.
        certificate: String,
    },
    /// The pod has other addresses.
    #[error("the connection comes from {peer}, which is no address of pod {pod}")]
    Address {
        /// The claimed pod.
        pod: String,
        /// Where the connection comes from.
        peer: IpAddr,
    },
}

impl Client {
    /// Checks the claim against the pod's own `Inbound`.
    ///
    /// # Errors
    /// The first part of the claim that does not hold.
    pub fn admit(&self, inbound: Option<&InboundFacts>) -> Result<(), NotAdmitted> {
        let pod = self.pod.to_string();
        if self.pod.namespace() != self.identity.namespace() {
            return Err(NotAdmitted::Namespace {
                certificate: self.identity.namespace().to_owned(),
                pod,
            });
        }
        let Some(inbound) = inbound else {
            return Err(NotAdmitted::UnknownPod(pod));
        };
        if *inbound.service_account != *self.identity.service_account() {
            return Err(NotAdmitted::ServiceAccount {
                pod,
                actual: inbound.service_account.to_string(),
                certificate: self.identity.service_account().to_owned(),
            });
        }
        let peer = self.address.to_canonical();
        let mut own = inbound.addresses.iter().map(IpAddr::to_canonical);
        if !self.masqueraded && !own.any(|own| own == peer) {
            return Err(NotAdmitted::Address { pod, peer });
        }
        Ok(())
    }

    /// Whether the name may be shown to this client. `inbound` is that of its own pod.
    pub fn may_see(&self, kind: Kind, name: &str, inbound: Option<&InboundFacts>) -> bool {
        match kind {
            Kind::TrustBundle | Kind::MeshConfig | Kind::Endpoints | Kind::Address => true,
            Kind::Service => client_namespace(name) == Some(self.identity.namespace()),
            Kind::Inbound => self.owns_inbound(name),
            Kind::Authorization => inbound
                .is_some_and(|inbound| inbound.policies.iter().any(|policy| **policy == *name)),
        }
    }

    fn owns_inbound(&self, name: &str) -> bool {
        name.split_once('/') == Some((self.pod.namespace(), self.pod.name()))
    }
}

/// The namespace behind `?from=` of a Service's name.
pub(crate) fn client_namespace(name: &str) -> Option<&str> {
    name.split_once("?from=").map(|(_, namespace)| namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client {
            identity: "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
            pod: "shop/web-1".parse().unwrap(),
            address: "10.0.0.1".parse().unwrap(),
            masqueraded: false,
        }
    }

    fn inbound() -> InboundFacts {
        InboundFacts {
            service_account: "web".into(),
            addresses: ["10.0.0.1".parse().unwrap()].into(),
            policies: ["shop/allow".into()].into(),
            terminating: false,
        }
    }

    #[test]
    fn a_claim_must_hold_in_every_part() {
        let (client, inbound) = (client(), inbound());
        assert_eq!(client.admit(Some(&inbound)), Ok(()));
        assert!(matches!(
            client.admit(None),
            Err(NotAdmitted::UnknownPod(_))
        ));

        let mut other = client.clone();
        other.pod = "bank/web-1".parse().unwrap();
        let refusal = other.admit(Some(&inbound));
        assert!(matches!(refusal, Err(NotAdmitted::Namespace { .. })));

        let mut other = client.clone();
        other.identity = "spiffe://cluster.local/ns/shop/sa/db".parse().unwrap();
        let refusal = other.admit(Some(&inbound));
        assert!(matches!(refusal, Err(NotAdmitted::ServiceAccount { .. })));

        let mut other = client.clone();
        other.address = "10.0.0.2".parse().unwrap();
        let refusal = other.admit(Some(&inbound));
        assert!(matches!(refusal, Err(NotAdmitted::Address { .. })));
        other.masqueraded = true;
        assert_eq!(other.admit(Some(&inbound)), Ok(()));
        other.identity = "spiffe://cluster.local/ns/shop/sa/db".parse().unwrap();
        let refusal = other.admit(Some(&inbound));
        assert!(matches!(refusal, Err(NotAdmitted::ServiceAccount { .. })));

        let mut mapped = client;
        mapped.address = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(mapped.admit(Some(&inbound)), Ok(()));
    }

    #[test]
    fn nobody_sees_what_is_anothers() {
        let (client, inbound) = (client(), inbound());
        let sees = |kind, name| client.may_see(kind, name, Some(&inbound));
        assert!(sees(Kind::Service, "bank/api?from=shop"));
        assert!(!sees(Kind::Service, "bank/api?from=bank"));
        assert!(!sees(Kind::Service, "bank/api"));
        assert!(!sees(Kind::Service, "bank/api?from=shop?from=bank"));
        assert!(sees(Kind::Inbound, "shop/web-1"));
        assert!(!sees(Kind::Inbound, "shop/web-2"));
        assert!(sees(Kind::Authorization, "shop/allow"));
        assert!(!sees(Kind::Authorization, "shop/other"));
        assert!(!client.may_see(Kind::Authorization, "shop/allow", None));
        assert!(sees(Kind::Endpoints, "bank/api/0"));
    }
}
