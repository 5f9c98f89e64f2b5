//! The holes that an interception might have.

use anyhow::Context;
use weft_tests::fixture::{Fixture, TestMesh};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::mesh::shop_yaml;
use crate::shop;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(a_call_to_ones_own_service_works, strict),
        test!(the_proxys_own_ports_are_no_relay, strict),
        test!(a_server_may_speak_first, strict),
        test!(a_direct_pod_address_is_encrypted_and_authorised, strict),
        test!(a_probe_works_in_strict_mode_and_exempts_nobody, strict),
        test!(nobody_but_the_proxy_bypasses_it, strict),
        test!(a_forged_alpn_does_not_pass_an_l7_policy, l7),
    ]
}

fn strict() -> anyhow::Result<Fixture> {
    let yaml =
        shop_yaml()? + &shop::namespace("outside", false) + &shop::client("outside", "client", 1);
    Ok(Fixture::new()
        .file("shop.yaml", yaml)
        .file("strict.yaml", shop::strict("shop")))
}

async fn a_call_to_ones_own_service_works(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let pod = mesh.pod("shop", "web").await?;
    let own = format!("http://{}:8080/", pod.ips[0]);
    for url in ["http://web/", &own, "http://127.0.0.1:8080/"] {
        let answer = mesh.echo("shop/web", &[url]).await?;
        assert_eq!(answer["pod"], pod.name.as_str(), "{url}");
    }
    Ok(())
}

async fn the_proxys_own_ports_are_no_relay(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let pod = mesh.pod("shop", "web").await?;
    for port in [15001, 15006, 15000] {
        for ip in &pod.ips {
            let url = match ip {
                std::net::IpAddr::V4(ip) => format!("http://{ip}:{port}/"),
                std::net::IpAddr::V6(ip) => format!("http://[{ip}]:{port}/"),
            };
            for from in ["outside/client", "shop/client", "shop/web"] {
                let status = mesh.status_of(from, &["--max-time", "5", &url]).await?;
                assert_ne!(status, 200, "{from} got an answer at {url}");
            }
        }
    }
    // The proxies are well, and have not called themselves in circles.
    assert_eq!(mesh.status_of("shop/client", &["http://web/"]).await?, 200);
    Ok(())
}

async fn a_server_may_speak_first(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let pod = mesh.pod("shop", "web").await?;
    let script = "exec 3<>/dev/tcp/web/9025 && timeout 10 head -n 1 <&3 && echo ping >&3 && timeout 10 head -n 1 <&3";
    let output = mesh.run_in("shop/client", &["bash", "-c", script]).await?;
    assert_eq!(
        output.out(),
        format!("220 {} ready\r\nping\n", pod.name),
        "{}",
        output.err()
    );
    let script = "exec 3<>/dev/tcp/web/9000 && echo ping >&3 && timeout 10 head -n 1 <&3";
    let output = mesh.run_in("shop/client", &["bash", "-c", script]).await?;
    assert_eq!(output.out(), "ping\n", "{}", output.err());
    // Half-close is kept: what is sent before the end comes back after it.
    let script = "printf all | timeout 10 nc -N web 9000";
    let output = mesh.run_in("shop/client", &["bash", "-c", script]).await?;
    assert_eq!(output.out(), "all", "{}", output.err());
    Ok(())
}

async fn a_direct_pod_address_is_encrypted_and_authorised(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let pod = mesh.pod("shop", "web").await?;
    let url = format!("http://{}:8080/", pod.ips[0]);
    assert_eq!(
        mesh.status_of("shop/client", &[&url]).await?,
        200,
        "mTLS goes straight to it"
    );
    assert_eq!(
        mesh.status_of("outside/client", &[&url]).await?,
        0,
        "plaintext does not"
    );
    let url = format!("http://[{}]:8080/", pod.ips[1]);
    assert_eq!(mesh.status_of("shop/client", &["-g", &url]).await?, 200);
    assert_eq!(mesh.status_of("outside/client", &["-g", &url]).await?, 0);
    Ok(())
}

