//! The client against a control plane in the same process: real TLS, real certificates, the real protocol.

mod control_plane;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use weft_certs::{KeyExchange, ManualClock, MeshTls, TrustBundle, TrustStore, WorkloadIdentity};
use weft_proxy_config::{Resolution, Store, StoreLimits};

use crate::kind::Kind;
use crate::samples::{address, bucket, inbound, mesh_config, service_update, update};
use crate::{Client, Settings, StatusHandle};
use control_plane::{ControlPlane, POD, TOKEN};

const WEB: &str = "10.96.0.1:80";
/// Nothing here takes long; a test that waits this long has failed.
const LIMIT: Duration = Duration::from_secs(60);

/// A proxy's part that has to do with the control plane.
struct Proxy {
    store: Arc<Store>,
    tls: MeshTls,
    status: StatusHandle,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Proxy {
    fn start(at: SocketAddr, directory: &Path, bundle: &TrustBundle, clock: &ManualClock) -> Self {
        let trust_bundle_file = directory.join("trust-bundle.pem");
        std::fs::write(&trust_bundle_file, bundle.to_pem()).unwrap();
        let token_file = directory.join("token");
        std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
        let settings = Settings {
            control_plane: at.to_string(),
            trust_domain: Default::default(),
            pod: POD.parse().unwrap(),
            service_account: "web".into(),
            trust_bundle_file,
            token_file: Some(token_file),
            state_dir: Some(directory.join("state")),
        };
        let tls = MeshTls::new(
            Arc::new(TrustStore::new(TrustBundle::default())),
            Arc::new(WorkloadIdentity::new()),
            Arc::new(clock.clone()),
            KeyExchange::default(),
        )
        .unwrap();
        let (store, writer) = Store::new(StoreLimits::default());
        let client = Client::new(settings, writer, tls.clone(), Arc::new(clock.clone())).unwrap();
        let status = client.status();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(client.run(async move {
            let _ = stopped.await;
        }));
        Self {
            store,
            tls,
            status,
            stop,
            running,
        }
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&crate::Status) -> bool) {
        let waiting = async {
            while !holds(&self.status.load()) {
                assert!(self.status.changed().await, "the client has ended");
            }
        };
        let done = tokio::time::timeout(LIMIT, waiting).await;
        assert!(done.is_ok(), "never {what}: {:#?}", self.status.load());
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap();
    }

    fn serial(&self) -> Option<String> {
        let identity = self.tls.identity().current()?;
        Some(identity.chain().serial().to_string())
    }
}

/// A control plane that knows one service, and a proxy that has found it.
async fn settled(directory: &Path) -> (ControlPlane, ManualClock, Proxy) {
    let (control_plane, clock) = ControlPlane::start(directory).await;
    control_plane.publish(Kind::MeshConfig, update("default", "m1", &mesh_config()));
    control_plane.publish(Kind::Inbound, inbound("i1", &[]));
    control_plane.publish(Kind::Address, address("a1", WEB, "web"));
    control_plane.publish(Kind::Service, service_update("s1", "web", &[]));
    control_plane.publish(Kind::Endpoints, bucket("e1", "shop/web/0", &["10.0.0.1"]));
    let bundle = control_plane.bundle();
    let mut proxy = Proxy::start(control_plane.address(), directory, &bundle, &clock);
    proxy.until("connected", |status| status.connected).await;
    let found = proxy.store.resolve(WEB.parse().unwrap());
    let found = tokio::time::timeout(LIMIT, found).await.unwrap();
    assert!(matches!(found, Resolution::Service { .. }), "{found:?}");
    (control_plane, clock, proxy)
}

