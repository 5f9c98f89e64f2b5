//! Replicas of the control plane and what they keep in an API server: who leads, the CA, the trust
//! anchors, and who is believed at first contact. Each test has an API server to itself.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use weft_tests::cluster::{ApiServer, Fact, Kubectl, Trial, until};
use weft_tests::cluster_test;
use weft_tests::fixture::program;
use weft_tests::runner::Test;

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    vec![
        cluster_test!(another_replica_leads_when_the_leader_is_killed),
        cluster_test!(a_ca_secret_comes_back_and_a_lost_one_never_makes_a_root),
        cluster_test!(a_root_rotation_reaches_all_replicas_and_namespaces),
        cluster_test!(only_a_pods_own_token_is_believed),
    ]
}

/// An API server with the mesh's namespace and a meshed one.
pub(crate) struct Setting {
    api: ApiServer,
    pub(crate) kubectl: Kubectl,
}

/// A control plane of its own process.
pub(crate) struct Replica {
    process: Child,
    admin: PathBuf,
    address: SocketAddr,
}

impl Setting {
    pub(crate) async fn new() -> anyhow::Result<Self> {
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
        Ok(this)
    }

    async fn label(&self, namespace: &str, label: &str) -> anyhow::Result<()> {
        let args = ["label", "namespace", namespace, label];
        self.kubectl.text(&args).await.map(drop)
    }

