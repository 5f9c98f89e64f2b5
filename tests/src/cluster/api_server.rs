//! An API server by itself, with etcd behind it, on loopback: for what asks nothing more of a
//! cluster, and must not disturb one. It has no nodes, and controllers neither.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{Fact, Kubectl, programs, until};

/// The only user, who may do everything.
const TOKEN: &str = "administrator";

/// The two programs; they end with the value.
#[derive(Debug)]
pub struct ApiServer {
    dir: TempDir,
    kubectl: Kubectl,
    _etcd: Child,
    _server: Child,
}

impl ApiServer {
    /// Starts both and waits until requests are answered.
    pub async fn start() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let programs = programs()?;
        let [client, peer, api] = [free_port()?, free_port()?, free_port()?];
        let etcd = etcd(&programs, dir.path(), client, peer)?;
        write_credentials(dir.path(), api).await?;
        let server = server(&programs, dir.path(), client, api)?;
        let kubectl = Kubectl::new(
            programs.join("kubectl"),
            dir.path().join("kubeconfig"),
            dir.path().join("cache"),
        );
        let this = Self {
            dir,
            kubectl,
            _etcd: etcd,
            _server: server,
        };
        until("the API server is ready", async || {
            let answer = this.kubectl.run(&["get", "--raw", "/readyz"], "").await?;
            Ok(Fact::when(answer.code == 0, answer.err()))
        })
        .await?;
        Ok(this)
    }

    /// `kubectl` as its administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// A folder that ends with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?
        .local_addr()?
        .port())
}

fn etcd(programs: &Path, dir: &Path, client: u16, peer: u16) -> anyhow::Result<Child> {
    let (client, peer) = (
        format!("http://127.0.0.1:{client}"),
        format!("http://127.0.0.1:{peer}"),
    );
    let mut etcd = Command::new(programs.join("server"));
    etcd.arg("--data-dir").arg(dir.join("etcd"));
    etcd.args([
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
    ]);
    etcd.args(["--listen-peer-urls", &peer, "--unsafe-no-fsync"]);
    spawn(etcd, &dir.join("etcd.log"))
}

fn server(programs: &Path, dir: &Path, etcd: u16, port: u16) -> anyhow::Result<Child> {
    let mut server = Command::new(programs.join("kube-apiserver"));
    server.arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"));
    server.arg(format!("--secure-port={port}"));
    let file = |flag: &str, name: &str| format!("--{flag}={}", dir.join(name).display());
    server.args([
        file("cert-dir", "certs"),
        file("token-auth-file", "tokens.csv"),
        file("service-account-key-file", "account.key"),
        file("service-account-signing-key-file", "account.key"),
    ]);
    server.args([
        "--bind-address=127.0.0.1",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        // Nobody makes the default accounts here.
        "--disable-admission-plugins=ServiceAccount",
    ]);
    spawn(server, &dir.join("kube-apiserver.log"))
}

fn spawn(mut program: Command, log: &Path) -> anyhow::Result<Child> {
    let log = std::fs::File::create(log)?;
    program
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    program
        .spawn()
        .with_context(|| format!("running {program:?}"))
}

async fn write_credentials(dir: &Path, port: u16) -> anyhow::Result<()> {
    let key = dir.join("account.key");
    let made = Command::new("openssl")
        .args([
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
        ])
        .arg(&key)
        .status()
        .await
        .context("running openssl")?;
    anyhow::ensure!(made.success(), "openssl: {made}");
    let tokens = format!("{TOKEN},administrator,administrator,system:masters\n");
    std::fs::write(dir.join("tokens.csv"), tokens)?;
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true,
        }}],
        "users": [{"name": "it", "user": {"token": TOKEN}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    std::fs::write(dir.join("kubeconfig"), kubeconfig.to_string())?;
    Ok(())
}
