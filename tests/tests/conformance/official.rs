//! The run of the official suite, and what became of each of its tests. It is a program of its own
//! (`tests/conformance`), told by flags what to test; which features there are it asks the mesh.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::sync::OnceCell;
use weft_tests::artifacts::artifacts;
use weft_tests::cluster::{Cluster, Fact, Kubectl, Mesh, keep_namespace, path_from, until};
use weft_tests::runner::{Concurrency, Outcome, Test, anywhere};

use crate::folder;
use crate::traffic::{self, Traffic};

/// Every test of v1.6.1 that needs a mesh: MESH-HTTP has 7 that are core and 7 that are extended,
/// MESH-GRPC 2 (one of them core of both), and 7 are in no profile.
const TESTS: [&str; 22] = [
    "MeshBasic",
    "MeshConsumerRoute",
    "MeshFrontend",
    "MeshFrontendHostname",
    "MeshGRPCRouteWeight",
    "MeshHTTPRoute303Redirect",
    "MeshHTTPRoute307Redirect",
    "MeshHTTPRoute308Redirect",
    "MeshHTTPRouteMatching",
    "MeshHTTPRouteNamedRule",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteRedirectHostAndStatus",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRequestHeaderModifier",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "MeshHTTPRouteSimpleSameNamespace",
    "MeshHTTPRouteWeight",
    "MeshPorts",
    "MeshTrafficSplit",
    "MeshHTTPRouteBackendRequestHeaderModifier",
];

/// Namespaces that the suite makes, and has in the mesh: the second has clients only.
pub const SERVERS: &str = "gateway-conformance-mesh";
pub const CLIENTS: &str = "gateway-conformance-mesh-consumer";
/// All that a run makes: the others are in `backends.yaml`.
const NAMESPACES: [&str; 4] = [
    SERVERS,
    CLIENTS,
    "gateway-conformance-app-backend",
    "gateway-conformance-web-backend",
];

/// Longer than the suite takes: it waits for facts itself, each for a limited time.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// The tests of this file.
pub fn tests() -> Vec<Test> {
    let official = TESTS.map(|name| Test {
        name,
        concurrency: Concurrency::Shared,
        possible: anywhere,
        run: |name| Box::pin(passed(name)),
    });
    let all = Test {
        name: "these_are_all_that_need_a_mesh",
        concurrency: Concurrency::Shared,
        possible: anywhere,
        run: |_| Box::pin(ran_no_other()),
    };
    official.into_iter().chain([all]).collect()
}

async fn passed(name: &str) -> Outcome {
    let run = Run::done().await?;
    let verdict = run.verdicts.get(name).map_or("not run", String::as_str);
    anyhow::ensure!(
        verdict == "PASS",
        "{verdict}; what it said is in {}",
        run.log.display()
    );
    Ok(())
}

/// What has not been skipped needs nothing but a mesh, and is named above.
async fn ran_no_other() -> Outcome {
    let run = Run::done().await?;
    let ran = run
        .verdicts
        .iter()
        .filter(|(_, verdict)| *verdict != "SKIP");
    let mut ran: Vec<&str> = ran.map(|(name, _)| name.as_str()).collect();
    let mut named = TESTS;
    ran.sort_unstable();
    named.sort_unstable();
    anyhow::ensure!(ran == named, "the suite ran {ran:?}");
    Ok(())
}

/// The run, or why there is none: it is not tried again for each test.
static RUN: OnceCell<Result<Run, String>> = OnceCell::const_new();

/// A run of the suite, which is over.
#[derive(Debug)]
pub struct Run {
    /// By the test's name: `PASS`, `FAIL` or `SKIP`.
    verdicts: BTreeMap<String, String>,
    /// What it printed.
    log: PathBuf,
    /// What the proxies of its pods counted meanwhile.
    pub traffic: Traffic,
    /// What it wrote.
    pub report: PathBuf,
}