#[tokio::test]
async fn first_contact_goes_by_token_and_the_stream_by_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let (control_plane, _, mut proxy) = settled(directory.path()).await;
    proxy
        .until("in force", |status| {
            !status.unconfirmed && status.confirmed_at.is_some()
        })
        .await;
    assert_eq!(
        control_plane.log()[..2],
        ["issued by token", "stream of shop/web-1"]
    );
    assert!(proxy.store.inbound().is_some());
    assert!(proxy.store.is_connected());
    let status = proxy.status.load();
    assert_eq!(
        status.certificate.as_ref().map(|c| c.serial.clone()),
        proxy.serial()
    );
    assert!(status.subscribed.iter().any(|one| one.name == "shop/web/0"));
    assert_eq!(control_plane.refusals(), Vec::<String>::new());
    proxy.stop().await;
}

/// A join token is bound to the first key that it comes with: whatever gets lost, also over a restart of the proxy.
#[tokio::test]
async fn a_first_certificate_is_asked_for_with_one_key_until_there_is_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let (control_plane, clock) = ControlPlane::start(directory.path()).await;
    control_plane.lose_answers(true);
    let (at, bundle) = (control_plane.address(), control_plane.bundle());
    let mut proxy = Proxy::start(at, directory.path(), &bundle, &clock);
    let keys = || control_plane.keys();
    proxy.until("asking twice", |_| keys().len() >= 2).await;
    proxy.stop().await;
    control_plane.lose_answers(false);
    let mut proxy = Proxy::start(at, directory.path(), &bundle, &clock);
    proxy
        .until("certified", |status| status.certificate.is_some())
        .await;
    let keys = control_plane.keys();
    assert!(keys.len() >= 3 && keys.iter().all(|key| *key == keys[0]));
    proxy.stop().await;
}

#[tokio::test]
async fn whoever_has_enough_to_be_ready_serves_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let (control_plane, clock) = ControlPlane::start(directory.path()).await;
    control_plane.publish(Kind::MeshConfig, update("default", "m1", &mesh_config()));
    control_plane.publish(Kind::Inbound, inbound("i1", &[]));
    let bundle = control_plane.bundle();
    let proxy = Proxy::start(control_plane.address(), directory.path(), &bundle, &clock);
    let enough = async {
        while !(proxy.store.is_mesh_known() && proxy.store.inbound().is_some()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, enough).await.unwrap();
    // Killed in this very moment: it saves nothing any more.
    proxy.running.abort();
    drop(control_plane);
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let restarted = Proxy::start(nowhere, directory.path(), &bundle, &clock);
    assert!(restarted.store.is_mesh_known());
    assert!(restarted.store.inbound().is_some());
    assert!(restarted.serial().is_some());
    restarted.stop().await;
}

#[tokio::test]
async fn a_control_plane_that_is_not_the_one_gets_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let (control_plane, clock) = ControlPlane::start(directory.path()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let (other, _) = ControlPlane::start(elsewhere.path()).await;
    let bundle = other.bundle();
    let address = control_plane.address();
    let mut proxy = Proxy::start(address, directory.path(), &bundle, &clock);
    proxy
        .until("refused", |status| status.last_error.is_some())
        .await;
    assert_eq!(control_plane.log(), Vec::<String>::new());
    assert!(proxy.store.inbound().is_none() && proxy.serial().is_none());
    proxy.stop().await;
}

