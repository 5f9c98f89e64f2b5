//! A mesh on this machine, owned by the process that started it: its outer namespaces, its run
//! directory and the published ports on the host's loopback go when it goes, however it goes.

use std::fs::File;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::init;
use crate::options::{Layout, Options, Publish};

/// The longest run directory whose sockets' paths still fit (`sun_path` has 107 bytes, and
/// `/pods/UID/weft/admin.sock` 58).
const MAX_RUN_DIR: usize = 49;
/// How long the namespaces and the supervisor may take to come up.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A mesh that runs for as long as this value lives. Everything that can be asked of it is on
/// [`Client`], to which it dereferences.
#[derive(Debug)]
pub struct Mesh {
    client: Client,
    options: Options,
    outer: Child,
    /// Its end is what ends the mesh, also when this process is killed.
    stdin: Option<ChildStdin>,
    published: Vec<SocketAddr>,
    publishers: JoinSet<()>,
    _lock: File,
}

impl Deref for Mesh {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Mesh {
    /// Starts a mesh and returns when its supervisor answers; pods may still be starting.
    ///
    /// # Errors
    /// No root, missing programs, another mesh in the same run directory, a taken port, or a
    /// machine that permits no namespaces.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        check(&options)?;
        let layout = options.layout();
        let lock = claim(layout.root())?;
        std::fs::create_dir_all(layout.logs())?;
        std::fs::write(layout.options(), serde_json::to_vec_pretty(&options)?)?;
        let mut listeners = Vec::new();
        for publish in &options.publish {
            let listener = TcpListener::bind(publish.listen)
                .await
                .with_context(|| format!("publishing at {}", publish.listen))?;
            listeners.push((listener, publish.clone()));
        }
        let log = File::create(layout.logs().join("supervisor.log"))?;
        let mut outer = Command::new("unshare")
            .args([
                "--net",
                "--pid",
                "--mount",
                "--ipc",
                "--uts",
                "--fork",
                "--kill-child",
            ])
            .args(["--mount-proc", "--"])
            .arg(&options.binaries.local)
            .arg(init::COMMAND)
            .arg(layout.root())
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the owner alone.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("starting unshare (package util-linux)")?;
        let stdin = outer.stdin.take();
        let mut published = Vec::new();
        let mut publishers = JoinSet::new();
        for (listener, publish) in listeners {
            published.push(listener.local_addr()?);
            publishers.spawn(serve_published(listener, publish, layout.clone()));
        }
        let mut mesh = Self {
            client: Client::new(layout.root()),
            options,
            outer,
            stdin,
            published,
            publishers,
            _lock: lock,
        };
        mesh.wait_for_supervisor(&layout).await?;
        Ok(mesh)
    }

    /// What it was started with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Where the published Services listen, in the order of the options.
    pub fn published(&self) -> &[SocketAddr] {
        &self.published
    }

    /// Waits until the mesh ends by itself, which it does only by failing.
    pub async fn failed(&mut self) -> anyhow::Error {
        let status = self.outer.wait().await;
        let log = std::fs::read_to_string(self.client.logs().join("supervisor.log"));
        let log = log.unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(10).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        anyhow::anyhow!("the mesh ended ({status:?}):\n{}", last.join("\n"))
    }

    /// Ends everything and removes the run directory.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.publishers.shutdown().await;
        drop(self.stdin.take());
        self.outer.wait().await?;
        std::fs::remove_dir_all(&self.options.run_dir)
            .with_context(|| format!("removing {}", self.options.run_dir.display()))?;
        std::fs::remove_file(lock_path(&self.options.run_dir)?)?;
        Ok(())
    }

    async fn wait_for_supervisor(&mut self, layout: &Layout) -> anyhow::Result<()> {
        let socket = layout.supervisor_socket();
        let answers = async {
            while UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = answers => Ok(()),
            error = self.failed() => Err(error),
            () = tokio::time::sleep(START_LIMIT) => {
                anyhow::bail!("the supervisor does not answer; see {}", layout.logs().display())
            }
        }
    }
}

fn check(options: &Options) -> anyhow::Result<()> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "a mesh on this machine needs root: it creates network, PID and mount namespaces"
    );
    let run_dir = &options.run_dir;
    anyhow::ensure!(
        run_dir.is_absolute() && options.folder.is_absolute(),
        "the run directory and the folder must be absolute paths"
    );
    anyhow::ensure!(
        run_dir.as_os_str().len() <= MAX_RUN_DIR && !run_dir.to_string_lossy().contains([',', ':']),
        "the run directory {} is longer than {MAX_RUN_DIR} bytes or contains ',' or ':'",
        run_dir.display()
    );
    anyhow::ensure!(
        options.folder.is_dir(),
        "{} is no folder",
        options.folder.display()
    );
    let binaries = &options.binaries;
    for binary in [&binaries.local, &binaries.control_plane, &binaries.proxy] {
        anyhow::ensure!(
            binary.is_absolute() && binary.is_file(),
            "{} is missing; build it first (cargo build --workspace --bins)",
            binary.display()
        );
    }
    Ok(())
}

fn lock_path(run_dir: &Path) -> anyhow::Result<PathBuf> {
    let name = run_dir
        .file_name()
        .context("the run directory has no name")?
        .to_string_lossy();
    Ok(run_dir.with_file_name(format!(".{name}.lock")))
}

/// Takes the run directory for this process and removes what a dead owner left there.
fn claim(run_dir: &Path) -> anyhow::Result<File> {
    let path = lock_path(run_dir)?;
    std::fs::create_dir_all(path.parent().unwrap_or(run_dir))?;
    let lock = File::create(path)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .with_context(|| format!("another mesh runs in {}", run_dir.display()))?;
    if run_dir.exists() {
        std::fs::remove_dir_all(run_dir)
            .with_context(|| format!("removing the remains in {}", run_dir.display()))?;
    }
    std::fs::create_dir(run_dir)?;
    Ok(lock)
}

async fn serve_published(listener: TcpListener, publish: Publish, layout: Layout) {
    let mut connections = JoinSet::new();
    loop {
        // An error concerns one connection that is gone already.
        if let Ok((stream, _)) = listener.accept().await {
            let (publish, socket) = (publish.clone(), layout.publish_socket());
            connections.spawn(async move {
                let _ = join(stream, &publish, &socket).await;
            });
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn join(mut stream: TcpStream, publish: &Publish, socket: &Path) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut inner = UnixStream::connect(socket).await?;
    let line = format!(
        "{}/{}:{}\n",
        publish.namespace, publish.service, publish.port
    );
    inner.write_all(line.as_bytes()).await?;
    tokio::io::copy_bidirectional(&mut stream, &mut inner).await?;
    Ok(())
}
