//! The root changes while a proxy is connected.

use weft_certs::TrustBundle;
use weft_identity::TrustDomain;
use weft_proto::mesh;
use weft_xds::Kind;

use super::harness::{OBJECTS, Running};

fn roots(bundle: &mesh::TrustBundle) -> usize {
    bundle.trust_domains[0].roots.len()
}

fn bundle(wire: &mesh::TrustBundle) -> TrustBundle {
    let domain = TrustDomain::default();
    let roots = wire.trust_domains[0].roots.iter();
    TrustBundle::from_der(roots.map(|root| (domain.clone(), root.clone().into()))).unwrap()
}

#[tokio::test]
async fn a_root_rotation_goes_from_phase_to_phase_as_proxies_confirm() {
    let running = Running::start(OBJECTS).await;
    let client = running.joined().await;
    let mut proxy = client
        .stream("shop/web-1", Kind::TrustBundle, &["default"])
        .await
        .unwrap();
    let before: mesh::TrustBundle = proxy.accepted().await.unwrap();
    assert_eq!(roots(&before), 1);

    let (status, answer) = running.admin("POST", "/v1/rotate-root").await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("announced"), "{answer}");
    let (status, _) = running.admin("POST", "/v1/rotate-root").await;
    assert_eq!(status, 409, "one at a time");

    // Old and new are trusted, and this proxy is the only one to confirm it.
    let both: mesh::TrustBundle = proxy.accepted().await.unwrap();
    assert_eq!(roots(&both), 2);
    client.trust.replace(bundle(&both));
    let phase = |name: &'static str| move |answer: &serde_json::Value| answer["phase"] == name;
    running.until("/v1/rotate-root", phase("switched")).await;

    // The new issuer signs; when this proxy has such a certificate, the old root goes.
    client.join("web-1", "web", None).await.unwrap();
    let after: mesh::TrustBundle = proxy.accepted().await.unwrap();
    assert_eq!(roots(&after), 1);
    assert_ne!(after, before);
    running.until("/v1/rotate-root", phase("stable")).await;

    // The old root is forgotten on all sides, and everything still works.
    client.trust.replace(bundle(&after));
    client.join("web-1", "web", None).await.unwrap();
    let mut again = client
        .stream("shop/web-1", Kind::TrustBundle, &["default"])
        .await
        .unwrap();
    let now: mesh::TrustBundle = again.accepted().await.unwrap();
    assert_eq!(now, after);
    let pem = std::fs::read_to_string(running.path("state/trust-bundle.pem")).unwrap();
    let for_new_pods = TrustBundle::from_pem(&pem, &TrustDomain::default()).unwrap();
    assert_eq!(for_new_pods, bundle(&after));
    running.stop().await;
}

#[tokio::test]
async fn a_phase_that_cannot_be_stored_is_not_entered() {
    let running = Running::start(OBJECTS).await;
    std::fs::remove_dir_all(running.path("state")).unwrap();
    let (status, answer) = running.admin("POST", "/v1/rotate-root").await;
    assert_eq!(status, 500, "{answer}");
    assert_eq!(running.json("/v1/rotate-root").await["phase"], "stable");
    running.stop().await;
}
