//! Talks to a running mesh over its supervisor's socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::info::{
    Channel, ControlPlaneOrder, ExecRequest, Finding, Named, PodInfo, SignalName, SignalRequest,
    Status,
};
use crate::options::Layout;

/// The pace at which a fact is waited for.
const POLL: Duration = Duration::from_millis(50);
/// The largest answer that is read whole.
const MAX_ANSWER: usize = 64 << 20;

/// A running mesh, seen from the host. Cheap to clone; holds no connection.
#[derive(Clone, Debug)]
pub struct Client {
    layout: Layout,
}

/// What a command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; 128 and more for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// A command that runs. Dropping it kills the command.
#[derive(Debug)]
pub struct Running {
    body: Incoming,
    buffer: BytesMut,
}

impl Running {
    /// The next piece of output, `None` when the connection ended.
    pub async fn next(&mut self) -> anyhow::Result<Option<(Channel, Bytes)>> {
        loop {
            if let Some(mut header) = self.buffer.get(..5) {
                let channel = Channel::from_byte(header.get_u8()).context("unknown channel")?;
                let length = usize::try_from(header.get_u32())?;
                if self.buffer.len() >= 5 + length {
                    self.buffer.advance(5);
                    return Ok(Some((channel, self.buffer.split_to(length).freeze())));
                }
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// Waits for the end.
    pub async fn output(mut self) -> anyhow::Result<Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some((channel, bytes)) = self.next().await? {
            match channel {
                Channel::Out => stdout.extend_from_slice(&bytes),
                Channel::Err => stderr.extend_from_slice(&bytes),
                Channel::Exit => {
                    let code = std::str::from_utf8(&bytes)?.parse()?;
                    return Ok(Output {
                        code,
                        stdout,
                        stderr,
                    });
                }
            }
        }
        anyhow::bail!("the supervisor went away while the command ran")
    }
}

impl Client {
    /// A client of the mesh in this run directory.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            layout: Layout::new(run_dir.to_owned()),
        }
    }

    /// The control plane's admin socket.
    pub fn control_plane_admin(&self) -> PathBuf {
        self.layout.control_plane_admin()
    }

    /// The logs of every process, one file each.
    pub fn logs(&self) -> PathBuf {
        self.layout.logs()
    }

    /// The objects that the supervisor writes for the control plane.
    pub fn generated_objects(&self) -> PathBuf {
        self.layout.generated()
    }

    /// Everything there is to know.
    pub async fn status(&self) -> anyhow::Result<Status> {
        self.call(Method::GET, "/v1/status", &()).await
    }

    /// Everything that the control plane finds wrong.
    pub async fn findings(&self) -> anyhow::Result<Vec<Finding>> {
        #[derive(Deserialize)]
        struct Answer {
            diagnostics: Vec<Finding>,
        }
        let (socket, path) = (self.control_plane_admin(), "/v1/diagnostics");
        let (status, body) = crate::http::unix(&socket, Method::GET, path, Bytes::new())
            .await
            .map_err(|error| anyhow::anyhow!("asking the control plane: {error}"))?;
        anyhow::ensure!(
            status == 200,
            "the control plane answers {path} with {status}"
        );
        Ok(serde_json::from_slice::<Answer>(&body)?.diagnostics)
    }