impl Run {
    /// The run of this suite: the first that asks waits for it.
    pub async fn done() -> anyhow::Result<&'static Self> {
        let run =
            RUN.get_or_init(async || Self::once().await.map_err(|error| format!("{error:#}")));
        let run = run.await.as_ref();
        run.map_err(|error| anyhow::anyhow!("there is no run of the suite: {error}"))
    }

    /// Runs it and leaves nothing, whatever comes of it.
    async fn once() -> anyhow::Result<Self> {
        let kubectl = Cluster::current()?.kubectl();
        let run = Self::new(kubectl).await;
        if !run.as_ref().is_ok_and(Self::all_passed) {
            keep_artifacts(kubectl).await?;
        }
        remove(kubectl).await?;
        run
    }

    async fn new(kubectl: &Kubectl) -> anyhow::Result<Self> {
        Mesh::install(kubectl).await?;
        name_the_mesh(kubectl).await?;
        let backends = std::fs::read_to_string(folder().join("backends.yaml"))?;
        kubectl.apply(&backends).await?;
        let dir = artifacts("conformance")?;
        let (log, report) = (dir.join("suite.log"), no_report()?);
        // It fails when one of its tests does: which ones it says.
        run_suite(kubectl, &log, &report).await?;
        if report.exists() {
            // The suite writes it for its user alone.
            std::fs::set_permissions(&report, Permissions::from_mode(0o644))?;
        }
        let said = std::fs::read_to_string(&log)?;
        let verdicts = verdicts(&said);
        anyhow::ensure!(!verdicts.is_empty(), "no test ran; see {}", log.display());
        Ok(Self {
            traffic: traffic::read(kubectl, &said).await?,
            verdicts,
            log,
            report,
        })
    }

    fn all_passed(&self) -> bool {
        let mut all = self.verdicts.values();
        all.all(|verdict| verdict != "FAIL")
    }
}

/// Where the report is kept, of which there is none then.
fn no_report() -> anyhow::Result<PathBuf> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/conformance");
    std::fs::create_dir_all(&docs)?;
    let report = docs.join("report.yaml");
    match std::fs::remove_file(&report) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(report),
    }
}

/// Makes the object by which the suite learns what the mesh can do, and waits until it says so.
async fn name_the_mesh(kubectl: &Kubectl) -> anyhow::Result<()> {
    let mesh = json!({
        "apiVersion": "gateway.networking.x-k8s.io/v1alpha1",
        "kind": "XMesh",
        "metadata": {"name": "weft"},
        "spec": {"controllerName": "mesh.weft.dev/controller"},
    });
    kubectl.apply(&mesh.to_string()).await?;
    until("the mesh says what it can do", async || {
        let mesh = kubectl.object("xmesh", "weft").await?;
        let features = mesh["status"]["supportedFeatures"].is_array();
        Ok(Fact::when(features, &mesh["status"]))
    })
    .await
}

/// Runs the program to its end. What it made stays.
async fn run_suite(kubectl: &Kubectl, log: &Path, report: &Path) -> anyhow::Result<()> {
    let mut build = Command::new(folder().join("../scripts/cached-go"));
    let program = path_from(build.arg(folder()))?.join("conformance.test");
    let out = std::fs::File::create(log)?;
    let mut suite = tokio::process::Command::new(&program);
    suite
        .env("KUBECONFIG", kubectl.kubeconfig())
        .arg("-test.v")
        .arg(format!("-test.timeout={}s", LIMIT.as_secs()))
        .args(["-mesh-name=weft", "-gateway-class="])
        .arg("-namespace-labels=mesh.weft.dev/inject=enabled")
        .arg("-conformance-profiles=MESH-HTTP,MESH-GRPC")
        // The proxies of its pods are asked afterwards.
        .arg("-cleanup-base-resources=false")
        .args(["-organization=weft", "-project=weft"])
        .args(["-url=https://weft.dev", "-contact=https://weft.dev"])
        .arg(concat!("-version=v", env!("CARGO_PKG_VERSION")))
        .arg(format!("-report-output={}", report.display()))
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .kill_on_drop(true);
    let mut suite = suite
        .spawn()
        .with_context(|| format!("running {}", program.display()))?;
    // It ends itself at the limit, and says what it waited for.
    tokio::time::timeout(LIMIT + Duration::from_secs(60), suite.wait())
        .await
        .context("the suite does not end")??;
    Ok(())
}

/// `--- PASS: TestConformance/NAME (1.00s)`, of tests but not of their parts.
fn verdicts(said: &str) -> BTreeMap<String, String> {
    let verdicts = said.lines().filter_map(|line| {
        let (verdict, rest) = line.trim_start().strip_prefix("--- ")?.split_once(": ")?;
        let name = rest.split(' ').next()?.strip_prefix("TestConformance/")?;
        (!name.contains('/')).then(|| (name.to_owned(), verdict.to_owned()))
    });
    verdicts.collect()
}

async fn keep_artifacts(kubectl: &Kubectl) -> anyhow::Result<()> {
    let dir = artifacts("conformance")?;
    for name in NAMESPACES.iter().chain(&["weft-system"]) {
        keep_namespace(&kubectl.in_namespace(name), &dir.join(name)).await?;
    }
    Ok(())
}

/// Deletes what the run made; the cluster ends the pods in its own time.
async fn remove(kubectl: &Kubectl) -> anyhow::Result<()> {
    let namespaces = [&["delete", "namespace"], &NAMESPACES[..]].concat();
    let later = ["--ignore-not-found", "--wait=false"];
    kubectl.text(&[&namespaces[..], &later].concat()).await?;
    kubectl.delete("xmesh", "weft").await
}
