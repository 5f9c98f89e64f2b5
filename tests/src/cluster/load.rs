//! Load clients in pods of the cluster: each runs detached in its container, so that it goes on while
//! the API server, by which it was started, is away.

use weft_local::Output;

use super::Namespace;
use crate::load::{Place, STOP_FILE};

/// What the client says at its end, and then its status.
const REPORT: &str = "/tmp/weft-load.report";
const STATUS: &str = "/tmp/weft-load.status";
/// The container of a client's pod ([`super::client`]).
const CONTAINER: &str = "client";

impl Place for Namespace {
    type Running = ();

    async fn start(&self, pod: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let script = format!(
            "rm -f {STATUS}; (weft-load \"$@\"; echo $? >{STATUS}) </dev/null >{REPORT} 2>&1 &"
        );
        let argv = [&["sh", "-c", &script, "sh"], arguments].concat();
        let started = self.exec(pod, CONTAINER, &argv).await?;
        anyhow::ensure!(started.code == 0, "{pod}: {}", started.err());
        Ok(())
    }

    async fn stop(&self, pod: &str, (): ()) -> anyhow::Result<Output> {
        let script = format!(
            "touch {STOP_FILE}; until [ -s {STATUS} ]; do sleep 0.1; done; cat {REPORT}; exit $(cat {STATUS})"
        );
        self.exec(pod, CONTAINER, &["sh", "-c", &script]).await
    }
}
