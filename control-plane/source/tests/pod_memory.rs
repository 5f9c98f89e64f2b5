//! What a pod of a cluster takes, measured: a list of many comes through the real path, and what
//! the process has grown by is counted. Alone in its process: others would be counted too.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use weft_model::World;
use weft_source::KubernetesSource;

const PODS: usize = 10_000;
const PAGE: usize = 500;
/// A pod's share, with what trees and allocators leave unused: 100,000 pods in 200 MB at most.
const LIMIT: usize = 2048;

/// A pod as clusters have them, 3 KiB of JSON: 50 pods for each of the Deployments.
fn pod(number: usize) -> Value {
    let deployment = number / 50;
    let env: Vec<Value> = (0..30)
        .map(|n| json!({"name": format!("VARIABLE_{n}"), "value": format!("some value {n}")}))
        .collect();
    let container = json!({
        "name": "app", "image": format!("registry.example/app-{deployment}:1.2.3"), "env": env,
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
    });
    let fields = json!({"f:metadata": {"f:labels": {"f:app": {}, "f:version": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {"f:env": {}, "f:image": {}}}}});
    let ip = format!(
        "10.{}.{}.{}",
        number >> 16,
        (number >> 8) & 255,
        number & 255
    );
    json!({
        "metadata": {
            "name": format!("app-{deployment}-7c9d8f6b5-{number:05x}"),
            "namespace": format!("team-{}", deployment % 40),
            "uid": format!("00000000-0000-4000-8000-{number:012x}"),
            "resourceVersion": (1000 + number).to_string(), "generation": 1,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {
                "app": format!("app-{deployment}"), "version": "v1", "team": format!("team-{}", deployment % 40),
                "app.kubernetes.io/managed-by": "Helm", "pod-template-hash": "7c9d8f6b5",
            },
            "annotations": {"mesh.weft.dev/status": "injected", "checksum/config": "0123456789abcdef0123456789abcdef"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true, "uid": "x", "name": format!("app-{deployment}-7c9d8f6b5")}],
            "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "fieldsV1": fields}, {"manager": "kubelet", "operation": "Update", "fieldsV1": fields}],
        },
        "spec": {
            "nodeName": format!("node-{}", number % 200), "serviceAccountName": format!("app-{deployment}"),
            "containers": [container], "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
        },
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "hostIP": "192.168.0.1",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
            "containerStatuses": [{"name": "app", "ready": true, "restartCount": 0, "image": "i", "imageID": "sha256:0123"}],
        },
    })
}

/// The list in pages, as they go over the wire.
fn pages() -> Vec<String> {
    let page = |from: usize| {
        let items: Vec<Value> = (from..from + PAGE).map(pod).collect();
        let rest = from + PAGE;
        let token = if rest < PODS {
            rest.to_string()
        } else {
            String::new()
        };
        let metadata = json!({"resourceVersion": "999999", "continue": token});
        json!({"metadata": metadata, "items": items}).to_string()
    };
    (0..PODS).step_by(PAGE).map(page).collect()
}

/// Answers one request; nothing ever happens to the pods, and there is nothing else.
async fn serve(stream: TcpStream, pages: Arc<Vec<String>>) {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if stream.read_line(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let target = request.split(' ').nth(1).unwrap();
    let is_watch = target.contains("watch=true");
    let token = target.split_once("continue=").map(|(_, rest)| rest);
    let from: usize = token.map_or(0, |rest| rest.split('&').next().unwrap().parse().unwrap());
    let body = match (target.starts_with("/api/v1/pods"), is_watch) {
        (_, true) => "",
        (true, false) => &pages[from / PAGE],
        (false, false) => r#"{"metadata": {"resourceVersion": "999999"}, "items": []}"#,
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    // The client may have gone.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
    if is_watch {
        let _ = stream.read_line(&mut request).await;
    }
}

/// Bytes of memory that the process has in use.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    kilobytes.unwrap().parse::<usize>().unwrap() * 1024
}

/// A source, and the world as compile has it.
async fn follow(client: Client) -> (KubernetesSource, World) {
    let mut source = KubernetesSource::start(client, Duration::from_secs(290));
    let batch = source.next().await.unwrap();
    let mut world = World::default();
    for change in batch.changes {
        world.apply(change);
    }
    (source, world)
}

#[tokio::test]
async fn a_pod_takes_little() {
    // By another thread, so in another part of the heap: what it frees would be put to use here.
    let pages = Arc::new(std::thread::spawn(pages).join().unwrap());
    let size: usize = pages.iter().map(String::len).sum();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, Arc::clone(&pages)));
        }
    });
    let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
    // What pages take while they are read is no pod's share: the first one leaves it to the second.
    let first = follow(client.clone()).await;
    let before = resident();
    let second = follow(client).await;
    let share = (resident() - before) / PODS;
    assert_eq!((first.1.len(), second.1.len()), (PODS, PODS));
    println!(
        "{share} bytes resident for each of {PODS} pods ({} bytes of JSON); an object is {} bytes before its texts",
        size / PODS,
        size_of::<weft_model::Object>()
    );
    assert!(share < LIMIT, "{share} bytes for each pod");
    server.abort();
}
