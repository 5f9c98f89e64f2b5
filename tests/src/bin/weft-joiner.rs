//! Speaks to the control plane as a proxy does, or as one that lies. Prints one JSON object: what it
//! got, or `code` and `message` of the refusal.
//!
//! `issue CLAIM IDENTITY [TOKEN]` asks for a certificate of `IDENTITY` as the pod `CLAIM`
//! (`namespace/name`); `issue-again CLAIM IDENTITY` shows the pod's own certificate instead of a
//! token; `stream CLAIM TYPE-URL NAME` opens a stream with it and subscribes to one resource.
//!
//! `join CLAIM IDENTITY TOKEN` keeps the certificate as the pod's own. `stay CLAIM TYPE-URL NAME
//! [REASON]` keeps a stream and prints what comes, a line for each response: it confirms all of it,
//! or refuses it for this reason.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use weft_certs::{
    Identity, IdentityStore, IssuedChain, KeyExchange, MeshTls, PrivateKey, SystemClock,
    TrustBundle, TrustStore, WorkloadIdentity, peer_name,
};
use weft_identity::{SpiffeId, TrustDomain};
use weft_proto::ca::IssueRequest;
use weft_proto::ca::certificate_service_client::CertificateServiceClient;
use weft_proto::discovery::DeltaDiscoveryRequest;
use weft_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use weft_proto::envoy::config::core::v3::Node;
use weft_proto::{google, mesh};

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Where the control plane of a local mesh is, unless WEFT_JOINER_CONTROL_PLANE says otherwise.
const CONTROL_PLANE: &str = "10.244.0.1:15010";
/// Where a pod has its proxy's things, unless WEFT_JOINER_POD says otherwise.
const POD: &str = "/run/weft";
/// An answer takes less.
const LIMIT: Duration = Duration::from_secs(20);
/// Whoever stays is ended by who started it, and never stays for longer.
const LONG: Duration = Duration::from_secs(300);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let work = async {
        match words[..] {
            ["issue", claim, id] => issue(channel(false).await?, claim, id, None).await,
            ["issue", claim, id, token] => {
                issue(channel(false).await?, claim, id, Some(token)).await
            }
            ["issue-again", claim, id] => issue(channel(true).await?, claim, id, None).await,
            ["join", claim, id, token] => join(channel(false).await?, claim, id, token).await,
            ["stay", claim, type_url, name] => {
                stay(channel(true).await?, claim, type_url, name, None).await
            }
            ["stay", claim, type_url, name, reason] => {
                stay(channel(true).await?, claim, type_url, name, Some(reason)).await
            }
            ["stream", claim, type_url, name] => {
                subscribe(channel(true).await?, claim, type_url, name).await
            }
            _ => Err("what is to be done?".into()),
        }
    };
    let limit = if words.first() == Some(&"stay") {
        LONG
    } else {
        LIMIT
    };
    let report = match tokio::time::timeout(limit, work).await? {
        Ok(report) => report,
        Err(fault) => match fault.downcast_ref::<Status>() {
            Some(status) => json!({
                "code": format!("{:?}", status.code()),
                "message": status.message(),
            }),
            None => return Err(fault),
        },
    };
    println!("{report}");
    Ok(())
}

fn setting(name: &str, usual: &str) -> String {
    std::env::var(name).unwrap_or(usual.to_owned())
}

