//! The YAML that the tests have in common: an echo service and clients in front of it.

use weft_tests::fixture::program;

/// A namespace; in the mesh if `meshed`.
pub fn namespace(name: &str, meshed: bool) -> String {
    let inject = if meshed { "enabled" } else { "disabled" };
    format!(
        "
---
apiVersion: v1
kind: Namespace
metadata: {{name: {name}, labels: {{mesh.weft.dev/inject: {inject}}}}}
"
    )
}

/// `weft-echo` as a Deployment with a Service: HTTP on 80 (8080 in the pod), bytes on 9000, a
/// greeting on 9025.
pub fn echo(namespace: &str, name: &str, version: &str, replicas: usize) -> anyhow::Result<String> {
    let service = service(namespace, name, &[("app", name)]);
    Ok(deployment(namespace, name, version, replicas)? + &service)
}

/// The Deployment alone; its pods carry `app: NAME` and `version: VERSION`.
pub fn deployment(
    namespace: &str,
    name: &str,
    version: &str,
    replicas: usize,
) -> anyhow::Result<String> {
    let echo = program("weft-echo")?;
    Ok(format!(
        "
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}, version: {version}}}
    spec:
      serviceAccountName: {name}
      terminationGracePeriodSeconds: 10
      containers:
      - name: echo
        image: weft-echo
        command: [{echo}, --http, '8080', --echo, '9000', --greet, '9025']
        env:
        - {{name: VERSION, value: {version}}}
        - {{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
        ports:
        - {{name: http, containerPort: 8080}}
        - {{name: echo, containerPort: 9000}}
        - {{name: greet, containerPort: 9025}}
        readinessProbe:
          httpGet: {{port: http, path: /ready}}
          periodSeconds: 1
"
    ))
}

/// A Service for `weft-echo` pods with these labels.
pub fn service(namespace: &str, name: &str, labels: &[(&str, &str)]) -> String {
    let selector: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}: {value}"))
        .collect();
    format!(
        "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{{}}}
  ports:
  - {{name: http, port: 80, targetPort: http}}
  - {{name: echo, port: 9000, targetPort: echo}}
  - {{name: greet, port: 9025, targetPort: greet}}
",
        selector.join(", ")
    )
}

/// Pods to run curl and load in.
pub fn client(namespace: &str, name: &str, replicas: usize) -> String {
    format!(
        "
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
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
      - name: sleep
        image: curl
        command: [sleep, infinity]
"
    )
}

/// Strict mTLS for a namespace.
pub fn strict(namespace: &str) -> String {
    format!(
        "
---
apiVersion: mesh.weft.dev/v1alpha1
kind: PeerAuthentication
metadata: {{name: strict, namespace: {namespace}}}
spec: {{mtls: {{mode: STRICT}}}}
"
    )
}
