//! Reviews as the API server sends them, and callers who are not the API server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsConnector;
use weft_certs::{Clock, ManualClock, ServingRotation, SystemClock};
use weft_inject::InjectSettings;
use weft_inject::names::LOG;

use super::certificate::{dns_names, keep_current};
use super::review::{Injector, Matched};
use super::server::serve;

const NAME: &str = "weft-control-plane.weft-system.svc";

fn injector() -> Injector {
    let annotations = BTreeMap::from([(LOG.to_owned(), "debug".to_owned())]);
    let namespaces = BTreeMap::from([("shop".to_owned(), annotations)]);
    Injector::new(
        InjectSettings::default(),
        watch::channel(Arc::new(namespaces)).1,
    )
}

fn review(pod: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "4a1e",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "object": pod,
        },
    })
}

fn pod() -> Value {
    json!({"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "web"}]}})
}

fn answer(matched: Matched, review: &Value) -> Value {
    let body = review.to_string();
    injector().answer(matched, body.as_bytes()).unwrap()["response"].clone()
}

#[test]
fn a_pod_of_the_mesh_is_patched_with_its_namespaces_defaults() {
    let answer = answer(Matched::Namespace, &review(pod()));
    assert_eq!(
        (&answer["uid"], &answer["allowed"], &answer["patchType"]),
        (&json!("4a1e"), &json!(true), &json!("JSONPatch"))
    );
    let patch = STANDARD.decode(answer["patch"].as_str().unwrap()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    let added = patch.as_array().unwrap().iter();
    let mut containers = added.filter(|one| one["path"] == "/spec/initContainers");
    let proxy = &containers.next().unwrap()["value"][1];
    let log = json!({"name": "WEFT_LOG", "value": "debug"});
    assert!(proxy["env"].as_array().unwrap().contains(&log));
}

#[test]
fn a_pod_is_let_through_warned_of_or_refused() {
    let not_asked = answer(Matched::Pod, &review(pod()));
    assert_eq!(not_asked, json!({"allowed": true, "uid": "4a1e"}));
    let mut host = pod();
    host["spec"]["hostNetwork"] = json!(true);
    let told = answer(Matched::Namespace, &review(host.clone()));
    let warning = told["warnings"][0].as_str().unwrap();
    assert!(
        told["allowed"] == true && warning.contains("spec.hostNetwork"),
        "{told}"
    );
    host["metadata"]["labels"] = json!({"mesh.weft.dev/inject": "enabled"});
    let refused = answer(Matched::Pod, &review(host));
    let message = refused["status"]["message"].as_str().unwrap();
    assert!(
        refused["allowed"] == false && message.starts_with("spec.hostNetwork: "),
        "{refused}"
    );
}

#[test]
fn what_is_no_new_pod_is_denied_and_what_is_no_review_is_an_error() {
    for (at, value) in [
        ("/request/operation", json!("UPDATE")),
        ("/request/kind/kind", json!("Deployment")),
        ("/request/subResource", json!("exec")),
    ] {
        let mut other = review(pod());
        let (parent, last) = at.rsplit_once('/').unwrap();
        other.pointer_mut(parent).unwrap()[last] = value;
        let denied = answer(Matched::Namespace, &other);
        assert_eq!(
            (&denied["allowed"], &denied["uid"]),
            (&json!(false), &json!("4a1e")),
            "{at}"
        );
    }
    for body in [
        "",
        "{}",
        "[]",
        r#"{"apiVersion":"v1","kind":"Pod","request":null}"#,
    ] {
        assert!(
            injector().answer(Matched::Pod, body.as_bytes()).is_err(),
            "{body}"
        );
    }
    let old = review(pod())
        .to_string()
        .replace("k8s.io/v1", "k8s.io/v1beta1");
    let error = injector().answer(Matched::Pod, old.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("v1beta1"), "{error}");
}

/// The API server's side: TLS with the bundle and the Service's name.
struct Caller {
    port: u16,
    roots: Arc<RootCertStore>,
}

impl Caller {
    async fn call(&self, request: &str) -> anyhow::Result<String> {
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from(NAME)?;
        let mut stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    async fn post(&self, path: &str, content_type: &str, body: &str) -> String {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.call(&request).await.unwrap()
    }
}

fn roots(rotation: &ServingRotation) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(rotation.bundle_pem().as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    Arc::new(roots)
}

#[tokio::test]
async fn only_a_review_over_tls_gets_an_answer_and_a_new_ca_needs_no_restart() {
    let begin = || Arc::new(ServingRotation::begin(SystemClock.now()).unwrap());
    let first = begin();
    let (authority, rotation) = watch::channel(Some(Arc::clone(&first)));
    let (certificate, mut serving) = watch::channel(None);
    let names = dns_names("weft-control-plane", "weft-system");
    let keeper = tokio::spawn(keep_current(
        rotation,
        names,
        Arc::new(SystemClock),
        certificate,
    ));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(
        listener,
        serving.clone(),
        Arc::new(injector()),
        async {
            let _ = stopped.await;
        },
    ));
    serving.wait_for(Option::is_some).await.unwrap();
    let caller = Caller {
        port,
        roots: roots(&first),
    };

    let body = review(pod()).to_string();
    let json = "application/json; charset=utf-8";
    let good = caller.post("/inject/namespace", json, &body).await;
    assert!(
        good.starts_with("HTTP/1.1 200") && good.contains("JSONPatch"),
        "{good}"
    );
    for (path, content_type, body, expected) in [
        ("/inject/pod", "text/plain", body.as_str(), "415"),
        ("/inject/pod", json, "hello", "400"),
        ("/metrics", json, body.as_str(), "404"),
    ] {
        let answer = caller.post(path, content_type, body).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{path}: {answer}"
        );
    }
    let get = format!("GET /inject/pod HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\r\n");
    assert!(caller.call(&get).await.unwrap().starts_with("HTTP/1.1 405"));

    // Another CA: whoever has its bundle is served, whoever has the old one is not.
    let before = serving.borrow_and_update().clone();
    let second = begin();
    authority.send_replace(Some(Arc::clone(&second)));
    serving.changed().await.unwrap();
    assert!(!Arc::ptr_eq(
        &before.unwrap(),
        serving.borrow().as_ref().unwrap()
    ));
    assert!(caller.call(&get).await.is_err());
    let caller = Caller {
        port,
        roots: roots(&second),
    };
    assert!(caller.call(&get).await.is_ok());

    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    drop((authority, serving));
    keeper.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_replaced_at_two_thirds_of_its_life() {
    let clock = ManualClock::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let rotation = Arc::new(ServingRotation::begin(clock.now()).unwrap());
    let (_authority, rotation) = watch::channel(Some(rotation));
    let (certificate, mut serving) = watch::channel(None);
    let names = dns_names("weft-control-plane", "weft-system");
    let keeper = tokio::spawn(keep_current(
        rotation,
        names,
        Arc::new(clock.clone()),
        certificate,
    ));
    let begin = clock.now();
    let mut replaced = Vec::new();
    while replaced.len() < 3 {
        tokio::select! {
            biased;
            changed = serving.changed() => {
                changed.unwrap();
                replaced.push(clock.now().duration_since(begin).unwrap().as_secs() / 3600);
            }
            () = tokio::time::sleep(Duration::from_secs(60)) => clock.advance(Duration::from_secs(60)),
        }
    }
    keeper.abort();
    assert_eq!(replaced[0], 0);
    assert!(
        (14..=17).contains(&replaced[1]) && (28..=34).contains(&replaced[2]),
        "{replaced:?}"
    );
}
