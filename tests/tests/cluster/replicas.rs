//! Replicas of the control plane as processes of this machine, over an API server that a test has to
//! itself: there are no nodes, and what a kubelet would say of pods the test says.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use weft_tests::cluster::{ApiServer, Fact, Kubectl, own_address, until};
use weft_tests::fixture::program;

/// The pods that replicas may be.
const REPLICAS: [&str; 3] = ["first", "second", "third"];
/// Where the rotation of the root is asked for.
pub const ROTATION: &str = "/v1/rotate-root";

/// An API server with the mesh's namespace and a meshed one.
pub struct Setting {
    api: ApiServer,
    pub kubectl: Kubectl,
}

/// A control plane of its own process.
pub struct Replica {
    pub process: Child,
    admin: PathBuf,
    pub address: SocketAddr,
}

impl Setting {
    pub async fn new() -> anyhow::Result<Self> {
        let api = ApiServer::start().await?;
        let this = Self {
            kubectl: api.kubectl().in_namespace("weft-system"),
            api,
        };
        for namespace in ["weft-system", "shop"] {
            let args = ["create", "namespace", namespace];
            this.kubectl.text(&args).await?;
        }
        this.label("shop", "mesh.weft.dev/inject=enabled").await?;
        let containers = json!([{"name": "control-plane", "image": "weft/control-plane"}]);
        for name in REPLICAS {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
                "spec": {"containers": containers},
            });
            this.kubectl.create(&pod.to_string()).await?;
        }
        Ok(this)
    }

    pub async fn label(&self, namespace: &str, label: &str) -> anyhow::Result<()> {
        let args = ["label", "namespace", namespace, label];
        self.kubectl.text(&args).await.map(drop)
    }

    /// Makes a meshed pod in namespace `shop`, as if a kubelet had started it.
    pub async fn pod(&self, name: &str, ip: &str) -> anyhow::Result<()> {
        let shop = self.kubectl.in_namespace("shop");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "annotations": {"mesh.weft.dev/status": "injected"}},
            "spec": {"serviceAccountName": "web", "containers": [{"name": "a", "image": "a"}]},
        });
        shop.create(&pod.to_string()).await?;
        let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}}).to_string();
        let args = ["patch", "pod", name, "--subresource=status", "-p", &status];
        shop.text(&args).await.map(drop)
    }

    /// A folder that ends with it.
    pub fn dir(&self) -> &Path {
        self.api.dir()
    }

    /// Starts a replica, as the pod `name`.
    pub fn start(&self, name: &str) -> anyhow::Result<Replica> {
        self.start_with(name, &[])
    }

    /// Starts a replica with more settings.
    pub fn start_with(&self, name: &str, settings: &[&str]) -> anyhow::Result<Replica> {
        self.spawn(Command::new(program("weft-control-plane")?), name, settings)
    }

    /// Starts a replica with a clock that is so many seconds off.
    pub fn start_at(&self, name: &str, seconds: i64) -> anyhow::Result<Replica> {
        let mut program = Command::new(program("weft-skewed-control-plane")?);
        program.env("WEFT_TEST_CLOCK", seconds.to_string());
        self.spawn(program, name, &[])
    }

    fn spawn(
        &self,
        mut program: Command,
        name: &str,
        settings: &[&str],
    ) -> anyhow::Result<Replica> {
        let admin = self.api.dir().join(format!("{name}.sock"));
        let address = SocketAddr::from((own_address(), 15010));
        let log = std::fs::File::create(self.api.dir().join(format!("{name}.log")))?;
        let process = program
            .args(["run", "--kubernetes", "--lease-duration=4s", "--pod", name])
            .args(["--health=127.0.0.1:0", "--webhook=127.0.0.1:0"])
            .args(settings)
            .arg(format!("--listen={address}"))
            .arg(format!("--admin=unix:{}", admin.display()))
            .env("KUBECONFIG", self.api.kubectl().kubeconfig())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Replica {
            process,
            admin,
            address,
        })
    }

    /// Waits until the replica of this name leads.
    pub async fn led_by(&self, name: &str) -> anyhow::Result<()> {
        until(&format!("{name} leads"), async || {
            let lease = self.kubectl.find("lease", "weft-leader").await?;
            let lease = lease.unwrap_or_default();
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            Ok(Fact::when(holder.starts_with(&format!("{name}_")), &lease))
        })
        .await
    }

    /// The CA's bytes, once they are there.
    pub async fn ca(&self) -> anyhow::Result<Value> {
        until("there is a CA Secret", async || {
            let secret = self.kubectl.find("secret", "weft-ca").await?;
            Ok(match secret {
                Some(secret) => Fact::Is(secret["data"].clone()),
                None => Fact::NotYet("none".into()),
            })
        })
        .await
    }

    /// Waits until the trust anchors of the namespace are this many.
    pub async fn anchors(&self, namespace: &str, count: usize) -> anyhow::Result<String> {
        let kubectl = self.kubectl.in_namespace(namespace);
        until(&format!("{count} anchors in {namespace}"), async || {
            let map = kubectl.find("configmap", "weft-trust").await?;
            let map = map.unwrap_or_default();
            let bundle = map["data"]["bundle.pem"].as_str().unwrap_or_default();
            Ok(if bundle.matches("BEGIN CERTIFICATE").count() == count {
                Fact::Is(bundle.to_owned())
            } else {
                Fact::NotYet(map.to_string())
            })
        })
        .await
    }

    /// A token of service account `web` for this audience, bound to a pod if one is named.
    pub async fn token(&self, audience: &str, pod: Option<&str>) -> anyhow::Result<String> {
        let audience = format!("--audience={audience}");
        let pod = pod.map(|pod| format!("--bound-object-name={pod}"));
        let mut args = vec!["create", "token", "web", &audience];
        if let Some(pod) = &pod {
            args.extend(["--bound-object-kind=Pod", pod]);
        }
        let token = self.kubectl.in_namespace("shop").text(&args).await?;
        Ok(token.trim().to_owned())
    }

    /// `weft-joiner`, which acts as the proxy of pods in `shop`, connected to this replica; it
    /// trusts what lies in `trust-bundle.pem` of [`Setting::dir`].
    pub fn joiner(&self, replica: &Replica, args: &[&str]) -> anyhow::Result<Command> {
        let mut joiner = Command::new(program("weft-joiner")?);
        joiner
            .args(args)
            .env("WEFT_JOINER_CONTROL_PLANE", replica.address.to_string())
            .env("WEFT_JOINER_POD", self.dir())
            .kill_on_drop(true);
        Ok(joiner)
    }

    /// What it says at its end.
    pub async fn join(&self, replica: &Replica, args: &[&str]) -> anyhow::Result<String> {
        let output = self.joiner(replica, args)?.output().await?;
        anyhow::ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Lets `weft-joiner` trust the anchors that `shop` has, once they are this many.
    pub async fn trust(&self, count: usize) -> anyhow::Result<()> {
        let anchors = self.anchors("shop", count).await?;
        Ok(std::fs::write(
            self.dir().join("trust-bundle.pem"),
            anchors,
        )?)
    }
}

impl Replica {
    /// Status and answer of the admin interface.
    pub async fn admin(&self, method: &str, path: &str) -> anyhow::Result<(u16, String)> {
        let output = Command::new("curl")
            .args(["-sS", "-X", method, "-w", "\n%{http_code}", "--unix-socket"])
            .arg(&self.admin)
            .arg(format!("http://admin{path}"))
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').context("curl said nothing")?;
        Ok((status.parse()?, body.to_owned()))
    }

    /// Waits until an answer has this in it.
    pub async fn says(&self, path: &str, word: &str) -> anyhow::Result<String> {
        until(&format!("{path} says {word:?}"), async || {
            Ok(match self.admin("GET", path).await {
                Ok((_, body)) if body.contains(word) => Fact::Is(body),
                Ok((_, body)) => Fact::NotYet(body),
                Err(error) => Fact::NotYet(error.to_string()),
            })
        })
        .await
    }

    /// Ends as a pod does that is deleted.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.process.id().context("it has ended")?;
        let pid = rustix::process::Pid::from_raw(pid.try_into()?).context("no process ID")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let ended = self.process.wait().await?;
        anyhow::ensure!(ended.success(), "{ended}");
        Ok(())
    }
}
