//! Where everything runs: one mesh of `weft-local` with the contenders' pods in it. The peers' pods
//! are ordinary pods that the mesh leaves alone; Weft's are meshed like anybody's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tempfile::TempDir;
use weft_local::info::Status;
use weft_local::{Binaries, Client, Mesh, Options};

use crate::RunFlags;
use crate::backend;
use crate::case::Target;
use crate::contender::Contender;
use crate::cpu::Processes;
use crate::credentials::{Credentials, Issuer};
use crate::manifests::{self, CLIENT_PORTS, INTRUDER, MESHED_INTRUDER, NAMESPACE, Peer, Programs};

/// How long pods may take to become ready.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// The proxies' settings that make them comparable: one key exchange for all, one worker.
const WEFT_PROXY_ARGS: [&str; 5] = ["--key-exchange", "x25519", "--workers", "1", "--log=warn"];

/// The running pods of all contenders.
#[derive(Debug)]
pub struct Cluster {
    mesh: Mesh,
    /// Shared with the pods; in memory.
    files: TempDir,
    contenders: Vec<Contender>,
    programs: Programs,
    issuer: Issuer,
    credentials: BTreeMap<String, Credentials>,
    commands: BTreeMap<String, Vec<String>>,
}

impl Cluster {
    /// Starts the pods of `contenders` and waits until they are ready.
    pub async fn start(flags: &RunFlags, contenders: &[Contender]) -> anyhow::Result<Self> {
        // /dev/shm is a mount of its own, which pods share with the machine.
        let files = tempfile::Builder::new()
            .prefix("weft-bench-")
            .tempdir_in("/dev/shm")?;
        let folder = files.path().join("manifests");
        std::fs::create_dir(&folder)?;
        let own = std::env::current_exe()?;
        let programs = Programs {
            bench: own.clone(),
            envoy: which(&flags.envoy)?,
        };
        let issuer = Issuer::new(files.path())?;
        let mut credentials = BTreeMap::new();
        let pods = contenders.iter().filter(|contender| contender.is_peer());
        let pods = pods.flat_map(|peer| [peer.client_pod(), peer.server_pod()]);
        for account in pods.chain([INTRUDER.to_owned()]) {
            credentials.insert(account.clone(), issuer.issue(&account)?);
        }
        write_application_files(files.path())?;
        let run_dir = PathBuf::from(format!("/run/weft-bench-{}", std::process::id()));
        let mut options = Options::new(folder, run_dir, binaries(flags, own, contenders)?);
        options.start_control_plane = contenders.contains(&Contender::Weft);
        options.proxy_args = WEFT_PROXY_ARGS.map(str::to_owned).to_vec();
        let mut cluster = Self {
            mesh: Mesh::start(options).await?,
            files,
            contenders: contenders.to_vec(),
            programs,
            issuer,
            credentials,
            commands: BTreeMap::new(),
        };
        cluster.deploy("servers", Self::servers).await?;
        let status = cluster.mesh.status().await?;
        cluster
            .deploy("clients", |cluster| cluster.clients(&status))
            .await?;
        Ok(cluster)
    }

    /// The mesh.
    pub fn mesh(&self) -> &Client {
        &self.mesh
    }

    /// Weft's proxy, if Weft takes part.
    pub fn weft_proxy(&self) -> Option<&Path> {
        let takes_part = self.contenders.contains(&Contender::Weft);
        takes_part.then_some(&*self.mesh.options().binaries.proxy)
    }

    /// Where the mesh's logs and sockets are.
    pub fn run_dir(&self) -> &Path {
        &self.mesh.options().run_dir
    }

    /// The directory that pods share with the machine.
    pub fn files(&self) -> &Path {
        self.files.path()
    }

    /// The programs in the pods.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// How the peers' proxies are started, by pod.
    pub fn commands(&self) -> BTreeMap<String, Vec<String>> {
        let mut commands = self.commands.clone();
        for program in commands.values_mut().filter_map(|words| words.first_mut()) {
            // Where it lies is this machine's business.
            let name = Path::new(program.as_str()).file_name();
            *program = name.unwrap_or_default().to_string_lossy().into_owned();
        }
        commands
    }

