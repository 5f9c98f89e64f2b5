//! The cluster by itself, without a mesh: what Weft and its users take for granted of a Kubernetes.

use anyhow::Context;
use serde_json::{Value, json};
use weft_tests::cluster::{Fact, Trial, client, condition, until};
use weft_tests::cluster_test;
use weft_tests::runner::Test;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(a_tutorials_nginx_answers_on_every_node),
        cluster_test!(a_job_with_a_native_sidecar_completes),
        cluster_test!(a_projected_token_names_its_pod),
        cluster_test!(wefts_images_run_confined),
    ]
}

/// From kubernetes.io: the first Deployment that people write.
pub const NGINX: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: nginx-deployment
  labels:
    app: nginx
spec:
  replicas: 3
  selector:
    matchLabels:
      app: nginx
  template:
    metadata:
      labels:
        app: nginx
    spec:
      containers:
      - name: nginx
        image: nginx:1.14.2
        ports:
        - containerPort: 80
---
apiVersion: v1
kind: Service
metadata:
  name: nginx
spec:
  selector:
    app: nginx
  ports:
  - protocol: TCP
    port: 80
";

async fn a_tutorials_nginx_answers_on_every_node(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.namespace("tutorial", &[]).await?;
    ns.apply(NGINX).await?;
    let nodes = ns.list("nodes", "").await?;
    let mut clients = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        let node = node["metadata"]["name"].as_str();
        let name = format!("client-{i}");
        ns.apply(&client(&name, node)).await?;
        clients.push(name);
    }
    ns.rolled_out("nginx-deployment").await?;
    let pods = ns.list("pods", "app=nginx").await?;
    assert_eq!(pods.len(), 3);
    let url = format!("http://nginx.{}.svc.cluster.local/", ns.name);
    for client in &clients {
        ns.ready(client).await?;
        until("nginx answers by the name of its Service", async || {
            let answer = ns.curl(client, &[&url]).await?;
            let welcome = answer.out().contains("Welcome to nginx!");
            Ok(Fact::when(
                welcome,
                format!("{}{}", answer.out(), answer.err()),
            ))
        })
        .await?;
        let answer = ns.curl(client, &["http://nginx/"]).await?;
        assert_eq!(answer.code, 0, "{}", answer.err());
        for pod in &pods {
            let address = pod["status"]["podIP"].as_str().context("no address")?;
            let answer = ns.curl(client, &[&format!("http://{address}/")]).await?;
            assert_eq!(answer.code, 0, "{address}: {}", answer.err());
        }
    }
    let script = "echo $((6 * 7)); echo no >&2; exit 3";
    let output = ns
        .exec(&clients[0], "client", &["sh", "-c", script])
        .await?;
    assert_eq!((output.code, &*output.out()), (3, "42\n"));
    assert!(output.err().starts_with("no\n"), "{}", output.err());
    Ok(())
}

async fn a_job_with_a_native_sidecar_completes(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.namespace("sidecar", &[]).await?;
    ns.apply(
        "
apiVersion: batch/v1
kind: Job
metadata: {name: work}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      volumes: [{name: shared, emptyDir: {medium: Memory}}]
      initContainers:
        - name: sidecar
          image: busybox:1.36
          restartPolicy: Always
          command: [sh, -c, 'trap exit TERM; sleep 1; touch /shared/up; while :; do sleep 0.1; done']
          startupProbe: {exec: {command: [test, -e, /shared/up]}, periodSeconds: 1}
          securityContext:
            runAsUser: 1337
            runAsNonRoot: true
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
            seccompProfile: {type: RuntimeDefault}
          volumeMounts: [{name: shared, mountPath: /shared}]
      containers:
        - name: work
          image: busybox:1.36
          command: [test, -e, /shared/up]
          volumeMounts: [{name: shared, mountPath: /shared}]
",
    )
    .await?;
    until("the Job is complete", async || {
        let job = ns.object("job", "work").await?;
        assert!(condition(&job, "Failed").is_none(), "{}", job["status"]);
        Ok(Fact::when(
            condition(&job, "Complete").is_some(),
            &job["status"],
        ))
    })
    .await
}

async fn a_projected_token_names_its_pod(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.namespace("token", &[]).await?;
    let mut pod: Value = serde_json::from_str(&client("claimant", None))?;
    let token = json!({"serviceAccountToken": {"path": "token", "audience": "weft", "expirationSeconds": 600}});
    pod["spec"]["volumes"] = json!([{"name": "token", "projected": {"sources": [token]}}]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "token", "mountPath": "/token"}]);
    ns.apply(&pod.to_string()).await?;
    let pod = ns.ready("claimant").await?;
    let token = ns
        .exec("claimant", "client", &["cat", "/token/token"])
        .await?
        .out();
    let review = async |audience: &str| {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        });
        let mut review = trial.cluster.kubectl().create(&review.to_string()).await?;
        anyhow::Ok(review["status"].take())
    };
    let status = review("weft").await?;
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["audiences"], json!(["weft"]));
    let user = format!("system:serviceaccount:{}:default", ns.name);
    assert_eq!(status["user"]["username"], json!(user));
    let extra = &status["user"]["extra"];
    assert_eq!(
        extra["authentication.kubernetes.io/pod-name"],
        json!(["claimant"])
    );
    assert_eq!(
        extra["authentication.kubernetes.io/pod-uid"],
        json!([pod["metadata"]["uid"]])
    );
    let status = review("another").await?;
    assert_ne!(status["authenticated"], true, "{status}");
    Ok(())
}

/// As injected pods will run them: no capability, nothing to write to, nobody's user.
async fn wefts_images_run_confined(trial: &Trial) -> anyhow::Result<()> {
    let ns = trial.namespace("images", &[]).await?;
    let version = env!("CARGO_PKG_VERSION");
    for program in ["proxy", "control-plane"] {
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": program},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": program,
                    "image": format!("weft/{program}:{version}"),
                    "args": ["--version"],
                    "securityContext": {
                        "runAsUser": 1337,
                        "runAsGroup": 1337,
                        "runAsNonRoot": true,
                        "readOnlyRootFilesystem": true,
                        "allowPrivilegeEscalation": false,
                        "capabilities": {"drop": ["ALL"]},
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                }],
            },
        });
        ns.apply(&pod.to_string()).await?;
        until("the program has ended well", async || {
            let pod = ns.object("pod", program).await?;
            let done = pod["status"]["phase"] == "Succeeded";
            Ok(Fact::when(done, &pod["status"]))
        })
        .await?;
        let said = ns.logs(program, program).await?;
        assert_eq!(said.trim_end(), format!("weft-{program} {version}"));
    }
    Ok(())
}
