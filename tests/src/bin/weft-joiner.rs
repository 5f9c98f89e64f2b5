//! Speaks to the control plane as a proxy does, or as one that lies. Prints one JSON object: what it
//! got, or `code` and `message` of the refusal.
//!
//! `issue CLAIM IDENTITY [TOKEN]` asks for a certificate of `IDENTITY` as the pod `CLAIM`
//! (`namespace/name`); `issue-again CLAIM IDENTITY` shows the pod's own certificate instead of a
//! token; `stream CLAIM TYPE-URL NAME` opens a stream with it and subscribes to one resource.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use weft_certs::{
    IdentityStore, KeyExchange, MeshTls, PrivateKey, SystemClock, TrustBundle, TrustStore,
    WorkloadIdentity, peer_name,
};
use weft_identity::{SpiffeId, TrustDomain};
use weft_proto::ca::IssueRequest;
use weft_proto::ca::certificate_service_client::CertificateServiceClient;
use weft_proto::discovery::DeltaDiscoveryRequest;
use weft_proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use weft_proto::envoy::config::core::v3::Node;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Where the control plane of a local mesh is, unless WEFT_JOINER_CONTROL_PLANE says otherwise.
const CONTROL_PLANE: &str = "10.244.0.1:15010";
/// Where a pod has its proxy's things, unless WEFT_JOINER_POD says otherwise.
const POD: &str = "/run/weft";
/// An answer takes less.
const LIMIT: Duration = Duration::from_secs(20);

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
            ["stream", claim, type_url, name] => {
                subscribe(channel(true).await?, claim, type_url, name).await
            }
            _ => Err("what is to be done?".into()),
        }
    };
    let report = match tokio::time::timeout(LIMIT, work).await? {
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

/// A connection with the trust of the pod; with its certificate, if `proven`.
async fn channel(proven: bool) -> Result<Channel, Fault> {
    let domain = TrustDomain::default();
    let setting = |name: &str, usual: &str| std::env::var(name).unwrap_or(usual.to_owned());
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
    let (namespace, pod) = claim.split_once('/').ok_or("claim NAMESPACE/POD")?;
    let csr = PrivateKey::generate()?.csr(&id.parse::<SpiffeId>()?)?;
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
    let issued = service.issue(request).await?.into_inner();
    Ok(json!({ "issued": issued.chain.len() }))
}

async fn subscribe(
    channel: Channel,
    claim: &str,
    type_url: &str,
    name: &str,
) -> Result<Value, Fault> {
    let first = DeltaDiscoveryRequest {
        node: Some(Node {
            id: claim.to_owned(),
            ..Node::default()
        }),
        type_url: type_url.to_owned(),
        resource_names_subscribe: vec![name.to_owned()],
        ..DeltaDiscoveryRequest::default()
    };
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
