//! What clients and servers speak, through two sidecars.

use anyhow::Context;
use serde_json::json;
use weft_tests::artifacts::artifacts;
use weft_tests::capture::{Capture, contains};
use weft_tests::fixture::{Fixture, TestMesh};
use weft_tests::runner::Test;
use weft_tests::test;

use crate::streams::{self, caller, memory_is_bounded, requests};

/// 100 MiB.
const BIG: u64 = 100 << 20;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        test!(grpc_passes, meshed),
        test!(grpc_is_routed_by_method, routed),
        test!(http1_keeps_its_old_ways, meshed),
        test!(trailers_pass_both_ways, meshed),
        test!(bytes_pass_until_both_sides_have_ended, opaque),
        test!(a_refused_upload_is_never_sent, guarded),
        test!(ipv6_is_encrypted_and_authorised, guarded),
        test!(alone big_bodies_pass_both_ways, meshed),
    ]
}

fn meshed() -> anyhow::Result<Fixture> {
    Ok(Fixture::new().file("shop.yaml", streams::shop_yaml()?))
}

fn opaque() -> anyhow::Result<Fixture> {
    Ok(Fixture::new().file("shop.yaml", crate::mesh::shop_yaml()?))
}

async fn grpc_passes(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    for at in ["streams:80", "streams:50051"] {
        let called = caller(mesh, &["grpc", at, "/weft.test.Echo/Unary", "hello"]).await?;
        let wanted = json!({"messages": ["hello"], "code": 0, "sum": "42"});
        assert_eq!(called, [wanted], "{at}");
        let called = caller(mesh, &["grpc", at, "/weft.test.Echo/Stream", "m"]).await?;
        let messages = ["m0", "m1", "m2", "m3", "m4"];
        let wanted = json!({"messages": messages, "code": 0, "sum": "42"});
        assert_eq!(called, [wanted], "{at}");
        // Trailers alone, the application's own.
        let called = caller(mesh, &["grpc", at, "/weft.test.Echo/Refuse", "m"]).await?;
        let refused = json!({"messages": [], "code": 5, "message": "nothing here", "flag": null});
        assert_eq!(called, [refused], "{at}");
    }
    Ok(())
}

fn routed() -> anyhow::Result<Fixture> {
    let route = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: streams, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: streams, port: 50051}]
  rules:
  - matches: [{method: {service: weft.test.Echo, method: Stream}}]
    backendRefs: [{name: other, port: 50051}]
  - matches: [{method: {service: weft.test.Echo, method: Unary}}]
    backendRefs: [{name: streams, port: 50051}]
";
    let other = streams::deployment("other", 1)? + &streams::service("other", "other");
    Ok(meshed()?
        .file("other.yaml", other)
        .file("route.yaml", route))
}

async fn grpc_is_routed_by_method(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    for (method, messages) in [("Unary", 1), ("Stream", 5)] {
        let path = format!("/weft.test.Echo/{method}");
        let called = caller(mesh, &["grpc", "streams:50051", &path, "m"]).await?;
        assert_eq!(
            called[0]["messages"].as_array().map(Vec::len),
            Some(messages)
        );
        let reached = (
            requests(mesh, "streams", &path).await?,
            requests(mesh, "other", &path).await?,
        );
        let wanted = if method == "Unary" { (1, 0) } else { (0, 1) };
        assert_eq!(reached, wanted, "{method}");
    }
    let path = "/weft.test.Echo/Refuse";
    let called = caller(mesh, &["grpc", "streams:50051", path, "m"]).await?;
    assert_eq!(
        (&called[0]["code"], &called[0]["flag"]),
        (&12.into(), &"no-route".into()),
        "{called:?}"
    );
    Ok(())
}

/// Sends bytes to `streams:80` and reads until the server has ended.
async fn raw(mesh: &TestMesh, text: &str) -> anyhow::Result<String> {
    let script = format!("printf '{text}' | timeout 15 nc streams 80");
    let output = mesh.run_in("shop/client", &["bash", "-c", &script]).await?;
    anyhow::ensure!(output.code == 0, "{text}: {}{}", output.out(), output.err());
    Ok(output.out())
}