/// A connection with the trust of the pod; with its certificate, if `proven`.
async fn channel(proven: bool) -> Result<Channel, Fault> {
    let domain = TrustDomain::default();
    let pod = setting("WEFT_JOINER_POD", POD);
    let pem = std::fs::read_to_string(format!("{pod}/trust-bundle.pem"))?;
    let trust = Arc::new(TrustStore::new(TrustBundle::from_pem(&pem, &domain)?));
    let identity = Arc::new(WorkloadIdentity::new());
    if proven {
        let store = IdentityStore::new(Path::new(&format!("{pod}/state")));
        identity.set(store.load()?.ok_or("the pod has no certificate")?);
    }
    let clock = Arc::new(SystemClock);
    let tls = MeshTls::new(trust, identity, clock, KeyExchange::default())?;
    let connector = TlsConnector::from(tls.client_config(&[b"h2"]));
    let expected = SpiffeId::control_plane(&domain);
    let at = setting("WEFT_JOINER_CONTROL_PLANE", CONTROL_PLANE).parse()?;
    let connect = tower::service_fn(move |_| {
        let (connector, name) = (connector.clone(), peer_name(&expected, at));
        async move {
            let stream = TcpStream::connect(at).await?;
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    let endpoint = Endpoint::from_static("http://control-plane");
    Ok(endpoint.connect_with_connector(connect).await?)
}

async fn issue(
    channel: Channel,
    claim: &str,
    id: &str,
    token: Option<&str>,
) -> Result<Value, Fault> {
    let key = PrivateKey::generate()?;
    let chain = issued(channel, claim, id, token, &key).await?;
    Ok(json!({ "issued": chain.len() }))
}

/// As `issue`, and keeps what comes.
async fn join(channel: Channel, claim: &str, id: &str, token: &str) -> Result<Value, Fault> {
    let key = PrivateKey::generate()?;
    let chain = issued(channel, claim, id, Some(token), &key).await?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let identity = Identity::new(key, IssuedChain::new(chain)?)?;
    let state = format!("{}/state", setting("WEFT_JOINER_POD", POD));
    std::fs::create_dir_all(&state)?;
    IdentityStore::new(Path::new(&state)).save(&identity)?;
    Ok(json!({ "joined": identity.chain().serial().to_string() }))
}

async fn issued(
    channel: Channel,
    claim: &str,
    id: &str,
    token: Option<&str>,
    key: &PrivateKey,
) -> Result<Vec<Vec<u8>>, Fault> {
    let (namespace, pod) = claim.split_once('/').ok_or("claim NAMESPACE/POD")?;
    let csr = key.csr(&id.parse::<SpiffeId>()?)?;
    let mut request = Request::new(IssueRequest {
        csr: csr.to_vec(),
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
    });
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse()?;
        request.metadata_mut().insert("authorization", value);
    }
    let mut service = CertificateServiceClient::new(channel);
    Ok(service.issue(request).await?.into_inner().chain)
}

fn subscription(claim: &str, type_url: &str, name: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: claim.to_owned(),
            ..Node::default()
        }),
        type_url: type_url.to_owned(),
        resource_names_subscribe: vec![name.to_owned()],
        ..DeltaDiscoveryRequest::default()
    }
}

/// Answers every response until the stream ends.
async fn stay(
    channel: Channel,
    claim: &str,
    type_url: &str,
    name: &str,
    reason: Option<&str>,
) -> Result<Value, Fault> {
    let (answers, waiting) = mpsc::unbounded_channel();
    answers.send(subscription(claim, type_url, name))?;
    let requests = stream::unfold(waiting, |mut waiting| async move {
        waiting.recv().await.map(|next| (next, waiting))
    });
    let mut service = AggregatedDiscoveryServiceClient::new(channel);
    let opened = service.delta_aggregated_resources(requests).await?;
    let mut responses = opened.into_inner();
    while let Some(response) = responses.message().await? {
        let names: Vec<&str> = response.resources.iter().map(|r| r.name.as_str()).collect();
        println!("{}", json!({ "names": names }));
        answers.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: reason.map(|reason| refusal(&names, reason)),
            ..DeltaDiscoveryRequest::default()
        })?;
    }
    Ok(json!({ "ended": true }))
}

fn refusal(names: &[&str], reason: &str) -> google::rpc::Status {
    let detail = |name: &&str| prost_types::Any {
        type_url: weft_proto::type_url::REFUSAL.to_owned(),
        value: mesh::Refusal {
            resource: (*name).to_owned(),
            field: "ports".to_owned(),
            reason: reason.to_owned(),
        }
        .encode_to_vec(),
    };
    google::rpc::Status {
        code: 3,
        message: "refused".to_owned(),
        details: names.iter().map(detail).collect(),
    }
}

async fn subscribe(
    channel: Channel,
    claim: &str,
    type_url: &str,
    name: &str,
) -> Result<Value, Fault> {
    let first = subscription(claim, type_url, name);
    let requests = stream::iter([first]).chain(stream::pending());
    let mut service = AggregatedDiscoveryServiceClient::new(channel);
    let opened = service.delta_aggregated_resources(requests).await?;
    let mut responses = opened.into_inner();
    let response = responses.message().await?.ok_or("the stream has ended")?;
    let resources = response.resources.iter();
    let with_body = resources.clone().filter(|found| found.resource.is_some());
    Ok(json!({
        "names": resources.map(|found| &found.name).collect::<Vec<_>>(),
        "found": with_body.count(),
        "removed": response.removed_resources,
    }))
}