    /// The identity of a peer's pod.
    pub fn credentials(&self, pod: &str) -> anyhow::Result<&Credentials> {
        self.credentials
            .get(pod)
            .with_context(|| format!("no certificate for {pod}"))
    }

    /// A peer whose proxy beside client or server shows `own` and expects `other`.
    pub fn peer(&self, contender: Contender, own: &str, other: &str) -> anyhow::Result<Peer<'_>> {
        Ok(Peer {
            contender,
            own: self.credentials(own)?,
            other: self.credentials(other)?.id.to_string(),
            root: &self.issuer.root,
        })
    }

    /// The IPv4 address of a pod.
    pub async fn address(&self, pod: &str) -> anyhow::Result<IpAddr> {
        address(&self.mesh.status().await?, pod)
    }

    /// Where the load of `contender` goes.
    pub async fn target(&self, contender: Contender) -> anyhow::Result<Target> {
        let (host, http, grpc) = match contender {
            Contender::Direct => (
                self.address(&contender.server_pod()).await?.to_string(),
                8080,
                50051,
            ),
            // The Service's address over IPv4, as all others have it.
            Contender::Weft => (self.service_address().await?.to_string(), 8080, 50051),
            _ => ("127.0.0.1".to_owned(), CLIENT_PORTS.http, CLIENT_PORTS.grpc),
        };
        Ok(Target {
            http: format!("{host}:{http}"),
            grpc: format!("{host}:{grpc}"),
        })
    }

    async fn service_address(&self) -> anyhow::Result<IpAddr> {
        let name = Contender::Weft.server_pod();
        let status = self.mesh.status().await?;
        let service = status.services.iter().find(|info| info.name == name);
        let address = service.and_then(|info| info.ips.iter().find(|ip| ip.is_ipv4()));
        address
            .copied()
            .with_context(|| format!("the Service {name} has no address"))
    }

    /// The proxies of `contender`, client's first.
    pub async fn proxies(&self, contender: Contender) -> anyhow::Result<Option<Processes>> {
        let Some(container) = contender.proxy_container() else {
            return Ok(None);
        };
        let status = self.mesh.status().await?;
        let pid = |pod: String| {
            let pod = status.pods.iter().find(|info| info.name == pod)?;
            pod.containers.get(container)?.pid
        };
        let pids = [pid(contender.client_pod()), pid(contender.server_pod())];
        let [Some(client), Some(server)] = pids else {
            anyhow::bail!("a proxy of {contender} does not run: {pids:?}");
        };
        Processes::of_mesh(&self.mesh, &[client, server])
            .await
            .map(Some)
    }

    /// Ends everything.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.mesh.stop().await
    }

    /// Adds objects to the folder and waits until they run.
    async fn deploy(
        &mut self,
        name: &str,
        objects: impl FnOnce(&mut Self) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        let text = objects(self)?;
        let pods = text.matches("\"kind\": \"Pod\"").count() + self.mesh.status().await?.pods.len();
        let folder = &self.mesh.options().folder;
        std::fs::write(folder.join(format!("{name}.yaml")), text)?;
        let settled = self.mesh.wait_for(READY_LIMIT, "settled", |status| {
            status.settled && status.pods.len() == pods
        });
        let status = settled.await.with_context(|| self.log_tails())?;
        anyhow::ensure!(status.faults.is_empty(), "{}", status.faults.join("\n"));
        Ok(())
    }

    /// The last lines of every log, for when something does not start.
    fn log_tails(&self) -> String {
        let mut tails = String::new();
        for entry in std::fs::read_dir(self.mesh.logs())
            .into_iter()
            .flatten()
            .flatten()
        {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.len().saturating_sub(5);
            if last < lines.len() {
                tails += &format!(
                    "{}:\n{}\n",
                    entry.path().display(),
                    lines[last..].join("\n")
                );
            }
        }
        tails
    }

    /// Everything that no address of another pod is needed for.
    fn servers(&mut self) -> anyhow::Result<String> {
        let nginx_conf = self.files.path().join("nginx.conf");
        let application = || manifests::application(&self.programs, &nginx_conf);
        let mut objects = vec![
            manifests::namespace(),
            manifests::pod(INTRUDER, false, application()),
        ];
        let mut commands = BTreeMap::new();
        for contender in &self.contenders {
            let name = contender.server_pod();
            let mut containers = application();
            if contender.is_peer() {
                let peer = self.peer(*contender, &name, &contender.client_pod())?;
                let config = peer.file(self.files.path(), "server");
                std::fs::write(&config, peer.server()?)?;
                let command = peer.command(&self.programs, &config);
                containers.push(manifests::container("proxy", &command));
                commands.insert(name.clone(), command);
            }
            objects.push(manifests::pod(
                &name,
                *contender == Contender::Weft,
                containers,
            ));
        }
        self.commands.extend(commands);
        let mut text = manifests::documents(&objects);
        if self.contenders.contains(&Contender::Weft) {
            text += &format!("---\n{}", manifests::WEFT);
        }
        Ok(text)
    }

    fn clients(&mut self, status: &Status) -> anyhow::Result<String> {
        let mut objects = Vec::new();
        let mut commands = BTreeMap::new();
        for contender in &self.contenders {
            let name = contender.client_pod();
            let mut containers = vec![manifests::idle()];
            if contender.is_peer() {
                let server = contender.server_pod();
                let peer = self.peer(*contender, &name, &server)?;
                let config = peer.file(self.files.path(), "client");
                std::fs::write(
                    &config,
                    peer.client(address(status, &server)?, CLIENT_PORTS)?,
                )?;
                let command = peer.command(&self.programs, &config);
                containers.push(manifests::container("proxy", &command));
                commands.insert(name.clone(), command);
            }
            objects.push(manifests::pod(
                &name,
                *contender == Contender::Weft,
                containers,
            ));
        }
        if self.contenders.contains(&Contender::Weft) {
            objects.push(meshed_intruder());
        }
        self.commands.extend(commands);
        Ok(manifests::documents(&objects))
    }
}

