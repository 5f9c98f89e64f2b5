//! Calls between pods of a mesh: encrypted, authenticated, routed, authorised.

use std::collections::BTreeMap;

use anyhow::Context;
use weft_local::info::{ControlPlaneOrder, SignalName};
use weft_tests::artifacts::artifacts;
use weft_tests::capture::{Capture, contains};
use weft_tests::fixture::{Fixture, LIMIT, TestMesh};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::shop;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(a_call_is_encrypted_and_carries_the_callers_identity, strict),
        test!(without_a_mesh_the_same_call_is_readable, plain),
        test!(routes_match_split_and_rewrite, routed),
        test!(policies_allow_and_deny_by_identity_and_path, guarded),
        test!(
            strict_refuses_plaintext_and_permissive_takes_it,
            half_meshed
        ),
        test!(
            a_proxy_that_never_saw_a_control_plane_lets_nothing_through,
            strict
        ),
        test!(alone a_proxy_restarted_without_a_control_plane_serves, strict),
        test!(a_saved_file_is_in_force_in_every_proxy, routed),
    ]
}

/// A namespace in the mesh with one echo service and one client.
pub fn shop_yaml() -> anyhow::Result<String> {
    Ok(shop::namespace("shop", true)
        + &shop::echo("shop", "web", "v1", 1)?
        + &shop::client("shop", "client", 1))
}

fn strict() -> anyhow::Result<Fixture> {
    Ok(Fixture::new()
        .file("shop.yaml", shop_yaml()?)
        .file("strict.yaml", shop::strict("shop")))
}

fn plain() -> anyhow::Result<Fixture> {
    let yaml = shop::namespace("shop", false)
        + &shop::echo("shop", "web", "v1", 1)?
        + &shop::client("shop", "client", 1);
    Ok(Fixture::new().file("shop.yaml", yaml))
}

const CANARIES: [&str; 3] = [
    "canary-in-the-path",
    "canary-in-a-header",
    "canary-in-the-body",
];

/// Calls with a canary in path, header and body; which of them are in the packets.
async fn canaries_on_the_bridge(mesh: &TestMesh) -> anyhow::Result<Vec<&'static str>> {
    let server = mesh.pod("shop", "web").await?;
    let client = mesh.pod("shop", "client").await?;
    let file = artifacts("captures")?.join(format!("{}.pcap", client.uid));
    let hop = format!("tcp and host {} and host {}", server.ips[0], client.ips[0]);
    let capture = Capture::start(mesh, &file, &hop).await?;
    let answer = mesh
        .echo(
            "shop/client",
            &[
                "-4",
                "-H",
                "x-canary: canary-in-a-header",
                "-d",
                "canary-in-the-body",
                &format!("http://{}:8080/canary-in-the-path", server.ips[0]),
            ],
        )
        .await?;
    assert_eq!(answer["body"], 18);
    let packets = capture.stop(server.ips[0]).await?;
    assert!(
        packets.len() > 1000,
        "the capture holds packets of the hop: {} bytes",
        packets.len()
    );
    Ok(CANARIES
        .into_iter()
        .filter(|canary| contains(&packets, canary))
        .collect())
}

async fn a_call_is_encrypted_and_carries_the_callers_identity(
    mesh: &TestMesh,
) -> anyhow::Result<()> {
    mesh.settled().await?;
    assert_eq!(canaries_on_the_bridge(mesh).await?, [""; 0]);
    let answer = mesh.echo("shop/client", &["http://web/hello?a=b"]).await?;
    assert_eq!(answer["path"], "/hello?a=b");
    assert_eq!(answer["http"], "HTTP/1.1");
    let answer = mesh
        .echo("shop/client", &["--http2-prior-knowledge", "http://web/"])
        .await?;
    assert_eq!(
        answer["http"], "HTTP/2.0",
        "the application gets what its client spoke"
    );
    let answer = mesh.echo("shop/client", &["-6", "http://web/"]).await?;
    assert_eq!(answer["version"], "v1", "IPv6 is intercepted, too");
    Ok(())
}

async fn without_a_mesh_the_same_call_is_readable(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    assert_eq!(canaries_on_the_bridge(mesh).await?, CANARIES);
    Ok(())
}

/// `web` routed to `web-v1` and `web-v2` by header, path and weight.
fn routes(weights: (u32, u32)) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop}}
spec:
  parentRefs: [{{group: '', kind: Service, name: web, port: 80}}]
  rules:
  - matches: [{{headers: [{{name: x-version, value: v2}}]}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {{set: [{{name: x-routed, value: by-header}}]}}
    backendRefs: [{{name: web-v2, port: 80}}]
  - matches: [{{path: {{type: PathPrefix, value: /old}}}}]
    filters:
    - type: URLRewrite
      urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /new}}}}
    backendRefs: [{{name: web-v1, port: 80}}]
  - matches: [{{path: {{type: Exact, value: /moved}}}}]
    filters:
    - type: RequestRedirect
      requestRedirect: {{statusCode: 302, path: {{type: ReplaceFullPath, replaceFullPath: /there}}}}
  - matches: [{{path: {{type: PathPrefix, value: /split}}}}]
    backendRefs:
    - {{name: web-v1, port: 80, weight: {}}}
    - {{name: web-v2, port: 80, weight: {}}}
