//! Who is believed to be a pod: at first contact by its token, then by its certificate, and never for
//! another pod. Each test has an API server to itself.

use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use weft_proto::type_url;
use weft_tests::cluster::Trial;
use weft_tests::cluster_test;
use weft_tests::fixture::program;
use weft_tests::runner::Test;

use crate::replicas::{Replica, Setting};

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(independent only_a_pods_own_token_is_believed),
        cluster_test!(independent an_expired_token_is_refused_and_a_fresh_one_taken),
        cluster_test!(independent the_name_of_another_pod_of_the_account_is_no_use),
        cluster_test!(independent a_clock_five_minutes_off_does_no_harm),
    ]
}

const ID: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// A replica, and the pods `web-1`, which is this test, and `web-2` of the same account.
async fn with_pods() -> anyhow::Result<(Setting, Replica)> {
    let setting = Setting::new().await?;
    let replica = setting.start("first")?;
    pods(&setting).await?;
    replica.says("/readyz", "ready").await?;
    setting.trust(1).await?;
    Ok((setting, replica))
}

async fn pods(setting: &Setting) -> anyhow::Result<()> {
    let shop = setting.kubectl.in_namespace("shop");
    shop.text(&["create", "serviceaccount", "web"]).await?;
    setting.pod("web-1", "127.0.0.1").await?;
    setting.pod("web-2", "127.0.0.2").await
}