async fn http1_keeps_its_old_ways(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    // 1.0 knows no chunks: the body ends with the connection.
    let answer = raw(mesh, "GET /bytes/100000 HTTP/1.0\\r\\n\\r\\n").await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    assert!(head.contains(" 200 "), "{head}");
    assert!(!head.to_lowercase().contains("chunked"), "{head}");
    assert_eq!(body.len(), 100_000);

    // A client that waits is told to go on once the other proxy has let its request through, unless the answer is there
    // as soon; that is the application's.
    for (path, status) in [("upload", "200"), ("unread", "403")] {
        let url = format!("http://streams/{path}");
        let expect = "Expect: 100-continue";
        let args = ["-v", "-H", expect, "--expect100-timeout", "15"];
        let more = ["-d", "hello", "-o", "/dev/null", "-w", "%{http_code}", &url];
        let output = mesh
            .curl("shop/client", &[&args[..], &more].concat())
            .await?;
        assert_eq!(output.out(), status, "{path}: {}", output.err());
        let told = output.err().contains("< HTTP/1.1 100");
        assert!(told || path == "unread", "{path}: {}", output.err());
    }

    upgrades(mesh).await
}

async fn upgrades(mesh: &TestMesh) -> anyhow::Result<()> {
    let script = "exec 3<>/dev/tcp/streams/80
        printf 'GET /upgrade HTTP/1.1\\r\\nhost: streams\\r\\nconnection: upgrade\\r\\nupgrade: echo\\r\\n\\r\\n' >&3
        line=start
        while [ -n \"$line\" ]; do IFS= read -r -t 10 line <&3 || exit 1; line=${line%$'\\r'}; echo \"$line\"; done
        for word in ping pong; do echo $word >&3; IFS= read -r -t 10 line <&3 || exit 2; echo \"$line\"; done";
    let output = mesh.run_in("shop/client", &["bash", "-c", script]).await?;
    let out = output.out().to_lowercase();
    assert_eq!(output.code, 0, "{out}");
    assert!(out.starts_with("http/1.1 101 "), "{out}");
    assert!(out.contains("upgrade: echo"), "{out}");
    assert!(out.ends_with("\nping\npong\n"), "{out}");
    Ok(())
}

async fn trailers_pass_both_ways(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let sent = "POST /upload HTTP/1.1\\r\\nhost: streams\\r\\nconnection: close\\r\\n\
                transfer-encoding: chunked\\r\\ntrailer: x-sum\\r\\n\\r\\n\
                5\\r\\nhello\\r\\n0\\r\\nx-sum: 42\\r\\n\\r\\n";
    let answer = raw(mesh, sent).await?;
    let wanted = r#"{"length":5,"trailers":{"x-sum":"42"}}"#;
    assert!(answer.contains(wanted), "{answer}");
    let get = "GET /trailers HTTP/1.1\\r\\nhost: streams\\r\\nconnection: close\\r\\nte: trailers\\r\\n\\r\\n";
    let answer = raw(mesh, get).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no head")?;
    assert!(
        body.to_lowercase().contains("\r\n0\r\nx-sum: 42\r\n\r\n"),
        "{answer}"
    );
    // curl takes the trailers of HTTP/2 for headers.
    let args = [
        "--http2-prior-knowledge",
        "-D",
        "-",
        "http://streams/trailers",
    ];
    let answer = mesh.curl("shop/client", &args).await?.out();
    assert!(answer.starts_with("HTTP/2 200"), "{answer}");
    assert!(answer.contains("x-sum: 42"), "{answer}");
    Ok(())
}

async fn bytes_pass_until_both_sides_have_ended(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    // nc ends its side after the last byte and goes on reading.
    let script = "head -c 20000000 /dev/urandom >/tmp/sent
        timeout 20 nc -N web 9000 </tmp/sent >/tmp/back || exit 1
        cmp /tmp/sent /tmp/back && stat -c %s /tmp/back; rm -f /tmp/sent /tmp/back";
    let output = mesh.run_in("shop/client", &["bash", "-c", script]).await?;
    assert_eq!(output.out(), "20000000\n", "{}", output.err());
    Ok(())
}

fn guarded() -> anyhow::Result<Fixture> {
    let policy = "
---
apiVersion: mesh.weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: no-secrets, namespace: shop}
spec:
  action: DENY
  selector: {matchLabels: {app: streams}}
  rules:
  - from: [{serviceAccounts: [client]}]
    to: [{paths: [/secret*]}]
";
    Ok(meshed()?.file("policy.yaml", policy))
}