",
        weights.0, weights.1
    )
}

/// Two versions behind one Service name, and a client.
pub fn two_versions() -> anyhow::Result<String> {
    Ok(shop::namespace("shop", true)
        + &shop::deployment("shop", "web-v1", "v1", 1)?
        + &shop::deployment("shop", "web-v2", "v2", 1)?
        + &shop::service("shop", "web", &[("version", "v1")])
        + &shop::service("shop", "web-v1", &[("version", "v1")])
        + &shop::service("shop", "web-v2", &[("version", "v2")]))
}

fn routed() -> anyhow::Result<Fixture> {
    let yaml = two_versions()? + &shop::client("shop", "client", 1);
    Ok(Fixture::new()
        .file("shop.yaml", yaml)
        .file("routes.yaml", routes((80, 20))))
}

async fn routes_match_split_and_rewrite(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let answer = mesh
        .echo("shop/client", &["-H", "x-version: v2", "http://web/"])
        .await?;
    assert_eq!(
        (&answer["version"], &answer["headers"]["x-routed"]),
        (&"v2".into(), &"by-header".into())
    );
    let answer = mesh.echo("shop/client", &["http://web/old/page"]).await?;
    assert_eq!(answer["path"], "/new/page");
    let moved = mesh
        .curl(
            "shop/client",
            &[
                "-o",
                "/dev/null",
                "-w",
                "%{http_code} %{redirect_url}",
                "http://web/moved",
            ],
        )
        .await?;
    assert_eq!(moved.out(), "302 http://web/there");
    assert_eq!(
        mesh.status_of("shop/client", &["http://web/nowhere"])
            .await?,
        404,
        "no route matches"
    );
    let split = split(mesh, 400).await?;
    let share = split.get("v2").copied().unwrap_or(0);
    assert!(
        (40..=130).contains(&share),
        "about a fifth of 400 goes to v2: {split:?}"
    );
    Ok(())
}

/// The answers to so many calls, by version.
async fn split(mesh: &TestMesh, count: usize) -> anyhow::Result<BTreeMap<String, usize>> {
    let command = format!("curl -sS --max-time 60 'http://web/split/[1-{count}]'");
    let output = mesh.run_in("shop/client", &["sh", "-c", &command]).await?;
    let mut split = BTreeMap::new();
    for line in output.out().lines() {
        let answer: serde_json::Value =
            serde_json::from_str(line).with_context(|| line.to_owned())?;
        *split
            .entry(answer["version"].as_str().unwrap_or("?").to_owned())
            .or_default() += 1;
    }
    Ok(split)
}

async fn a_saved_file_is_in_force_in_every_proxy(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    for weights in [(0, 100), (100, 0), (0, 100)] {
        mesh.save("routes.yaml", &routes(weights), "HTTPRoute", "shop", "web")
            .await?;
        let only = if weights.0 == 0 { "v2" } else { "v1" };
        assert_eq!(
            split(mesh, 20).await?.into_keys().collect::<Vec<_>>(),
            [only]
        );
    }
    Ok(())
}

fn guarded() -> anyhow::Result<Fixture> {
    let yaml = shop_yaml()?
        + &shop::client("shop", "stranger", 1)
        + "
---
apiVersion: mesh.weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: only-the-client, namespace: shop}
spec:
  action: ALLOW
  selector: {matchLabels: {app: web}}
  rules:
  - from: [{serviceAccounts: [client]}]
---
apiVersion: mesh.weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: shop}
spec:
  action: DENY
  selector: {matchLabels: {app: web}}
  rules:
  - to: [{paths: [/admin*]}]
";
    Ok(Fixture::new()
        .file("shop.yaml", yaml)
        .file("strict.yaml", shop::strict("shop")))
}

