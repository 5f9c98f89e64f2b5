//! A mesh for one test: YAML in a temporary folder, the programs as they were built, and what is
//! kept when the test fails.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use anyhow::Context;
use http::Method;
use serde_json::Value;
use tempfile::TempDir;
use weft_local::info::PodInfo;
use weft_local::{Binaries, Mesh, Options, Output};

use crate::artifacts::{artifacts, copy_folder};
use crate::runner::{Outcome, bounded};

mod waiting;

pub use waiting::LIMIT;

/// Where the run directories of meshes under test lie; also how leaks are told from others' things.
/// Other suites may run on this machine: each has its own.
pub fn run_root() -> String {
    format!("/run/weft/e2e-{}-", std::process::id())
}

/// How the folders of YAML are called; what follows is unique.
const PREFIX: &str = "weft-e2e-";

/// What a test's mesh is made of.
#[derive(Clone, Debug, Default)]
pub struct Fixture {
    files: Vec<(String, String)>,
    control_plane_args: Vec<String>,
    proxy_args: Vec<String>,
    publish: Vec<String>,
    without_control_plane: bool,
    control_plane: Option<PathBuf>,
    proxy: Option<PathBuf>,
}

impl Fixture {
    /// An empty folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this file in it.
    #[must_use]
    pub fn file(mut self, name: &str, yaml: impl Into<String>) -> Self {
        self.files.push((name.to_owned(), yaml.into()));
        self
    }

    /// With more arguments for the control plane.
    #[must_use]
    pub fn control_plane_args(mut self, args: &[&str]) -> Self {
        self.control_plane_args
            .extend(args.iter().map(|word| (*word).to_owned()));
        self
    }

    /// With more arguments for every proxy.
    #[must_use]
    pub fn proxy_args(mut self, args: &[&str]) -> Self {
        self.proxy_args
            .extend(args.iter().map(|word| (*word).to_owned()));
        self
    }

    /// With a Service on the host's loopback.
    #[must_use]
    pub fn publish(mut self, publish: &str) -> Self {
        self.publish.push(publish.to_owned());
        self
    }

    /// With a control plane that starts only when told to.
    #[must_use]
    pub fn without_control_plane(mut self) -> Self {
        self.without_control_plane = true;
        self
    }

    /// With this program as its control plane.
    #[must_use]
    pub fn control_plane(mut self, program: PathBuf) -> Self {
        self.control_plane = Some(program);
        self
    }

    /// With this program as its proxies.
    #[must_use]
    pub fn proxy(mut self, program: PathBuf) -> Self {
        self.proxy = Some(program);
        self
    }

    /// Starts the mesh; its pods may not be ready yet.
    pub async fn start(self, name: &str) -> anyhow::Result<TestMesh> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        for (file, yaml) in &self.files {
            std::fs::write(folder.path().join(file), yaml)?;
        }
        let unique = folder
            .path()
            .file_name()
            .context("no name")?
            .to_string_lossy()
            .into_owned();
        let run_dir = PathBuf::from(run_root() + unique.trim_start_matches(PREFIX));
        let mut binaries = binaries()?;
        binaries.control_plane = self.control_plane.unwrap_or(binaries.control_plane);
        binaries.proxy = self.proxy.unwrap_or(binaries.proxy);
        let mut options = Options::new(folder.path().to_owned(), run_dir, binaries);
        options.control_plane_args = self.control_plane_args;
        options.proxy_args = self.proxy_args;
        options.start_control_plane = !self.without_control_plane;
        options.publish = self
            .publish
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?;
        Ok(TestMesh {
            mesh: Mesh::start(options).await?,
            folder,
            name: name.to_owned(),
        })
    }
}

/// The folder of the programs under test: beside the suite's own, or `WEFT_BIN_DIR`.
pub fn bin_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("WEFT_BIN_DIR") {
        return Ok(PathBuf::from(dir).canonicalize()?);
    }
    let own = std::env::current_exe()?;
    let dir = own
        .parent()
        .and_then(Path::parent)
        .context("the suite lies nowhere")?;
    Ok(dir.to_owned())
}

/// The path of a program under test, or of this crate.
pub fn program(name: &str) -> anyhow::Result<String> {
    let path = bin_dir()?.join(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is missing; run `make build-tests`",
        path.display()
    );
    Ok(path.display().to_string())
}

fn binaries() -> anyhow::Result<Binaries> {
    let dir = bin_dir()?;
    let local = dir.join("weft-local");
    Ok(Binaries::in_dir(&dir, local))
}

/// A mesh under test. Dereferences to [`Mesh`].
#[derive(Debug)]
pub struct TestMesh {
    mesh: Mesh,
    folder: TempDir,
    name: String,
}

impl Deref for TestMesh {
    type Target = Mesh;

    fn deref(&self) -> &Mesh {
        &self.mesh
    }
}