async fn a_refused_upload_is_never_sent(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    // Large enough for a hop of its own, too.
    for size in [10, 3 << 20] {
        for (path, status, sent) in [("secret/upload", "403", 0), ("upload", "200", size)] {
            let script = format!(
                "head -c {size} /dev/zero | curl -sSv -X POST -H 'Expect: 100-continue' --expect100-timeout 30 \
                 --max-time 20 --data-binary @- -o /dev/null -w '%{{http_code}} %{{size_upload}}' http://streams/{path}"
            );
            let output = mesh.run_in("shop/client", &["sh", "-c", &script]).await?;
            let err = output.err();
            assert_eq!(output.out(), format!("{status} {sent}"), "{path}: {err}");
            let told = err.contains("< HTTP/1.1 100");
            assert_eq!(told, status == "200", "{path}: {err}");
        }
    }
    assert_eq!(requests(mesh, "streams", "/secret/upload").await?, 0);
    Ok(())
}

async fn ipv6_is_encrypted_and_authorised(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    let server = mesh.pod("shop", "streams").await?;
    let ip = server.ips[1];
    assert!(ip.is_ipv6());
    let file = artifacts("captures")?.join(format!("{}.v6.pcap", server.uid));
    let capture = Capture::start(mesh, &file, &format!("tcp and host {ip}")).await?;
    let pod = format!("http://[{ip}]:8080");
    for base in ["http://streams", &pod] {
        let good = format!("{base}/canary-in-the-path");
        let args = ["-g", "-6", "-H", "x-canary: canary-in-a-header", &good];
        assert_eq!(mesh.status_of("shop/client", &args).await?, 200, "{base}");
        let secret = format!("{base}/secret/canary-in-the-path");
        let status = mesh
            .status_of("shop/client", &["-g", "-6", &secret])
            .await?;
        assert_eq!(status, 403, "{base}");
    }
    let packets = capture.stop(server.ips[0]).await?;
    assert!(packets.len() > 2000, "only {} bytes seen", packets.len());
    assert!(!contains(&packets, "canary"), "readable on the bridge");
    // All of it went through, and nothing of what was refused.
    let path = "/canary-in-the-path";
    assert_eq!(requests(mesh, "streams", path).await?, 2);
    let secret = "/secret/canary-in-the-path";
    assert_eq!(requests(mesh, "streams", secret).await?, 0);
    Ok(())
}

async fn big_bodies_pass_both_ways(mesh: &TestMesh) -> anyhow::Result<()> {
    mesh.settled().await?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let upload = format!(
            "head -c {BIG} /dev/zero | curl -sS --max-time 60 {version} -T - http://streams/upload"
        );
        let output = mesh.run_in("shop/client", &["bash", "-c", &upload]).await?;
        let wanted = format!("{{\"length\":{BIG},\"trailers\":{{}}}}\n");
        assert_eq!(output.out(), wanted, "{version}: {}", output.err());
        let url = format!("http://streams/bytes/{BIG}");
        let args = [
            "--max-time",
            "60",
            version,
            "-o",
            "/dev/null",
            "-w",
            "%{size_download}",
        ];
        let output = mesh
            .curl("shop/client", &[&args[..], &[&url]].concat())
            .await?;
        assert_eq!(output.out(), BIG.to_string(), "{version}: {}", output.err());
    }
    memory_is_bounded(mesh, &["client", "streams"]).await
}
