//! Who gets a certificate, and who does not.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic::Code;
use weft_certs::PrivateKey;

use super::harness::{OBJECTS, Running, identity};

fn csr(account: &str) -> Vec<u8> {
    let key = PrivateKey::generate().unwrap();
    key.csr(&identity(account)).unwrap().to_vec()
}

#[tokio::test]
async fn a_token_gets_its_pod_one_certificate_and_the_certificate_gets_the_next() {
    let running = Running::start(OBJECTS).await;
    let client = running.client();
    let token = running.token("web-1", 60);
    client.join("web-1", "web", Some(&token)).await.unwrap();
    let first = client.identity.current().unwrap();
    assert_eq!(*first.chain().id(), identity("web"));

    let stranger = running.client();
    let again = stranger
        .issue("web-1", csr("web"), Some(&token))
        .await
        .unwrap_err();
    assert_eq!(again.code(), Code::Unauthenticated);
    assert!(again.message().contains("used already"), "{again}");

    client.join("web-1", "web", None).await.unwrap();
    let second = client.identity.current().unwrap();
    assert_ne!(first.chain().serial(), second.chain().serial());
    running.stop().await;
}

/// Killed after the token was used and before the answer arrived.
#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let running = Running::start(OBJECTS).await;
    let token = running.token("web-1", 60);
    let asked = csr("web");
    let lost = running.client();
    let answer = lost.issue("web-1", asked.clone(), Some(&token)).await;
    drop(answer.unwrap());

    let running = running.restart().await;
    let client = running.client();
    let other = client.issue("web-1", csr("web"), Some(&token)).await;
    let other = other.unwrap_err();
    assert_eq!(other.code(), Code::Unauthenticated);
    assert!(other.message().contains("another key"), "{other}");
    let again = client.issue("web-1", asked, Some(&token)).await.unwrap();
    assert!(!again.chain.is_empty());
    running.stop().await;
}

#[tokio::test]
async fn every_part_of_a_claim_must_hold() {
    let running = Running::start(OBJECTS).await;
    let client = running.client();
    let refused = async |pod: &str, account: &str, token: Option<String>| {
        let issued = client.issue(pod, csr(account), token.as_deref()).await;
        let status = issued.unwrap_err();
        (status.code(), status.message().to_owned())
    };

    let (code, message) = refused("web-1", "web", Some(running.token("web-1", -1))).await;
    assert_eq!(code, Code::Unauthenticated);
    assert!(message.contains("expired"), "{message}");

    let (code, message) = refused("web-1", "web", Some(running.token("elsewhere", 60))).await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(message.contains("another pod"), "{message}");

    let (code, message) = refused("web-1", "web", Some("guessed".into())).await;
    assert_eq!(code, Code::Unauthenticated);
    assert!(message.contains("not known"), "{message}");

    let (code, message) = refused("web-1", "web", None).await;
    assert_eq!(code, Code::Unauthenticated);
    assert!(message.contains("join token"), "{message}");

    let (code, message) = refused("elsewhere", "web", Some(running.token("elsewhere", 60))).await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(
        message.contains("no address of pod shop/elsewhere"),
        "{message}"
    );

    let (code, message) = refused("nobody", "web", Some(running.token("nobody", 60))).await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(message.contains("no pod shop/nobody"), "{message}");

    let (code, message) = refused("web-1", "admin", Some(running.token("web-1", 60))).await;
    assert_eq!(code, Code::PermissionDenied);
    assert!(message.contains("sa/admin"), "{message}");

    let token = running.token("web-1", 60);
    let garbage = client
        .issue("web-1", b"no request".to_vec(), Some(&token))
        .await;
    assert_eq!(garbage.unwrap_err().code(), Code::InvalidArgument);
    // What was refused has not used its token up.
    client.join("web-1", "web", Some(&token)).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_certificate_is_no_way_to_another_pods() {
    let objects = OBJECTS.replace("serviceAccountName: web, containers: [{name: a, ports: [{containerPort: 8080}]}]}\nstatus: {podIP: 127.0.0.9, podIPs: [{ip: 127.0.0.9}]", "serviceAccountName: db, containers: [{name: a, ports: [{containerPort: 8080}]}]}\nstatus: {podIP: 127.0.0.1, podIPs: [{ip: 127.0.0.1}]");
    assert_ne!(objects, OBJECTS);
    let running = Running::start(&objects).await;
    let client = running.joined().await;
    let refused = client
        .issue("elsewhere", csr("db"), None)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("sa/web"), "{refused}");
    running.stop().await;
}

#[tokio::test]
async fn garbage_on_the_port_disturbs_nobody() {
    let running = Running::start(OBJECTS).await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0xff, 0xff, 1],
        &[0; 4096],
    ] {
        let mut stream = TcpStream::connect(running.grpc()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
    }
    running.joined().await;
    running.stop().await;
}
