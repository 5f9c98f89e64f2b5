//! Follows the user's folder through `weft-source` and turns every change into what is to run.

use std::sync::Arc;

use anyhow::Context;
use tracing::{info, warn};
use weft_api::FieldPath;
use weft_source::{Batch, FolderSource, Objects};

use super::cluster::Cluster;
use crate::workload::{Desired, Problem};

/// Follows the folder for as long as the mesh lives.
pub async fn follow(cluster: Arc<Cluster>) -> anyhow::Result<()> {
    let (mut source, first) = FolderSource::open(vec![cluster.options.folder.clone()]).await?;
    let mut objects = Objects::default();
    take(&cluster, &mut objects, first);
    loop {
        let batch = source
            .next()
            .await
            .context("nobody follows the folder any more")?;
        take(&cluster, &mut objects, batch);
    }
}

fn take(cluster: &Cluster, objects: &mut Objects, batch: Batch) {
    let locator = batch.locator;
    for change in batch.objects {
        objects.apply(change);
    }
    let desired = Desired::from_objects(objects);
    let located = |problem: &Problem| {
        let place = locator.place_of(&problem.object, &FieldPath::parse(&problem.field));
        place.map_or_else(
            || problem.to_string(),
            |place| format!("{place}: {problem}"),
        )
    };
    let mut faults: Vec<String> = batch.diagnostics.iter().map(|one| one.line()).collect();
    faults.extend(desired.problems.iter().map(located));
    for fault in &faults {
        warn!("{fault}");
    }
    info!(
        deployments = desired.deployments.len(),
        pods = desired.pods.len(),
        "folder read"
    );
    cluster.update(|state| {
        state.desired = desired;
        state.faults = faults;
        state.synced = true;
    });
}