async fn a_probe_works_in_strict_mode_and_exempts_nobody(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let pod = mesh.pod("shop", "web").await?;
    // The pod is ready: the kubelet's readiness probe has been answered in the clear, at 15021.
    assert!(pod.containers["echo"].ready);
    let probe = format!("http://{}:15021/weft/probe/echo/readyz", pod.ips[0]);
    assert_eq!(mesh.status_of("outside/client", &[&probe]).await?, 200);
    // Its key is what the proxy was given; who asks for another is told which there are.
    let other = probe.replace("readyz", "readiness");
    let output = mesh
        .curl("outside/client", &["-w", "%{http_code}", &other])
        .await?;
    let told = "there is no probe echo/readiness, only: echo/readyz\n404";
    assert_eq!(output.out(), told);
    // The probe's own path is as closed as any other, also for the address that probes.
    let path = format!("http://{}:8080/ready", pod.ips[0]);
    assert_eq!(mesh.status_of("outside/client", &[&path]).await?, 0);
    let outer = mesh.exec_outside(&["curl", "-sS", "-m5", &path]).await?;
    assert_ne!(outer.code, 0, "{}", outer.out());
    Ok(())
}

async fn nobody_but_the_proxy_bypasses_it(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let pod = mesh.pod("shop", "client").await?;
    let rules = mesh
        .exec("shop", &pod.name, &["nft", "list", "table", "inet", "weft"])
        .await?;
    assert_eq!(rules.code, 0, "{}", rules.err());
    // Without a proxy nothing goes out and nothing comes in.
    let target = mesh.pod("shop", "web").await?;
    let stop = weft_local::info::SignalName::Stop;
    mesh.signal("shop", &pod.name, "weft-proxy", stop).await?;
    let url = format!("http://{}:8080/", target.ips[0]);
    let status = mesh
        .status_of("shop/client", &["--max-time", "3", &url])
        .await?;
    let go_on = weft_local::info::SignalName::Continue;
    mesh.signal("shop", &pod.name, "weft-proxy", go_on).await?;
    assert_eq!(status, 0);
    Ok(())
}

fn l7() -> anyhow::Result<Fixture> {
    let yaml = shop_yaml()?
        + "
---
apiVersion: mesh.weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: only-gets, namespace: shop}
spec:
  action: ALLOW
  selector: {matchLabels: {app: web}}
  rules:
  - to: [{methods: [GET], paths: [/public*]}]
";
    Ok(Fixture::new()
        .file("shop.yaml", yaml)
        .file("strict.yaml", shop::strict("shop")))
}

/// A caller with a real certificate of the mesh dials the server's proxy itself and claims bytes
/// (`weft/tcp`), to slip past a policy that looks into requests.
async fn a_forged_alpn_does_not_pass_an_l7_policy(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    assert_eq!(
        mesh.status_of("shop/client", &["http://web/public"])
            .await?,
        200
    );
    assert_eq!(
        mesh.status_of("shop/client", &["http://web/secret"])
            .await?,
        403
    );
    let server = mesh.pod("shop", "web").await?;
    for alpn in ["weft/tcp", "weft/http1", "h2", "http/1.1", ""] {
        let output = forged(mesh, &format!("{}:8080", server.ips[0]), alpn).await?;
        assert!(!output.contains("\"version\""), "{alpn:?} got {output}");
    }
    Ok(())
}

/// `GET /secret` over TLS with the client pod's own key and certificate, as the proxy's user, whom
/// nothing intercepts.
async fn forged(mesh: &TestMesh, address: &str, alpn: &str) -> anyhow::Result<String> {
    let client = mesh.pod("shop", "client").await?;
    let alpn = if alpn.is_empty() {
        String::new()
    } else {
        format!("-alpn {alpn}")
    };
    let script = format!(
        "cd /run/weft/state && printf 'GET /secret HTTP/1.1\\r\\nhost: web\\r\\nconnection: close\\r\\n\\r\\n' \
         | timeout 10 openssl s_client -quiet -connect {address} -cert chain.pem -key key.pem {alpn} 2>&1; true"
    );
    let request = weft_local::info::ExecRequest {
        pod: Some(("shop".to_owned(), client.name)),
        argv: ["bash", "-c", &script].map(str::to_owned).to_vec(),
        uid: 1337,
        ..Default::default()
    };
    let output = mesh
        .start(&request)
        .await?
        .output()
        .await
        .context("openssl")?;
    Ok(output.out())
}
