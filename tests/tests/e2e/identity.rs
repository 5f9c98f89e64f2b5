//! Who lies to the control plane about who he is, gets nothing. The liar is root in a pod of the
//! mesh, with all that its proxy has.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weft_proto::type_url;
use weft_tests::fixture::{Fixture, TestMesh, program};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::mesh::shop_yaml;
use crate::shop;

const OWN: &str = "spiffe://cluster.local/ns/shop/sa/client";
const OTHERS: &str = "spiffe://cluster.local/ns/shop/sa/web";
const MINUTE: Duration = Duration::from_secs(60);

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(a_certificate_is_for_the_pod_that_proved_itself, strict),
        test!(a_stream_shows_what_is_its_pods, strict),
    ]
}

fn strict() -> anyhow::Result<Fixture> {
    Ok(Fixture::new()
        .file("shop.yaml", shop_yaml()?)
        .file("strict.yaml", shop::strict("shop")))
}

/// What the control plane answers to `weft-joiner` in the client's pod.
async fn join(mesh: &TestMesh, args: &[&str]) -> anyhow::Result<Value> {
    let program = program("weft-joiner")?;
    let argv = [&[program.as_str()], args].concat();
    let output = mesh.run_in("shop/client", &argv).await?;
    anyhow::ensure!(output.code == 0, "{args:?}: {}", output.err());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Writes the record of a new token for a pod, as the kubelet does.
fn token(mesh: &TestMesh, pod: &str, expires: SystemTime) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let token = format!("token-{}", now.as_nanos());
    let expires = expires.duration_since(UNIX_EPOCH)?.as_secs();
    let record = json!({"namespace": "shop", "pod": pod, "expires": expires});
    let hash = Command::new("bash")
        .args(["-c", "printf %s \"$0\" | sha256sum", &token])
        .output()?;
    let hash = String::from_utf8(hash.stdout)?;
    let name = hash.split(' ').next().unwrap_or_default();
    let records = mesh.options().run_dir.join("join");
    std::fs::write(records.join(format!("{name}.json")), record.to_string())?;
    Ok(token)
}

fn refused(answer: &Value, code: &str, why: &str) {
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(
        answer["code"] == code && message.contains(why),
        "wanted {code} {why:?}, not {answer}"
    );
}

async fn a_certificate_is_for_the_pod_that_proved_itself(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let (client, web) = (
        mesh.pod("shop", "client").await?.name,
        mesh.pod("shop", "web").await?.name,
    );
    let (own, others) = (format!("shop/{client}"), format!("shop/{web}"));
    let soon = SystemTime::now() + MINUTE;

    let expired = token(mesh, &client, SystemTime::now() - MINUTE)?;
    let answer = join(mesh, &["issue", &own, OWN, &expired]).await?;
    refused(&answer, "Unauthenticated", "expired");

    // A CSR for another identity does not even cost the token.
    let good = token(mesh, &client, soon)?;
    let answer = join(mesh, &["issue", &own, OTHERS, &good]).await?;
    refused(&answer, "PermissionDenied", OTHERS);
    let answer = join(mesh, &["issue", &own, OWN, &good]).await?;
    assert!(answer["issued"].as_u64() >= Some(1), "{answer}");
    let answer = join(mesh, &["issue", &own, OWN, &good]).await?;
    refused(&answer, "Unauthenticated", "used already");
    // So is the one that the pod was started with.
    let output = mesh
        .run_in("shop/client", &["cat", "/run/weft/token"])
        .await?;
    let answer = join(mesh, &["issue", &own, OWN, output.out().trim()]).await?;
    refused(&answer, "Unauthenticated", "used already");

    // A stolen token: shown at the wrong address, or for the wrong pod.
    let stolen = token(mesh, &web, soon)?;
    let answer = join(mesh, &["issue", &others, OTHERS, &stolen]).await?;
    refused(&answer, "PermissionDenied", "which is no address of pod");
    let answer = join(mesh, &["issue", &own, OWN, &stolen]).await?;
    refused(&answer, "PermissionDenied", "for another pod");

    // Nothing, or one's own certificate, for another pod.
    let answer = join(mesh, &["issue", &own, OWN]).await?;
    refused(&answer, "Unauthenticated", "join token");
    let answer = join(mesh, &["issue-again", &others, OTHERS]).await?;
    refused(&answer, "PermissionDenied", &web);
    let answer = join(mesh, &["issue-again", &own, OTHERS]).await?;
    refused(&answer, "PermissionDenied", OTHERS);
    let answer = join(mesh, &["issue-again", &own, OWN]).await?;
    assert!(answer["issued"].as_u64() >= Some(1), "{answer}");
    unaffected(mesh).await
}

async fn a_stream_shows_what_is_its_pods(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let (client, web) = (
        mesh.pod("shop", "client").await?.name,
        mesh.pod("shop", "web").await?.name,
    );
    let (own, others) = (format!("shop/{client}"), format!("shop/{web}"));
    let answer = join(mesh, &["stream", &others, type_url::INBOUND, &others]).await?;
    refused(&answer, "PermissionDenied", &web);
    for (type_url, name, found) in [
        (type_url::SERVICE, "shop/web?from=shop", 1),
        (type_url::SERVICE, "shop/web?from=bank", 0),
        (type_url::INBOUND, &own, 1),
        (type_url::INBOUND, &others, 0),
    ] {
        let answer = join(mesh, &["stream", &own, type_url, name]).await?;
        let got = answer["found"].as_u64().unwrap_or(0);
        assert_eq!(got, found, "{name}: {answer}");
    }
    unaffected(mesh).await
}

async fn unaffected(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.connected().await?;
    assert_eq!(mesh.status_of("shop/client", &["http://web/"]).await?, 200);
    Ok(())
}
