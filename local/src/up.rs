//! `weft up`: a folder of YAML as a mesh on this machine, until Ctrl-C.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::mesh::Mesh;
use crate::options::{Binaries, Options, Publish};

mod said;

use said::Said;

/// The pace at which the mesh is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Arguments of `weft up`.
#[derive(Clone, Debug, Parser)]
pub struct UpArgs {
    /// Folder of YAML; it is followed while the mesh runs
    #[arg(short = 'f', long = "folder", value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Put a Service on the host's loopback, as in 8080=shop/web:80 (repeatable)
    #[arg(long, value_name = "[ADDRESS:]PORT=NAMESPACE/SERVICE:PORT")]
    pub publish: Vec<Publish>,
    /// Name of this mesh; another name runs beside it
    #[arg(long, default_value = "default")]
    pub name: String,
    /// Where sockets, logs and state go [default: /run/weft/NAME]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Where weft-control-plane and weft-proxy are [default: beside this program]
    #[arg(long, value_name = "DIR", env = "WEFT_BIN_DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Trust domain of the mesh
    #[arg(long, default_value = "cluster.local")]
    pub trust_domain: String,
    /// Extra argument for the control plane (repeatable)
    #[arg(
        long = "control-plane-arg",
        value_name = "ARG",
        allow_hyphen_values = true
    )]
    pub control_plane_args: Vec<String>,
    /// Extra argument for every proxy (repeatable)
    #[arg(long = "proxy-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub proxy_args: Vec<String>,
}

impl UpArgs {
    /// The options that these arguments stand for.
    pub fn options(&self) -> anyhow::Result<Options> {
        let own = std::env::current_exe().context("finding this program")?;
        let dir = match &self.bin_dir {
            Some(dir) => dir
                .canonicalize()
                .with_context(|| format!("{}", dir.display()))?,
            None => own
                .parent()
                .context("this program lies nowhere")?
                .to_owned(),
        };
        let folder = self
            .folder
            .canonicalize()
            .with_context(|| format!("reading the folder {}", self.folder.display()))?;
        let run_dir = match &self.run_dir {
            Some(dir) => std::path::absolute(dir)?,
            None => PathBuf::from("/run/weft").join(&self.name),
        };
        let mut options = Options::new(folder, run_dir, Binaries::in_dir(&dir, own));
        options.publish.clone_from(&self.publish);
        options.trust_domain.clone_from(&self.trust_domain);
        options
            .control_plane_args
            .clone_from(&self.control_plane_args);
        options.proxy_args.clone_from(&self.proxy_args);
        Ok(options)
    }
}

/// Runs a mesh until SIGINT or SIGTERM, or until it fails. What happens is said on standard error.
pub fn up(args: UpArgs) -> anyhow::Result<()> {
    let options = args.options()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let mut mesh = Mesh::start(options).await?;
    eprintln!("logs and sockets in {}", mesh.options().run_dir.display());
    for (address, publish) in mesh.published().iter().zip(&mesh.options().publish) {
        let Publish {
            namespace,
            service,
            port,
            ..
        } = publish;
        eprintln!("{namespace}/{service}:{port} at http://{address}");
    }
    let client = (*mesh).clone();
    let watch = async {
        let mut said = Said::default();
        let mut findings = Vec::new();
        loop {
            // While the control plane is away, what it said last counts.
            if let Ok(found) = client.findings().await {
                findings = found;
            }
            if let Ok(status) = client.status().await {
                for line in said.news(&status, &findings) {
                    eprintln!("{line}");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        error = mesh.failed() => return Err(error),
        () = watch => {}
    }
    mesh.stop().await
}