async fn policies_allow_and_deny_by_identity_and_path(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    assert_eq!(mesh.status_of("shop/client", &["http://web/"]).await?, 200);
    assert_eq!(
        mesh.status_of("shop/stranger", &["http://web/"]).await?,
        403
    );
    for path in [
        "/admin",
        "/admin/users",
        "/x/../admin",
        "//admin",
        "/%61dmin",
        "/./admin",
    ] {
        let url = format!("http://web{path}");
        let status = mesh
            .status_of("shop/client", &["--path-as-is", &url])
            .await?;
        assert!(status == 403 || status == 400, "{path} is {status}");
    }
    let refusal = mesh
        .curl(
            "shop/client",
            &["-o", "/dev/null", "-D", "-", "http://web/admin"],
        )
        .await?;
    let headers = refusal.out().to_ascii_lowercase();
    assert!(
        headers.contains("weft-decision: shop/no-admin#"),
        "{headers}"
    );
    // Bytes on another port of the same pod are judged, too: no rule about paths lets them in, and
    // the identity alone does.
    let greeting = |from| async move {
        let script = "exec 3<>/dev/tcp/web/9025 && timeout 5 head -c 3 <&3";
        mesh.run_in(from, &["bash", "-c", script]).await
    };
    assert_eq!(greeting("shop/stranger").await?.out(), "");
    Ok(())
}

/// A strict and a permissive service in the mesh, a client outside of it.
fn half_meshed() -> anyhow::Result<Fixture> {
    let yaml = shop_yaml()?
        + &shop::namespace("open", true)
        + &shop::echo("open", "web", "v1", 1)?
        + &shop::namespace("outside", false)
        + &shop::client("outside", "client", 1);
    Ok(Fixture::new()
        .file("shop.yaml", yaml)
        .file("strict.yaml", shop::strict("shop")))
}

async fn strict_refuses_plaintext_and_permissive_takes_it(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    assert_eq!(
        mesh.status_of("outside/client", &["http://web.open/"])
            .await?,
        200
    );
    assert_eq!(
        mesh.status_of("outside/client", &["http://web.shop/"])
            .await?,
        0
    );
    assert_eq!(
        mesh.status_of("shop/client", &["http://web.open/"]).await?,
        200
    );
    assert_eq!(
        mesh.status_of("shop/client", &["http://web.shop/"]).await?,
        200
    );
    Ok(())
}

async fn a_proxy_restarted_without_a_control_plane_serves(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    assert_eq!(mesh.status_of("shop/client", &["http://web/"]).await?, 200);
    // What is in force is on disk a moment later.
    for (name, known) in [("web", "only-in-force"), ("client", "shop/web")] {
        let known = known.replace("only-in-force", &mesh.pod("shop", name).await?.name);
        let from = format!("shop/{name}");
        let kept = async || {
            let argv = ["grep", "-q", &known, "/run/weft/state/resources"];
            Ok(mesh.run_in(&from, &argv).await?.code == 0)
        };
        mesh.until("the configuration is kept", kept).await?;
    }
    mesh.control_plane(ControlPlaneOrder::KillAndStop).await?;
    for name in ["web", "client"] {
        let pod = mesh.pod("shop", name).await?;
        mesh.signal("shop", &pod.name, "weft-proxy", SignalName::Kill)
            .await?;
        mesh.wait_for(LIMIT, "serving again", |status| {
            let same = status.pods.iter().find(|other| other.uid == pod.uid);
            same.is_some_and(|same| same.ready && same.containers["weft-proxy"].restarts > 0)
        })
        .await?;
    }
    assert_eq!(mesh.status_of("shop/client", &["http://web/"]).await?, 200);
    let status = mesh.status().await?;
    assert_eq!(
        status.control_plane_pid, None,
        "the control plane stayed away"
    );
    Ok(())
}

async fn a_proxy_that_never_saw_a_control_plane_lets_nothing_through(
    mesh: &TestMesh,
) -> anyhow::Result<()> {
    mesh.settled().await?;
    mesh.control_plane(ControlPlaneOrder::Stop).await?;
    mesh.wait_for(LIMIT, "without a control plane", |status| {
        status.control_plane_pid.is_none()
    })
    .await?;
    mesh.write("late.yaml", &shop::echo("shop", "late", "v1", 1)?)?;
    let status = mesh
        .wait_for(LIMIT, "running the late pod's proxy", |status| {
            let late = status
                .pods
                .iter()
                .find(|pod| pod.deployment.as_deref() == Some("late"));
            late.is_some_and(|late| late.containers["weft-proxy"].pid.is_some())
        })
        .await?;
    let late = status
        .pods
        .iter()
        .find(|pod| pod.deployment.as_deref() == Some("late"));
    let late = late.context("no late pod")?;
    assert!(!late.ready);
    let server = format!("http://{}:8080/", late.ips[0]);
    assert_eq!(
        mesh.status_of("shop/client", &["--max-time", "3", &server])
            .await?,
        503
    );
    let out = mesh
        .exec("shop", &late.name, &["curl", "-sS", "-m3", "http://web/"])
        .await?;
    assert!(!out.out().contains("v1"), "{}", out.out());
    mesh.control_plane(ControlPlaneOrder::Start).await?;
    mesh.settled().await?;
    assert_eq!(mesh.status_of("shop/client", &["http://late/"]).await?, 200);
    Ok(())
}
