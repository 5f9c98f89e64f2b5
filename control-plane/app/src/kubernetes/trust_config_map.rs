//! ConfigMap `weft-trust` (key `bundle.pem`) in every namespace of the mesh and in the control
//! plane's own: what new pods verify the control plane by before they send it their token.
//!
//! Written by the leader by server-side apply, where it is missing or differs; one that somebody
//! edits or deletes comes back, and one in a namespace that left the mesh goes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout_at};

use super::changes::{self, Watched};
use super::lease::Leadership;
use super::{MANAGED_BY, Outage, labels};
use crate::authority::Authority;
use crate::mesh::Mesh;

/// The ConfigMap.
pub(crate) const TRUST: &str = "weft-trust";
const KEY: &str = "bundle.pem";
/// Owns the key, and nothing else that the control plane writes.
const MANAGER: &str = "weft-control-plane/trust";
/// How often to look without being told to.
const TICK: Duration = Duration::from_secs(60);
/// After a look: a burst of changes is one.
const PAUSE: Duration = Duration::from_millis(250);
/// After one that failed.
const RETRY: Duration = Duration::from_secs(2);
/// One page of a list.
const PAGE: u32 = 500;

/// A ConfigMap of this name as it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Present {
    bundle: Option<String>,
    /// The control plane made it.
    ours: bool,
    immutable: bool,
    version: Version,
}

/// What must still hold for a deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Version {
    uid: Option<String>,
    resource_version: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// Write the bundle in this namespace.
    Apply(String),
    /// Delete the one in this namespace.
    Delete(String, Version),
}

/// What is to be done so that each of `wanted` namespaces, and no other, has the bundle.
fn plan(
    bundle: &str,
    wanted: &BTreeSet<String>,
    present: &BTreeMap<String, Present>,
) -> Vec<Action> {
    let mut actions = Vec::new();
    for namespace in wanted {
        match present.get(namespace) {
            Some(found) if found.ours && found.bundle.as_deref() == Some(bundle) => {}
            // Made immutable by somebody: it can only be made anew.
            Some(found) if found.immutable => {
                actions.push(Action::Delete(namespace.clone(), found.version.clone()));
                actions.push(Action::Apply(namespace.clone()));
            }
            _ => actions.push(Action::Apply(namespace.clone())),
        }
    }
    let left = present
        .iter()
        .filter(|(namespace, found)| found.ours && !wanted.contains(*namespace));
    actions.extend(
        left.map(|(namespace, found)| Action::Delete(namespace.clone(), found.version.clone())),
    );
    actions
}

pub(crate) struct TrustConfigMaps {
    client: Client,
    all: Api<ConfigMap>,
    /// The control plane's own namespace.
    namespace: String,
    authority: Arc<Authority>,
    mesh: Arc<Mesh>,
    leadership: watch::Receiver<Leadership>,
    /// Becomes true once every source has listed: before that, no namespace has left the mesh.
    ready: watch::Receiver<bool>,
}

impl TrustConfigMaps {
    pub fn new(
        client: Client,
        namespace: &str,
        authority: Arc<Authority>,
        mesh: Arc<Mesh>,
        leadership: watch::Receiver<Leadership>,
        ready: watch::Receiver<bool>,
    ) -> Self {
        Self {
            all: Api::all(client.clone()),
            client,
            namespace: namespace.to_owned(),
            authority,
            mesh,
            leadership,
            ready,
        }
    }

    /// Keeps for ever.
    pub async fn keep(&self) {
        let edited = Notify::new();
        tokio::select! {
            () = changes::tell(&self.all, &Watched::Name(TRUST), &edited) => {}
            () = self.follow(&edited) => {}
        }
    }

    async fn follow(&self, edited: &Notify) {
        let mut ready = self.ready.clone();
        let mut leadership = self.leadership.clone();
        let mut bundle = self.authority.changed();
        let mut world = self.mesh.changed();
        let mut outage = Outage::default();
        // Errors of these mean that everything is being dropped.
        let _ = ready.wait_for(|ready| *ready).await;
        loop {
            let _ = leadership.wait_for(Leadership::leads).await;
            let wanted = self.wanted();
            let reconciled = self.reconcile(&wanted).await;
            outage.note("trust anchors", &reconciled);
            let pause = if reconciled.is_ok() { TICK } else { RETRY };
            sleep(PAUSE).await;
            let others = async {
                while world.changed().await.is_ok() && self.wanted() == wanted {
                    sleep(PAUSE).await;
                }
            };
            tokio::select! {
                () = edited.notified() => {}
                _ = bundle.changed() => {}
                () = others => {}
                () = sleep(pause) => {}
            }
        }
    }