fn meshed_intruder() -> Value {
    manifests::pod(MESHED_INTRUDER, true, vec![manifests::idle()])
}

fn address(status: &Status, pod: &str) -> anyhow::Result<IpAddr> {
    let of_pod =
        |info: &&weft_local::info::PodInfo| info.namespace == NAMESPACE && info.name == pod;
    let info = status
        .pods
        .iter()
        .find(of_pod)
        .with_context(|| format!("no pod {pod}"))?;
    info.ips
        .first()
        .copied()
        .with_context(|| format!("{pod} has no address"))
}

/// nginx's configuration, the body of 1 GiB (sparse), the gRPC request.
fn write_application_files(files: &Path) -> anyhow::Result<()> {
    let gib = files.join("gib");
    std::fs::File::create(&gib)?.set_len(1 << 30)?;
    std::fs::write(files.join("nginx.conf"), manifests::nginx_conf(&gib)?)?;
    std::fs::write(files.join("grpc-request"), backend::framed(64))?;
    // Workers of nginx run under another user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(files, open)?;
    Ok(())
}

fn binaries(flags: &RunFlags, own: PathBuf, contenders: &[Contender]) -> anyhow::Result<Binaries> {
    if !contenders.contains(&Contender::Weft) {
        // Nothing is meshed, so that neither program is ever started.
        return Ok(Binaries {
            local: own.clone(),
            control_plane: own.clone(),
            proxy: own,
        });
    }
    let dir = match &flags.bin_dir {
        Some(dir) => dir
            .canonicalize()
            .with_context(|| dir.display().to_string())?,
        None => own
            .parent()
            .context("this program lies nowhere")?
            .to_owned(),
    };
    Ok(Binaries::in_dir(&dir, own))
}

/// The program as an absolute path, looked for in PATH like a shell would.
fn which(program: &Path) -> anyhow::Result<PathBuf> {
    if program.components().count() > 1 {
        return program
            .canonicalize()
            .with_context(|| program.display().to_string());
    }
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("{} is not installed", program.display()))
}