impl TestMesh {
    /// Saves a file in the folder, as editors do: written beside it and renamed.
    pub fn write(&self, name: &str, yaml: &str) -> anyhow::Result<()> {
        let unfinished = self.folder.path().join(format!(".{name}.swp"));
        std::fs::write(&unfinished, yaml)?;
        std::fs::rename(unfinished, self.folder.path().join(name))?;
        Ok(())
    }

    /// Removes a file from the folder.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.folder.path().join(name))?)
    }

    /// The one pod of a Deployment, or the pod of this name.
    pub async fn pod(&self, namespace: &str, name: &str) -> anyhow::Result<PodInfo> {
        let mut pods = self.pods_of(namespace, name).await?;
        pods.pop()
            .with_context(|| format!("there is no pod of {namespace}/{name}"))
    }

    /// Runs curl in the pod of `from` (`namespace/deployment`): its output and exit code.
    pub async fn curl(&self, from: &str, args: &[&str]) -> anyhow::Result<Output> {
        let argv = [&["curl", "-sS", "--max-time", "20"], args].concat();
        self.run_in(from, &argv).await
    }

    /// Runs a command in the pod of `from` (`namespace/deployment`).
    pub async fn run_in(&self, from: &str, argv: &[&str]) -> anyhow::Result<Output> {
        let (namespace, name) = from.split_once('/').context("write namespace/deployment")?;
        let pod = self.pod(namespace, name).await?;
        self.exec(namespace, &pod.name, argv).await
    }

    /// The status that curl got, 0 for none.
    pub async fn status_of(&self, from: &str, args: &[&str]) -> anyhow::Result<u16> {
        let args = [&["-o", "/dev/null", "-w", "%{http_code}"], args].concat();
        Ok(self.curl(from, &args).await?.out().parse()?)
    }

    /// The JSON that `weft-echo` answered.
    pub async fn echo(&self, from: &str, args: &[&str]) -> anyhow::Result<Value> {
        let output = self.curl(from, args).await?;
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!(
                "curl {args:?} from {from}: exit {}: {}{}",
                output.code,
                output.out(),
                output.err()
            )
        })
    }

    /// Keeps what explains a failure: logs, dumps of every proxy and the control plane, sockets, rules.
    pub async fn keep_artifacts(&self) -> anyhow::Result<PathBuf> {
        let dir = artifacts(&self.name)?;
        for log in std::fs::read_dir(self.logs())?.flatten() {
            std::fs::copy(log.path(), dir.join(log.file_name()))?;
        }
        let status = self.status().await?;
        std::fs::write(dir.join("status.json"), serde_json::to_vec_pretty(&status)?)?;
        for pod in status.pods.iter().filter(|pod| pod.meshed) {
            let dump = self
                .proxy_admin(&pod.namespace, &pod.name, Method::GET, "/config")
                .await;
            let text = dump.map_or_else(|error| format!("{error:#}").into(), |(_, body)| body);
            std::fs::write(
                dir.join(format!("{}.{}.config.json", pod.namespace, pod.name)),
                text,
            )?;
            for (what, argv) in [
                ("ss", &["ss", "-tanp"][..]),
                ("nft", &["nft", "list", "ruleset"]),
            ] {
                let output = self.exec(&pod.namespace, &pod.name, argv).await?;
                std::fs::write(
                    dir.join(format!("{}.{}.{what}.txt", pod.namespace, pod.name)),
                    output.stdout,
                )?;
            }
        }
        for path in ["/v1/proxies", "/v1/diagnostics", "/v1/snapshot"] {
            if let Ok((_, body)) = self.control_plane_admin_request(Method::GET, path).await {
                let name = path.trim_start_matches("/v1/");
                std::fs::write(dir.join(format!("control-plane.{name}.json")), body)?;
            }
        }
        let rules = self.exec_outside(&["nft", "list", "ruleset"]).await?;
        std::fs::write(dir.join("outer.nft.txt"), rules.stdout)?;
        copy_folder(&self.generated_objects(), &dir.join("objects"))?;
        copy_folder(self.folder.path(), &dir.join("folder"))?;
        Ok(dir)
    }

    /// Ends the mesh.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.mesh.stop().await
    }
}

/// The body of a test with a mesh.
pub type Body = for<'a> fn(&'a TestMesh) -> Pin<Box<dyn Future<Output = Outcome> + 'a>>;

/// Runs a test's body with a mesh of its own.
pub async fn in_mesh(name: &str, fixture: fn() -> anyhow::Result<Fixture>, body: Body) -> Outcome {
    let mesh = fixture()?.start(name).await?;
    let result = match bounded(body(&mesh)).await {
        Ok(()) => Ok(()),
        Err(error) => Err(match mesh.keep_artifacts().await {
            Ok(dir) => error.context(format!("artifacts in {}", dir.display())),
            Err(lost) => error.context(format!("no artifacts: {lost:#}")),
        }),
    };
    mesh.stop().await?;
    result
}