/// The token as it would be once it has expired: with other times, and signed like it.
async fn expired(setting: &Setting, token: &str) -> anyhow::Result<String> {
    let mut parts = token.split('.');
    let (Some(head), Some(claims)) = (parts.next(), parts.next()) else {
        anyhow::bail!("no token: {token}");
    };
    let mut claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    for (claim, ago) in [("iat", 1200), ("nbf", 1200), ("exp", 600)] {
        claims[claim] = json!(now - ago);
    }
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(setting.dir().join("account.key"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = openssl.stdin.take().context("no standard input")?;
    input.write_all(signed.as_bytes()).await?;
    drop(input);
    let signature = openssl.wait_with_output().await?.stdout;
    let signature = URL_SAFE_NO_PAD.encode(fixed(&signature)?);
    Ok(format!("{signed}.{signature}"))
}

/// An ECDSA signature as two numbers of 32 bytes; DER has them with their lengths, and without
/// leading zeros but for one that keeps a number positive.
fn fixed(der: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut rest = der.get(2..).context("no signature")?;
    let mut fixed = Vec::new();
    for _ in 0..2 {
        let length = usize::from(*rest.get(1).context("no length")?);
        let number = rest.get(2..2 + length).context("it is cut off")?;
        let digits = number.iter().position(|byte| *byte != 0).unwrap_or(length);
        let number = &number[digits..];
        fixed.extend(std::iter::repeat_n(0, 32 - number.len()));
        fixed.extend_from_slice(number);
        rest = &rest[2 + length..];
    }
    Ok(fixed)
}

async fn an_expired_token_is_refused_and_a_fresh_one_taken(_: &Trial) -> anyhow::Result<()> {
    let (setting, replica) = with_pods().await?;
    let fresh = setting.token("weft", Some("web-1")).await?;
    let stale = expired(&setting, &fresh).await?;
    let args = ["issue", "shop/web-1", ID, &stale];
    let answer = setting.join(&replica, &args).await?;
    anyhow::ensure!(
        answer.contains("Unauthenticated") && answer.contains("expired"),
        "{answer}"
    );
    let args = ["issue", "shop/web-1", ID, &fresh];
    let answer = setting.join(&replica, &args).await?;
    anyhow::ensure!(answer.contains("issued"), "{answer}");
    Ok(())
}

/// It has the account's certificate, and yet is nobody but itself.
async fn the_name_of_another_pod_of_the_account_is_no_use(_: &Trial) -> anyhow::Result<()> {
    let (setting, replica) = with_pods().await?;
    let token = setting.token("weft", Some("web-1")).await?;
    let join = async |args: &[&str]| setting.join(&replica, args).await;
    let joined = join(&["join", "shop/web-1", ID, &token]).await?;
    anyhow::ensure!(joined.contains("joined"), "{joined}");
    let stream = ["stream", "shop/web-1", type_url::INBOUND, "shop/web-1"];
    let own = join(&stream).await?;
    anyhow::ensure!(own.contains("\"found\":1"), "{own}");

    let other = "spiffe://cluster.local/ns/shop/sa/admin";
    let address = "no address of pod shop/web-2";
    let refused: [(&[&str], &str); 4] = [
        (
            &["stream", "shop/web-2", type_url::INBOUND, "shop/web-2"],
            address,
        ),
        (&["issue-again", "shop/web-2", ID], address),
        (&["issue-again", "shop/web-1", other], "PermissionDenied"),
        (
            &["stream", "shop/web-3", type_url::INBOUND, "shop/web-3"],
            "no pod shop/web-3",
        ),
    ];
    for (args, why) in refused {
        let answer = join(args).await?;
        anyhow::ensure!(answer.contains(why), "{args:?}: {answer}");
    }
    // What is another's is answered as if it were not there.
    let answer = join(&["stream", "shop/web-1", type_url::INBOUND, "shop/web-2"]).await?;
    anyhow::ensure!(answer.contains("\"found\":0"), "{answer}");
    let own = join(&stream).await?;
    anyhow::ensure!(own.contains("\"found\":1"), "{own}");
    Ok(())
}

async fn only_a_pods_own_token_is_believed(_: &Trial) -> anyhow::Result<()> {
    let (setting, replica) = with_pods().await?;
    let shop = setting.kubectl.in_namespace("shop");
    let token = async |audience: &str, pod: Option<&str>| setting.token(audience, pod).await;
    let issue = async |pod: &str, token: String| {
        let claim = format!("shop/{pod}");
        setting.join(&replica, &["issue", &claim, ID, &token]).await
    };
    let own = issue("web-1", token("weft", Some("web-1")).await?).await?;
    anyhow::ensure!(own.contains("issued"), "{own}");
    let refused = [
        (
            "web-1",
            token("api", Some("web-1")).await?,
            "Unauthenticated",
        ),
        ("web-1", "forged".to_owned(), "Unauthenticated"),
        ("web-1", token("weft", None).await?, "bound to no pod"),
        (
            "web-1",
            token("weft", Some("web-2")).await?,
            "bound to pod shop/web-2",
        ),
        (
            "web-2",
            token("weft", Some("web-2")).await?,
            "no address of pod shop/web-2",
        ),
    ];
    for (pod, token, why) in refused {
        let answer = issue(pod, token).await?;
        anyhow::ensure!(answer.contains(why), "{why}: {answer}");
    }
    // The token of a pod that is gone is no good for its successor of the same name.
    let former = token("weft", Some("web-1")).await?;
    shop.delete("pod", "web-1").await?;
    let answer = issue("web-1", former).await?;
    anyhow::ensure!(answer.contains("Unauthenticated"), "{answer}");
    Ok(())
}

/// Whichever of two is wrong: a pod with the right time is served by both, before and after the
/// wrong one made the root.
async fn a_clock_five_minutes_off_does_no_harm(_: &Trial) -> anyhow::Result<()> {
    for seconds in [300, -300] {
        let setting = Setting::new().await?;
        pods(&setting).await?;
        let wrong = setting.start_at("first", seconds)?;
        setting.led_by("first").await?;
        let right = setting.start("second")?;
        setting.trust(1).await?;
        for replica in [&wrong, &right] {
            let issuing = "weft_control_plane_issuing 1";
            replica.says("/metrics", issuing).await?;
            replica.says("/readyz", "ready").await?;
        }
        for (first, then) in [(&wrong, &right), (&right, &wrong)] {
            let token = setting.token("weft", Some("web-1")).await?;
            let args = ["join", "shop/web-1", ID, &token];
            let joined = setting.join(first, &args).await?;
            anyhow::ensure!(joined.contains("joined"), "{seconds}: {joined}");
            for replica in [first, then] {
                let args = ["stream", "shop/web-1", type_url::INBOUND, "shop/web-1"];
                let stream = setting.join(replica, &args).await?;
                anyhow::ensure!(stream.contains("\"found\":1"), "{seconds}: {stream}");
                let args = ["issue-again", "shop/web-1", ID];
                let renewed = setting.join(replica, &args).await?;
                anyhow::ensure!(renewed.contains("issued"), "{seconds}: {renewed}");
            }
        }
    }
    // What is shipped knows nothing of such a clock.
    let shipped = program("weft-control-plane")?;
    let found = Command::new("grep")
        .args(["-c", "WEFT_TEST_CLOCK", &shipped])
        .output()
        .await?;
    anyhow::ensure!(found.stdout.trim_ascii() == b"0", "{found:?}");
    Ok(())
}
