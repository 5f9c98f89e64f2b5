//! `weft exec`: a command in a pod of a mesh on this machine, intercepted like the application's own traffic.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use weft_local::Client;
use weft_local::info::{Channel, ExecRequest, PodInfo};

use crate::run_dir::RunDir;

/// Runs a command in a pod, as root, with the pod's network and names: what it calls goes through the pod's proxy.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The pod, or a Deployment for any ready pod of it.
    #[arg(value_name = "NAMESPACE/POD")]
    pod: String,
    /// The command and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<String>,
    #[command(flatten)]
    mesh: RunDir,
}

impl Arguments {
    /// Ends as the command does.
    pub(crate) async fn run(&self) -> Result<ExitCode> {
        let status = self.mesh.status().await?;
        let Some(pod) = chosen(&status.pods, &self.pod) else {
            let all: Vec<String> = status.pods.iter().map(name).collect();
            let all = all.join("\n  ");
            bail!(
                "no pod or Deployment {:?} runs; these pods do:\n  {all}",
                self.pod
            );
        };
        let request = ExecRequest {
            pod: Some((pod.namespace.clone(), pod.name.clone())),
            argv: self.command.clone(),
            ..ExecRequest::default()
        };
        let mut running = Client::new(&self.mesh.path()).start(&request).await?;
        while let Some((channel, bytes)) = running.next().await? {
            match channel {
                Channel::Out => write(std::io::stdout().lock(), &bytes)?,
                Channel::Err => write(std::io::stderr().lock(), &bytes)?,
                Channel::Exit => {
                    let code: i32 = std::str::from_utf8(&bytes)?.parse()?;
                    return Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)));
                }
            }
        }
        bail!("the mesh went away while the command ran")
    }
}

fn write(mut out: impl Write, bytes: &[u8]) -> std::io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

fn name(pod: &PodInfo) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

/// The pod of this name, else a pod of the Deployment of this name, a ready one if there is one.
fn chosen<'a>(pods: &'a [PodInfo], wanted: &str) -> Option<&'a PodInfo> {
    let staying = || pods.iter().filter(|pod| !pod.terminating);
    let of_deployment = |pod: &&PodInfo| RunDir::workload(pod) == wanted;
    staying()
        .find(|pod| name(pod) == wanted)
        .or_else(|| staying().filter(of_deployment).max_by_key(|pod| pod.ready))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, deployment: Option<&str>, ready: bool) -> PodInfo {
        serde_json::from_value(serde_json::json!({
            "namespace": "shop", "name": name, "uid": "", "deployment": deployment, "labels": {}, "ips": [], "meshed": true,
            "ready": ready, "terminating": false, "sandbox_pid": null, "containers": {}, "error": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_is_chosen_by_its_name_or_its_deployments() {
        let pods = [
            pod("web-1", Some("web"), false),
            pod("web-2", Some("web"), true),
            pod("web", None, true),
        ];
        let found = |wanted| chosen(&pods, wanted).map(|pod| pod.name.as_str());
        assert_eq!(found("shop/web-1"), Some("web-1"));
        assert_eq!(found("shop/web"), Some("web"));
        assert_eq!(
            chosen(&pods[..2], "shop/web").map(|pod| pod.name.as_str()),
            Some("web-2")
        );
        assert_eq!(found("other/web"), None);
    }
}