    fn wanted(&self) -> BTreeSet<String> {
        let mut wanted = self.mesh.mesh_namespaces();
        wanted.insert(self.namespace.clone());
        wanted
    }

    async fn reconcile(&self, wanted: &BTreeSet<String>) -> anyhow::Result<()> {
        let Some(authority) = self.authority.in_force() else {
            return Ok(());
        };
        let bundle = authority.bundle().to_pem();
        let present = self.present().await?;
        let mut failed = Ok(());
        for action in plan(&bundle, wanted, &present) {
            // One namespace that is being deleted must not hold back the others.
            if let Err(error) = self.act(&action, &bundle).await {
                failed = Err(error.context(format!("{action:?}")));
            }
        }
        failed
    }

    async fn present(&self) -> anyhow::Result<BTreeMap<String, Present>> {
        let mut present = BTreeMap::new();
        let mut params = ListParams::default()
            .fields(&format!("metadata.name={TRUST}"))
            .limit(PAGE);
        loop {
            let deadline = self.deadline()?;
            let page = timeout_at(deadline, self.all.list(&params))
                .await
                .context("the API server does not answer")?
                .context("cannot be listed")?;
            present.extend(page.items.into_iter().filter_map(read));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(present),
            }
        }
    }

    async fn act(&self, action: &Action, bundle: &str) -> anyhow::Result<()> {
        let deadline = self.deadline()?;
        let acted = async {
            match action {
                Action::Apply(namespace) => {
                    let params = PatchParams::apply(MANAGER).force();
                    let patch = Patch::Apply(json!({
                        "apiVersion": "v1",
                        "kind": "ConfigMap",
                        "metadata": {"name": TRUST, "labels": labels()},
                        "data": {KEY: bundle},
                    }));
                    let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
                    maps.patch(TRUST, &params, &patch).await.map(drop)
                }
                Action::Delete(namespace, version) => {
                    let params = DeleteParams {
                        preconditions: Some(Preconditions {
                            uid: version.uid.clone(),
                            resource_version: version.resource_version.clone(),
                        }),
                        ..DeleteParams::default()
                    };
                    let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
                    maps.delete(TRUST, &params).await.map(drop)
                }
            }
        };
        timeout_at(deadline, acted)
            .await
            .context("the API server does not answer")??;
        Ok(())
    }

    fn deadline(&self) -> anyhow::Result<tokio::time::Instant> {
        let deadline = self.leadership.borrow().deadline();
        deadline.context("this replica leads no longer")
    }
}

fn read(map: ConfigMap) -> Option<(String, Present)> {
    let metadata = map.metadata;
    let labels = metadata.labels.unwrap_or_default();
    let present = Present {
        bundle: map.data.and_then(|mut data| data.remove(KEY)),
        ours: labels.get(MANAGED_BY).map(String::as_str) == Some(super::FIELD_MANAGER),
        immutable: map.immutable == Some(true),
        version: Version {
            uid: metadata.uid,
            resource_version: metadata.resource_version,
        },
    };
    Some((metadata.namespace?, present))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(wanted: &[&str], present: &[(&str, &str, bool, bool)]) -> Vec<Action> {
        let wanted = wanted.iter().map(|&name| name.to_owned()).collect();
        let present = present.iter().map(|&(namespace, bundle, ours, immutable)| {
            let present = Present {
                bundle: Some(bundle.to_owned()),
                ours,
                immutable,
                ..Present::default()
            };
            (namespace.to_owned(), present)
        });
        plan("new", &wanted, &present.collect())
    }

    fn apply(namespace: &str) -> Action {
        Action::Apply(namespace.to_owned())
    }

    fn delete(namespace: &str) -> Action {
        Action::Delete(namespace.to_owned(), Version::default())
    }

    #[test]
    fn only_what_is_missing_or_differs_is_written() {
        let present = [("shop", "new", true, false), ("bank", "old", true, false)];
        let actions = planned(&["bank", "shop", "weft-system"], &present);
        assert_eq!(actions, [apply("bank"), apply("weft-system")]);
    }

    #[test]
    fn what_left_the_mesh_goes_unless_it_is_somebody_elses() {
        let present = [("left", "new", true, false), ("theirs", "x", false, false)];
        assert_eq!(planned(&[], &present), [delete("left")]);
        // In the mesh the name is ours.
        assert_eq!(planned(&["theirs"], &present[1..]), [apply("theirs")]);
    }

    #[test]
    fn an_immutable_one_is_made_anew() {
        let present = [("shop", "old", true, true)];
        assert_eq!(
            planned(&["shop"], &present),
            [delete("shop"), apply("shop")]
        );
        assert_eq!(planned(&["shop"], &[("shop", "new", true, true)]), []);
    }
}
