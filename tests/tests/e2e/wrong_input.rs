//! What is wrong is named, and hurts nobody else.

use weft_tests::fixture::{Fixture, TestMesh};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::mesh::shop_yaml;
use crate::shop;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(bad_files_are_named_and_change_nothing, meshed),
        test!(garbage_on_every_port_hurts_nobody, meshed),
        test!(oversized_headers_are_refused_alone, meshed),
    ]
}

fn meshed() -> anyhow::Result<Fixture> {
    let yaml =
        shop_yaml()? + &shop::namespace("outside", false) + &shop::client("outside", "client", 1);
    Ok(Fixture::new().file("shop.yaml", yaml))
}

async fn bad_files_are_named_and_change_nothing(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let route = |body: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: bad, namespace: shop}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: web}}]\n{body}"
        )
    };
    let cases = [
        ("not YAML", "a: [".to_owned(), "bad.yaml:"),
        ("an unknown field", route("  rulez: []\n  rules: [{backendRefs: [{name: web, port: 80}]}]\n"), "rulez"),
        (
            "an unknown kind",
            "apiVersion: mesh.weft.dev/v1alpha1\nkind: AuthorisationPolicy\nmetadata: {name: x}\n".to_owned(),
            "AuthorisationPolicy",
        ),
        (
            "a missing Service",
            route("  rules: [{backendRefs: [{name: nobody, port: 80}]}]\n"),
            "nobody",
        ),
        (
            "a weight that is too large",
            route(
                "  rules:
  - backendRefs: [{name: web, port: 80}]
  - matches: [{path: {value: /heavy}}]
    backendRefs: [{name: web, port: 80, weight: 1000001}]
",
            ),
            "weight",
        ),
        (
            "a name that is there already",
            "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 1}]}\n".to_owned(),
            "shop.yaml",
        ),
    ];
    for (what, yaml, named) in cases {
        mesh.write("bad.yaml", &yaml)?;
        let is_named = async || {
            let findings = diagnostics(mesh).await?;
            Ok(findings.contains("bad.yaml") && findings.contains(named))
        };
        mesh.until(&format!("{what} is named"), is_named).await?;
        if what != "a missing Service" {
            assert_eq!(
                mesh.status_of("shop/client", &["http://web/"]).await?,
                200,
                "{what}"
            );
        }
        mesh.remove("bad.yaml")?;
        let is_forgotten = async || Ok(!diagnostics(mesh).await?.contains("bad.yaml"));
        mesh.until(&format!("{what} is forgotten"), is_forgotten)
            .await?;
    }
    Ok(())
}

/// What `weft up` shows.
async fn diagnostics(mesh: &TestMesh) -> anyhow::Result<String> {
    let findings = mesh.findings().await?;
    Ok(findings.iter().map(|one| one.line() + "\n").collect())
}

async fn garbage_on_every_port_hurts_nobody(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let web = mesh.pod("shop", "web").await?;
    let ports = [8080, 9000, 9025, 15006, 15001, 15020, 15021];
    for port in ports {
        let target = format!("{} {port}", web.ips[0]);
        let script = format!(
            "head -c 4096 /dev/urandom | timeout 3 nc -N {target} >/dev/null; \
             printf '\\x16\\x03\\x01\\x02\\x00\\x01\\x00' | timeout 3 nc -N {target} >/dev/null; \
             printf 'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\nrubbish-rubbish' | timeout 3 nc -N {target} >/dev/null; true"
        );
        mesh.run_in("outside/client", &["bash", "-c", &script])
            .await?;
    }
    let script = "head -c 4096 /dev/urandom | timeout 3 nc -N 10.244.0.1 15010 >/dev/null; true";
    mesh.run_in("outside/client", &["bash", "-c", script])
        .await?;
    assert_eq!(mesh.status_of("shop/client", &["http://web/"]).await?, 200);
    let status = mesh.status().await?;
    assert_eq!(status.control_plane_starts, 1);
    for pod in status.pods.iter().filter(|pod| pod.meshed) {
        assert_eq!(pod.containers["weft-proxy"].restarts, 0, "{}", pod.name);
    }
    Ok(())
}

async fn oversized_headers_are_refused_alone(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let script = "head -c 1000000 /dev/zero | tr '\\0' a > /tmp/h; (printf 'x-large: '; cat /tmp/h) > /tmp/header; \
                  curl -s -m 10 -o /dev/null -w '%{http_code}' -H @/tmp/header http://web/";
    let output = mesh.run_in("shop/client", &["bash", "-c", script]).await?;
    assert!(
        ["431", "400", "000"].contains(&output.out().as_str()),
        "{}",
        output.out()
    );
    assert_eq!(mesh.status_of("shop/client", &["http://web/"]).await?, 200);
    Ok(())
}
