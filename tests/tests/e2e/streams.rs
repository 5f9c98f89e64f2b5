//! `weft-streams` in a mesh: its YAML, what it has seen, and the clients for it.

use anyhow::Context;
use serde_json::Value;
use weft_local::Running;
use weft_local::info::{Channel, ExecRequest};
use weft_tests::fixture::{TestMesh, program};

use crate::shop;

/// `weft-streams` as a Deployment of this name, without a Service. The pods carry `app: NAME`.
pub fn deployment(name: &str, replicas: usize) -> anyhow::Result<String> {
    let streams = program("weft-streams")?;
    Ok(format!(
        "
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
    spec:
      serviceAccountName: {name}
      terminationGracePeriodSeconds: 1
      containers:
      - name: streams
        image: weft-streams
        command: [{streams}, '8080']
        ports:
        - {{name: http, containerPort: 8080}}
        readinessProbe:
          httpGet: {{port: http, path: /ready}}
          periodSeconds: 1
"
    ))
}

/// A Service of this name for the pods of Deployment `app`: 80 and 50051.
pub fn service(name: &str, app: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{app: {app}}}
  ports:
  - {{name: http, port: 80, targetPort: http}}
  - {{name: grpc, port: 50051, targetPort: http}}
"
    )
}

/// The namespace `shop` in strict mode with one `streams` and one client.
pub fn shop_yaml() -> anyhow::Result<String> {
    Ok(shop::namespace("shop", true)
        + &shop::strict("shop")
        + &deployment("streams", 1)?
        + &service("streams", "streams")
        + &shop::client("shop", "client", 1))
}

/// What the application of the one pod of this Deployment, or of this pod, has seen. Asked from
/// inside the pod, past its proxy.
pub async fn stats(mesh: &TestMesh, name: &str) -> anyhow::Result<Value> {
    let status = mesh.status().await?;
    let pod = status.pods.iter().find(|pod| {
        let of = pod.deployment.as_deref().unwrap_or_default();
        !pod.terminating && (of == name || pod.name == name)
    });
    let pod = pod.with_context(|| format!("there is no pod of {name}"))?;
    inside(mesh, &pod.name, "stats").await
}

/// What the application of a pod answers to a caller inside the pod.
pub async fn inside(mesh: &TestMesh, pod: &str, verb: &str) -> anyhow::Result<Value> {
    let url = format!("http://127.0.0.1:8080/{verb}");
    let argv = ["curl", "-sS", "--max-time", "20", &url];
    let output = mesh.exec("shop", pod, &argv).await?;
    anyhow::ensure!(output.code == 0, "{url} in {pod}: {}", output.err());
    if output.stdout.is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// How many requests for a path reached it.
pub async fn requests(mesh: &TestMesh, name: &str, path: &str) -> anyhow::Result<u64> {
    let stats = stats(mesh, name).await?;
    Ok(stats["requests"][path].as_u64().unwrap_or(0))
}

/// Starts a command in the client's pod.
pub async fn start(mesh: &TestMesh, argv: &[&str]) -> anyhow::Result<Running> {
    let pod = mesh.pod("shop", "client").await?;
    let request = ExecRequest {
        pod: Some(("shop".to_owned(), pod.name)),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        ..ExecRequest::default()
    };
    mesh.start(&request).await
}

/// Runs `weft-caller` in the client's pod: the JSON of its lines.
pub async fn caller(mesh: &TestMesh, args: &[&str]) -> anyhow::Result<Vec<Value>> {
    let program = program("weft-caller")?;
    let argv = [&["timeout", "20", program.as_str()], args].concat();
    let output = mesh.run_in("shop/client", &argv).await?;
    let ended = || {
        format!(
            "{args:?}: {} {} {}",
            output.code,
            output.out(),
            output.err()
        )
    };
    anyhow::ensure!(output.code == 0, ended());
    let out = output.out();
    let lines = out.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().with_context(ended)
}

/// Waits until a command has written something to its standard output.
pub async fn speaks(running: &mut Running) -> anyhow::Result<String> {
    let mut said = String::new();
    while let Some((channel, bytes)) = running.next().await? {
        said.push_str(&String::from_utf8_lossy(&bytes));
        if channel == Channel::Out {
            return Ok(said);
        }
        anyhow::ensure!(channel != Channel::Exit, "it ended: {said}");
    }
    anyhow::bail!("the supervisor went away")
}

/// The most memory that the proxy of a pod has had resident, in KiB.
pub async fn peak_memory(mesh: &TestMesh, name: &str) -> anyhow::Result<u64> {
    let pod = mesh.pod("shop", name).await?;
    let proxy = pod.containers.get("weft-proxy").context("no proxy")?;
    let pid = proxy.pid.context("the proxy does not run")?;
    let file = format!("/proc/{pid}/status");
    let output = mesh.exec_outside(&["grep", "VmHWM", &file]).await?;
    let out = output.out();
    let kib = out.split_whitespace().nth(1).context("no VmHWM")?;
    Ok(kib.parse()?)
}

/// Fails if a proxy has needed more than the bound; its memory does not follow what passes through.
pub async fn memory_is_bounded(mesh: &TestMesh, apps: &[&str]) -> anyhow::Result<()> {
    const BOUND: u64 = 64 * 1024;
    for app in apps {
        let peak = peak_memory(mesh, app).await?;
        anyhow::ensure!(peak < BOUND, "the proxy of {app} took {peak} KiB");
    }
    Ok(())
}