#[tokio::test]
async fn a_restarted_proxy_serves_without_a_control_plane() {
    let directory = tempfile::tempdir().unwrap();
    let (control_plane, clock, proxy) = settled(directory.path()).await;
    let (serial, bundle) = (proxy.serial(), control_plane.bundle());
    let at = control_plane.address();
    proxy.stop().await;
    control_plane.stop().await;

    let mut proxy = Proxy::start(at, directory.path(), &bundle, &clock);
    assert_eq!(proxy.serial(), serial);
    assert!(proxy.store.inbound().is_some() && proxy.store.is_mesh_known());
    let Some(Resolution::Service { service, .. }) = proxy.store.resolved(WEB.parse().unwrap())
    else {
        panic!("not restored");
    };
    assert_eq!(service.load().ports[0].own.load().targets().len(), 1);
    proxy
        .until("failing to connect", |status| status.last_error.is_some())
        .await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_stream_that_ends_is_resumed_with_what_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let (control_plane, _, mut proxy) = settled(directory.path()).await;
    let before = control_plane.sent();
    control_plane.end_streams();
    proxy
        .until("connected again", |status| status.connections == 2)
        .await;
    control_plane.publish(
        Kind::Endpoints,
        bucket("e2", "shop/web/0", &["10.0.0.1", "10.0.0.2"]),
    );
    let has_version = |status: &crate::Status, wanted: &str| {
        let version = |one: &crate::SubscribedResource| one.version.as_deref() == Some(wanted);
        status.subscribed.iter().any(version)
    };
    proxy
        .until("updated", |status| has_version(status, "e2"))
        .await;
    let again: Vec<_> = control_plane.sent()[before.len()..].to_vec();
    assert!(
        !again.contains(&"shop/web?from=shop".to_owned()),
        "sent again: {again:?}"
    );
    proxy.stop().await;
}

#[tokio::test]
async fn the_certificate_is_renewed_by_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let (control_plane, clock, mut proxy) = settled(directory.path()).await;
    let first = proxy.serial().unwrap();
    clock.advance(control_plane::LIFETIME.mul_f64(0.75));
    // Whatever wakes the stream finds that the renewal is due.
    control_plane.publish(Kind::Endpoints, bucket("e2", "shop/web/0", &[]));
    proxy
        .until("renewed", |status| {
            status.connections == 2
                && status
                    .certificate
                    .as_ref()
                    .is_some_and(|now| now.serial != first)
        })
        .await;
    let log = control_plane.log();
    assert!(log.contains(&"issued by certificate".to_owned()), "{log:?}");
    assert_eq!(
        log.iter().filter(|line| *line == "issued by token").count(),
        1
    );
    proxy.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_is_not_shown() {
    let directory = tempfile::tempdir().unwrap();
    let (control_plane, clock, mut proxy) = settled(directory.path()).await;
    let first = proxy.serial().unwrap();
    clock.advance(control_plane::LIFETIME * 2);
    control_plane.renew_own();
    control_plane.end_streams();
    proxy
        .until("issued anew", |status| {
            let other = |now: &crate::CertificateStatus| now.serial != first;
            status.connected && status.certificate.as_ref().is_some_and(other)
        })
        .await;
    let log = control_plane.log();
    assert_eq!(
        log.iter().filter(|line| *line == "issued by token").count(),
        2,
        "{log:?}"
    );
    proxy.stop().await;
}

#[tokio::test]
async fn a_refused_resource_is_named_to_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let (control_plane, _, mut proxy) = settled(directory.path()).await;
    let mut broken = crate::samples::service("web", &["canary"]);
    broken.ports[0].rules[0].filters = vec![Default::default()];
    control_plane.publish(Kind::Service, update("shop/web?from=shop", "s2", &broken));
    proxy
        .until("refused", |status| !status.refused.is_empty())
        .await;
    let refused = proxy.status.load().refused[0].clone();
    assert_eq!(refused.name, "shop/web?from=shop");
    assert_eq!(refused.field, "ports[0].rules[0].filters[0]");
    control_plane.until_refused("shop/web?from=shop").await;
    proxy.stop().await;
}

#[tokio::test]
async fn trust_anchors_follow_the_stream_and_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (control_plane, _, mut proxy) = settled(directory.path()).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let (other, _) = ControlPlane::start(elsewhere.path()).await;
    let both = control_plane.bundle().union(&other.bundle());
    control_plane.publish_trust("t2", &both);
    proxy
        .until("in force", |status| {
            status
                .subscribed
                .iter()
                .any(|one| one.version.as_deref() == Some("t2"))
        })
        .await;
    assert_eq!(proxy.tls.trust().current().bundle(), &both);
    let saved = std::fs::read_to_string(directory.path().join("state/trust-bundle.pem")).unwrap();
    assert_eq!(saved, both.to_pem());
    proxy.stop().await;
}