    /// Makes a meshed pod in namespace `shop`, as if a kubelet had started it.
    async fn pod(&self, name: &str, ip: &str) -> anyhow::Result<()> {
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

    /// Starts a replica, as the pod `name`.
    pub(crate) fn start(&self, name: &str) -> anyhow::Result<Replica> {
        let admin = self.api.dir().join(format!("{name}.sock"));
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = std::fs::File::create(self.api.dir().join(format!("{name}.log")))?;
        let process = Command::new(program("weft-control-plane")?)
            .args(["run", "--kubernetes", "--lease-duration=4s", "--pod", name])
            .args(["--health=127.0.0.1:0", "--webhook=127.0.0.1:0"])
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
    pub(crate) async fn led_by(&self, name: &str) -> anyhow::Result<()> {
        until(&format!("{name} leads"), async || {
            let lease = self.kubectl.find("lease", "weft-leader").await?;
            let lease = lease.unwrap_or_default();
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            Ok(Fact::when(holder.starts_with(&format!("{name}_")), &lease))
        })
        .await
    }

    /// The CA's bytes, once they are there.
    async fn ca(&self) -> anyhow::Result<Value> {
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
    async fn anchors(&self, namespace: &str, count: usize) -> anyhow::Result<String> {
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
}

impl Replica {
    /// Status and answer of the admin interface.
    async fn admin(&self, method: &str, path: &str) -> anyhow::Result<(u16, String)> {
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
    async fn says(&self, path: &str, word: &str) -> anyhow::Result<String> {
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
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.process.id().context("it has ended")?;
        let pid = rustix::process::Pid::from_raw(pid.try_into()?).context("no process ID")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let ended = self.process.wait().await?;
        anyhow::ensure!(ended.success(), "{ended}");
        Ok(())
    }
}

const ROTATION: &str = "/v1/rotate-root";

async fn another_replica_leads_when_the_leader_is_killed(_: &Trial) -> anyhow::Result<()> {
    let setting = Setting::new().await?;
    let mut first = setting.start("first")?;
    setting.led_by("first").await?;
    let second = setting.start("second")?;
    second.says(ROTATION, "stable").await?;
    let (status, answer) = second.admin("POST", ROTATION).await?;
    anyhow::ensure!(
        status == 409 && answer.contains("pod first"),
        "{status} {answer}"
    );

    first.process.kill().await?;
    setting.led_by("second").await?;
    until("the new leader changes the CA", async || {
        let (status, answer) = second.admin("POST", ROTATION).await?;
        Ok(Fact::when(status == 200, answer))
    })
    .await?;
    // One that is told to go does not let others wait.
    second.stop().await?;
    let lease = setting.kubectl.object("lease", "weft-leader").await?;
    anyhow::ensure!(lease["spec"]["holderIdentity"].is_null(), "{lease}");
    Ok(())
}

async fn a_ca_secret_comes_back_and_a_lost_one_never_makes_a_root(_: &Trial) -> anyhow::Result<()> {
    let setting = Setting::new().await?;
    let [first, second] = [setting.start("first")?, setting.start("second")?];
    let before = setting.ca().await?;
    for replica in [&first, &second] {
        replica.says(ROTATION, "stable").await?;
    }
    setting.kubectl.delete("secret", "weft-ca").await?;
    anyhow::ensure!(setting.ca().await? == before, "another CA came back");

    // What cannot be read is named, and the last good one stays in use.
    let backup = setting.kubectl.object("secret", "weft-ca").await?;
    let patch = json!({"data": {"ca.json": "eA=="}}).to_string();
    let args = ["patch", "secret", "weft-ca", "--type=merge", "-p", &patch];
    setting.kubectl.text(&args).await?;
    for replica in [&first, &second] {
        let found = replica.says("/v1/diagnostics", "MalformedSecret").await?;
        anyhow::ensure!(found.contains("data[ca.json]"), "{found}");
        replica
            .says("/metrics", "weft_control_plane_issuing 1")
            .await?;
    }
    setting.kubectl.delete("secret", "weft-ca").await?;
    anyhow::ensure!(setting.ca().await? == before, "another CA came back");

    // Nobody has it in memory any more.
    setting.anchors("weft-system", 1).await?;
    first.stop().await?;
    second.stop().await?;
    setting.kubectl.delete("secret", "weft-ca").await?;
    let third = setting.start("third")?;
    setting.led_by("third").await?;
    third.says("/v1/diagnostics", "AuthorityLost").await?;
    third
        .says("/metrics", "weft_control_plane_issuing 0")
        .await?;
    let made = setting.kubectl.find("secret", "weft-ca").await?;
    anyhow::ensure!(made.is_none(), "a new CA was made");
    setting.anchors("weft-system", 1).await?;

    let restored = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "weft-ca"},
        "data": backup["data"],
    });
    setting.kubectl.apply(&restored.to_string()).await?;
    third
        .says("/metrics", "weft_control_plane_issuing 1")
        .await?;
    third.says("/v1/diagnostics", "\"diagnostics\":[]").await?;
    Ok(())
}

async fn a_root_rotation_reaches_all_replicas_and_namespaces(_: &Trial) -> anyhow::Result<()> {
    let setting = Setting::new().await?;
    // A pod that never confirms anything keeps the rotation in its first phase.
    setting.pod("web-1", "10.0.0.1").await?;
    let first = setting.start("first")?;
    setting.led_by("first").await?;
    let second = setting.start("second")?;
    second.says(ROTATION, "stable").await?;
    let before = setting.anchors("shop", 1).await?;

    let (status, answer) = first.admin("POST", ROTATION).await?;
    anyhow::ensure!(status == 200, "{status} {answer}");
    second.says(ROTATION, "announced").await?;
    for namespace in ["shop", "weft-system"] {
        setting.anchors(namespace, 2).await?;
    }
    // Edited or deleted, the anchors come back.
    let shop = setting.kubectl.in_namespace("shop");
    let patch = json!({"data": {"bundle.pem": before}}).to_string();
    let args = [
        "patch",
        "configmap",
        "weft-trust",
        "--type=merge",
        "-p",
        &patch,
    ];
    shop.text(&args).await?;
    setting.anchors("shop", 2).await?;
    shop.delete("configmap", "weft-trust").await?;
    setting.anchors("shop", 2).await?;

    // The pod is gone: nobody is waited for. The next leader goes on where the first one was.
    first.stop().await?;
    setting.led_by("second").await?;
    shop.delete("pod", "web-1").await?;
    second.says(ROTATION, "stable").await?;
    let after = setting.anchors("shop", 1).await?;
    anyhow::ensure!(after != before, "the root is the same");

    setting.label("shop", "mesh.weft.dev/inject-").await?;
    until("no anchors where there is no mesh", async || {
        let map = shop.find("configmap", "weft-trust").await?;
        Ok(Fact::when(map.is_none(), map.unwrap_or_default()))
    })
    .await
}

async fn only_a_pods_own_token_is_believed(_: &Trial) -> anyhow::Result<()> {
    let setting = Setting::new().await?;
    let shop = setting.kubectl.in_namespace("shop");
    shop.text(&["create", "serviceaccount", "web"]).await?;
    setting.pod("web-1", "127.0.0.1").await?;
    setting.pod("web-2", "127.0.0.2").await?;
    let replica = setting.start("first")?;
    replica.says("/readyz", "ready").await?;
    let anchors = setting.anchors("shop", 1).await?;
    std::fs::write(setting.api.dir().join("trust-bundle.pem"), anchors)?;

    let token = async |audience: &str, pod: Option<&str>| {
        let audience = format!("--audience={audience}");
        let pod = pod.map(|pod| format!("--bound-object-name={pod}"));
        let mut args = vec!["create", "token", "web", &audience];
        if let Some(pod) = &pod {
            args.extend(["--bound-object-kind=Pod", pod]);
        }
        shop.text(&args).await
    };
    let id = "spiffe://cluster.local/ns/shop/sa/web";
    let issue = async |pod: &str, token: String| {
        let claim = format!("shop/{pod}");
        let output = Command::new(program("weft-joiner")?)
            .args(["issue", &claim, id, token.trim()])
            .env("WEFT_JOINER_CONTROL_PLANE", replica.address.to_string())
            .env("WEFT_JOINER_POD", setting.api.dir())
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(output.status.success(), "{output:?}");
        Ok(text)
    };
    let own = issue("web-1", token("weft", Some("web-1")).await?).await?;
    anyhow::ensure!(own.contains("issued"), "{own}");
    let refused = [
        (
            "web-1",
            token("api", Some("web-1")).await?,
            "Unauthenticated",
        ),
        ("web-1", "forged".to_owned(), "Unauthenticated"),
        ("web-1", token("weft", None).await?, "bound to no pod"),
        (
            "web-1",
            token("weft", Some("web-2")).await?,
            "bound to pod shop/web-2",
        ),
        (
            "web-2",
            token("weft", Some("web-2")).await?,
            "no address of pod shop/web-2",
        ),
    ];
    for (pod, token, why) in refused {
        let answer = issue(pod, token).await?;
        anyhow::ensure!(answer.contains(why), "{why}: {answer}");
    }
    // The token of a pod that is gone is no good for its successor of the same name.
    let former = token("weft", Some("web-1")).await?;
    shop.delete("pod", "web-1").await?;
    let answer = issue("web-1", former).await?;
    anyhow::ensure!(answer.contains("Unauthenticated"), "{answer}");
    Ok(())
}
