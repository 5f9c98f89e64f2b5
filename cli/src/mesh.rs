//! Which mesh is meant: one of this machine, or one in a cluster.

use anyhow::Result;

use crate::cluster::{Cluster, ClusterFlags};
use crate::run_dir::RunDir;

/// The mesh: one of this machine if it is named or runs under the default name, else that of the cluster.
#[derive(clap::Args)]
pub(crate) struct Mesh {
    #[command(flatten)]
    run_dir: RunDir,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Where it is.
pub(crate) enum Place<'a> {
    Machine(&'a RunDir),
    Cluster(Cluster),
}

impl Mesh {
    /// Where the mesh is; nothing is contacted yet.
    pub(crate) async fn place(&self) -> Result<Place<'_>> {
        let folder = self.run_dir.is_given() || self.run_dir.has_mesh();
        if folder && !self.cluster.are_given() {
            return Ok(Place::Machine(&self.run_dir));
        }
        Ok(Place::Cluster(self.cluster.connect().await?))
    }
}
