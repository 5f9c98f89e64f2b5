//! `CertificateService`: who proves to be a pod gets a certificate for its identity.
//!
//! claim → proof (a token at first contact, then the certificate of the connection) → the pod in the
//! world, at the peer's address → CSR for exactly its identity → chain and trust anchors.

mod address_budget;
mod bearer;
mod first_contact;
mod join;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use weft_certs::{Csr, CsrError};
use weft_identity::{PodRef, SpiffeId};
use weft_proto::ca::certificate_service_server::CertificateService;
use weft_proto::ca::{IssueRequest, IssueResponse};
use weft_xds::Peer;

use crate::authority::{Authority, wire_bundle};
use crate::kubernetes::token_review::TokenPod;
use crate::mesh::{Mesh, PodFacts};
use address_budget::AddressBudget;
use first_contact::Introduction;

pub(crate) use first_contact::FirstContact;
pub(crate) use join::JoinRecords;

/// Requests that are worked on at once; the others are told to come back.
const AT_ONCE: usize = 64;
/// A pod's proxy may be faster than the source that tells of the pod.
const POD_APPEARS: Duration = Duration::from_secs(2);

pub(crate) struct Certificates {
    authority: Arc<Authority>,
    mesh: Arc<Mesh>,
    ready: watch::Receiver<bool>,
    first_contact: FirstContact,
    at_once: Semaphore,
    budget: AddressBudget,
}

impl Certificates {
    /// `ready` becomes true once every source has listed.
    pub fn new(
        authority: Arc<Authority>,
        mesh: Arc<Mesh>,
        first_contact: FirstContact,
        ready: watch::Receiver<bool>,
    ) -> Self {
        Self {
            authority,
            mesh,
            ready,
            first_contact,
            at_once: Semaphore::new(AT_ONCE),
            budget: AddressBudget::default(),
        }
    }

    async fn answer(&self, request: Request<IssueRequest>) -> Result<IssueResponse, Status> {
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return Err(Status::internal("the listener did not say who the peer is"));
        };
        if !*self.ready.borrow() {
            return Err(Status::unavailable(
                "no source has been read to its end yet",
            ));
        }
        if !self.budget.spend(peer.address, Instant::now()) {
            return Err(Status::resource_exhausted(format!(
                "too many requests from {}",
                peer.address
            )));
        }
        let Ok(_permit) = self.at_once.try_acquire() else {
            return Err(Status::unavailable("busy; try again shortly"));
        };
        let claim = request.get_ref();
        let pod = PodRef::new(&claim.namespace, &claim.pod)
            .map_err(|error| Status::invalid_argument(format!("the claimed pod: {error}")))?;
        let proof = self.prove(&peer, request.metadata(), &pod).await?;
        let facts = self.pod(&pod, &proof).await?;
        let identity = self.identity(&peer, &pod, &facts)?;
        if let Proof::Certificate(presented) = &proof
            && *presented != identity
        {
            return Err(Status::permission_denied(format!(
                "the certificate is for {presented}, pod {pod} is {identity}"
            )));
        }
        let csr = Csr::verify(&claim.csr, &identity).map_err(|error| csr_status(&error))?;
        if let (Proof::Token(Introduction::Join(token)), FirstContact::JoinRecords(records)) =
            (&proof, &self.first_contact)
        {
            records.bind(token, csr.public_key())?;
        }
        let chain = self.authority.issue_to(&pod, &csr).map_err(|error| {
            tracing::error!(%pod, "no certificate: {error}");
            Status::unavailable(error.to_string())
        })?;
        tracing::info!(%pod, %identity, serial = %chain.serial(), "certificate issued");
        let certificates = chain.certificates().iter();
        Ok(IssueResponse {
            chain: certificates
                .map(|certificate| certificate.to_vec())
                .collect(),
            trust_bundle: Some(wire_bundle(&self.authority.bundle())),
        })
    }

    async fn prove(
        &self,
        peer: &Peer,
        metadata: &MetadataMap,
        pod: &PodRef,
    ) -> Result<Proof, Status> {
        if let Some(identity) = &peer.identity {
            return Ok(Proof::Certificate(identity.clone()));
        }
        let now = self.authority.clock().now();
        let introduction = self.first_contact.prove(metadata, pod, now).await?;
        Ok(Proof::Token(introduction))
    }

    /// The pod as the world has it, once it does.
    async fn pod(&self, pod: &PodRef, proof: &Proof) -> Result<PodFacts, Status> {
        let mut changed = self.mesh.changed();
        let appears = async {
            loop {
                // A pod of a StatefulSet has the name of its predecessor.
                if let Some(facts) = self.mesh.pod(pod).filter(|facts| proof.fits(facts)) {
                    return facts;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(POD_APPEARS, appears).await.map_err(|_| {
            Status::permission_denied(match self.mesh.pod(pod) {
                None => format!("there is no pod {pod}"),
                Some(_) => format!(
                    "the token is for another pod than the {pod} that is there: a former one of its name, or of another service account"
                ),
            })
        })
    }

    fn identity(&self, peer: &Peer, pod: &PodRef, facts: &PodFacts) -> Result<SpiffeId, Status> {
        let address = peer.address.to_canonical();
        let mut own = facts.addresses.iter().map(IpAddr::to_canonical);
        if !peer.masqueraded && !own.any(|own| own == address) {
            return Err(Status::permission_denied(format!(
                "the connection comes from {address}, which is no address of pod {pod}"
            )));
        }
        SpiffeId::new(
            &self.mesh.trust_domain(),
            pod.namespace(),
            &facts.service_account,
        )
        .map_err(|error| Status::failed_precondition(format!("pod {pod} has no identity: {error}")))
    }
}

/// How a claim was proven.
enum Proof {
    Token(Introduction),
    Certificate(SpiffeId),
}

impl Proof {
    /// Whether the pod that is there is the one that was proven to speak, as far as that is known.
    fn fits(&self, facts: &PodFacts) -> bool {
        match self {
            Self::Token(Introduction::Pod(TokenPod {
                uid,
                service_account,
                ..
            })) => *facts.uid == **uid && *facts.service_account == **service_account,
            Self::Token(Introduction::Join(_)) | Self::Certificate(_) => true,
        }
    }
}

fn csr_status(error: &CsrError) -> Status {
    match error {
        CsrError::OtherIdentity { .. } => Status::permission_denied(error.to_string()),
        _ => Status::invalid_argument(error.to_string()),
    }
}

#[tonic::async_trait]
impl CertificateService for Certificates {
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        let claim = request.get_ref();
        let claim = format!("{:?}/{:?}", claim.namespace, claim.pod);
        match self.answer(request).await {
            Ok(response) => Ok(Response::new(response)),
            Err(status) => {
                let (code, message) = (status.code(), status.message());
                self.authority.count_refused();
                tracing::warn!(claim, ?code, "certificate refused: {message}");
                Err(status)
            }
        }
    }
}
