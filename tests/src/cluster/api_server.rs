//! An API server by itself, with etcd behind it, on loopback: for what asks nothing more of a
//! cluster, and must not disturb one. It has no nodes, and controllers neither.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::Context;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{Fact, Kubectl, programs, until};

/// The only user, who may do everything.
const TOKEN: &str = "administrator";
const ETCD: u16 = 2379;
const ETCD_PEERS: u16 = 2380;
const API: u16 = 6443;

/// A loopback address that nobody else has, so that a program finds its ports free: a port that was
/// free a moment ago is another's by the time a program binds it.
pub fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let count = COUNT.fetch_add(1, Ordering::Relaxed) % 100;
    Ipv4Addr::new(127, 100 + count, high, low)
}

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
        let address = own_address();
        let etcd = etcd(&programs, dir.path(), address)?;
        write_credentials(dir.path(), address).await?;
        let server = server(&programs, dir.path(), address)?;
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

fn etcd(programs: &Path, dir: &Path, address: Ipv4Addr) -> anyhow::Result<Child> {
    let url = |port| format!("http://{address}:{port}");
    let (client, peer) = (url(ETCD), url(ETCD_PEERS));
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

fn server(programs: &Path, dir: &Path, address: Ipv4Addr) -> anyhow::Result<Child> {
    let mut server = Command::new(programs.join("kube-apiserver"));
    server.arg(format!("--etcd-servers=http://{address}:{ETCD}"));
    server.arg(format!("--bind-address={address}"));
    server.arg(format!("--secure-port={API}"));
    let file = |flag: &str, name: &str| format!("--{flag}={}", dir.join(name).display());
    server.args([
        file("cert-dir", "certs"),
        file("token-auth-file", "tokens.csv"),
        file("service-account-key-file", "account.key"),
        file("service-account-signing-key-file", "account.key"),
    ]);
    server.args([
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

async fn write_credentials(dir: &Path, address: Ipv4Addr) -> anyhow::Result<()> {
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
            "server": format!("https://{address}:{API}"), "insecure-skip-tls-verify": true,
        }}],
        "users": [{"name": "it", "user": {"token": TOKEN}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    std::fs::write(dir.join("kubeconfig"), kubeconfig.to_string())?;
    Ok(())
}