    /// Waits until `fact` holds; after `limit` fails with the last state.
    pub async fn wait_for(
        &self,
        limit: Duration,
        what: &str,
        fact: impl Fn(&Status) -> bool,
    ) -> anyhow::Result<Status> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status().await?;
            if fact(&status) {
                return Ok(status);
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "not {what} within {limit:?}: {}",
                serde_json::to_string_pretty(&status)?
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until everything in the folder runs and is ready.
    pub async fn wait_settled(&self, limit: Duration) -> anyhow::Result<Status> {
        self.wait_for(limit, "settled", |status| status.settled)
            .await
    }

    /// The pods of a Deployment that are not on their way out.
    pub async fn pods_of(&self, namespace: &str, name: &str) -> anyhow::Result<Vec<PodInfo>> {
        let pods = self.status().await?.pods.into_iter();
        let ours = pods.filter(|pod| {
            let of = pod.deployment.as_deref().unwrap_or(&pod.name);
            (pod.namespace.as_str(), of) == (namespace, name) && !pod.terminating
        });
        Ok(ours.collect())
    }

    /// Starts a command.
    pub async fn start(&self, request: &ExecRequest) -> anyhow::Result<Running> {
        let response = self.send(Method::POST, "/v1/exec", &request).await?;
        Ok(Running {
            body: response.into_body(),
            buffer: BytesMut::new(),
        })
    }

    /// Runs a command in a pod, as root, to its end.
    pub async fn exec(&self, namespace: &str, pod: &str, argv: &[&str]) -> anyhow::Result<Output> {
        let request = ExecRequest {
            pod: Some((namespace.to_owned(), pod.to_owned())),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            ..ExecRequest::default()
        };
        self.start(&request).await?.output().await
    }

    /// Runs a command beside the bridge, as root, to its end.
    pub async fn exec_outside(&self, argv: &[&str]) -> anyhow::Result<Output> {
        let request = ExecRequest {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            ..ExecRequest::default()
        };
        self.start(&request).await?.output().await
    }

    /// Rolls a Deployment over.
    pub async fn restart(&self, namespace: &str, deployment: &str) -> anyhow::Result<()> {
        self.order("/v1/restart", &named(namespace, deployment))
            .await
    }

    /// Deletes a pod.
    pub async fn delete_pod(&self, namespace: &str, pod: &str) -> anyhow::Result<()> {
        self.order("/v1/delete-pod", &named(namespace, pod)).await
    }

    /// Sends a signal to a process of a pod; `weft-proxy` is the proxy.
    pub async fn signal(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        signal: SignalName,
    ) -> anyhow::Result<()> {
        let request = SignalRequest {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            container: container.to_owned(),
            signal,
        };
        self.order("/v1/signal", &request).await
    }

    /// Starts, stops or kills the control plane.
    pub async fn control_plane(&self, order: ControlPlaneOrder) -> anyhow::Result<()> {
        self.order("/v1/control-plane", &order).await
    }

    /// A request to the admin socket of a pod's proxy; status and body.
    pub async fn proxy_admin(
        &self,
        namespace: &str,
        pod: &str,
        method: Method,
        path: &str,
    ) -> anyhow::Result<(u16, Bytes)> {
        let path = format!("/v1/proxy/{namespace}/{pod}{path}");
        let socket = self.layout.supervisor_socket();
        crate::http::unix(&socket, method, &path, Bytes::new())
            .await
            .map_err(|error| anyhow::anyhow!("asking the proxy of {namespace}/{pod}: {error}"))
    }

    async fn order(&self, path: &str, body: &impl Serialize) -> anyhow::Result<()> {
        let _: serde_json::Value = self.call(Method::POST, path, body).await?;
        Ok(())
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let response = self.send(method, path, body).await?;
        Ok(serde_json::from_slice(&read(response.into_body()).await?)?)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<http::Response<Incoming>> {
        let socket = self.layout.supervisor_socket();
        let stream = UnixStream::connect(&socket)
            .await
            .with_context(|| format!("no mesh answers at {}", socket.display()))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .body(Full::from(serde_json::to_vec(body)?))?;
        let response = crate::http::exchange(stream, request)
            .await
            .map_err(|error| anyhow::anyhow!("asking the supervisor: {error}"))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let reason = read(response.into_body()).await?;
        anyhow::bail!("{}", String::from_utf8_lossy(&reason).trim_end())
    }
}

fn named(namespace: &str, name: &str) -> Named {
    Named {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

async fn read(body: Incoming) -> anyhow::Result<Bytes> {
    let body = Limited::new(body, MAX_ANSWER).collect().await;
    Ok(body
        .map_err(|error| anyhow::anyhow!("reading the answer: {error}"))?
        .to_bytes())
}
