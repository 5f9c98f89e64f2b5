//! The compiler: holds the world, recompiles what a change affects, says what is different.
//!
//! Order matters, each step feeds the next: routes and policies on their own; services, which merge
//! the routes attached; pods, which need the services that lead to them and the policies that hold;
//! addresses; at last what is only to be said about objects.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use weft_model::{Change, Diagnostic, Kind, MeshConfig, ObjectKey, Spec, Subject, World};

use crate::authorization;
use crate::dirty::{Dirty, chosen_otherwise};
use crate::endpoints::pod_at;
use crate::findings::{Findings, Ledger, Unit};
use crate::gateway;
use crate::index::{Index, name_of};
use crate::mesh_config::{self, Settings};
use crate::meshed;
use crate::peer_authentication;
use crate::resource::Workload;
use crate::route::{self, CompiledRoute, RouteStanding};
use crate::service;
use crate::sharded::Sharded;
use crate::snapshot::{Name, ResourceKey, ServiceViews, Snapshot};
use crate::targets::pods_of_any;
use crate::traffic_policy;
use crate::workload;

/// Routes, compiled on their own.
pub(crate) type Routes = HashMap<ObjectKey, CompiledRoute>;

/// What is different from the snapshot before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// New, or with other contents.
    pub changed: BTreeSet<ResourceKey>,
    /// Gone. A service that is gone is gone from every namespace's view.
    pub removed: BTreeSet<ResourceKey>,
}

impl Delta {
    /// Whether nothing is different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// Compiles a whole world at once.
#[must_use]
pub fn compile(settings: Settings, world: &World) -> (Snapshot, Vec<Diagnostic>) {
    let mut compiler = Compiler::new(settings);
    compiler.apply(world.objects().cloned().map(Change::Upsert));
    (compiler.snapshot.clone(), compiler.diagnostics())
}

/// Compiles a world and keeps up with its changes.
#[derive(Debug)]
pub struct Compiler {
    settings: Settings,
    index: Index,
    mesh: MeshConfig,
    routes: Routes,
    workloads: Sharded<Name, Arc<Workload>>,
    snapshot: Snapshot,
    ledger: Ledger,
}

impl Compiler {
    /// A compiler of the empty world.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let mesh = MeshConfig::default();
        let snapshot = Snapshot::empty(
            settings.trust_domain.clone(),
            mesh_config::compile(&settings, &mesh),
        );
        Self {
            settings,
            index: Index::default(),
            mesh,
            routes: Routes::default(),
            workloads: Sharded::default(),
            snapshot,
            ledger: Ledger::default(),
        }
    }

    /// The world as it is.
    #[must_use]
    pub fn world(&self) -> &World {
        self.index.world()
    }

    /// All resources as they are. A clone is cheap and does not change.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What is wrong with the objects, sorted.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.ledger.all()
    }

    /// What of a route is in force. `None`: there is no such route.
    #[must_use]
    pub fn standing(&self, route: &ObjectKey) -> Option<RouteStanding> {
        RouteStanding::of(&self.index, self.routes.get(route)?)
    }

    /// Whether what is said of an object is about a route that only other controllers have to do with.
    #[must_use]
    pub fn is_others(&self, object: Option<&Subject>) -> bool {
        let key = object.and_then(|object| {
            let kind = Kind::parse(&object.kind)?;
            Some(ObjectKey::new(
                kind,
                object.namespace.clone(),
                object.name.clone(),
            ))
        });
        let route = key.and_then(|key| self.routes.get(&key));
        route.is_some_and(|route| route.is_others)
    }

    /// Takes changes of the world in and recompiles what they affect.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Delta {
        let mut dirty = Dirty::default();
        for change in changes {
            self.take_in(change, &mut dirty);
        }
        let mut touched = BTreeSet::new();
        self.compile_mesh_configs(&dirty, &mut touched);
        self.compile_routes(&mut dirty);
        self.compile_authorizations(&dirty, &mut touched);
        self.compile_services(&mut dirty, &mut touched);
        self.compile_pods(&mut dirty, &mut touched);
        self.compile_addresses(&dirty, &mut touched);
        self.check(&dirty);
        let (changed, removed) = touched
            .into_iter()
            .partition(|key| self.snapshot.contains(key));
        Delta { changed, removed }
    }

    fn take_in(&mut self, change: Change, dirty: &mut Dirty) {
        if let Some(old) = self.index.world().object(change.key()) {
            if matches!(&change, Change::Upsert(new) if new == old) {
                return;
            }
            let old = Arc::clone(old);
            dirty.mark_old(&self.index, &old);
        }
        let bare = self.index.has_no_pods();
        let (old, new) = self.index.apply(change);
        if bare != self.index.has_no_pods() {
            dirty.all_choosers(&self.index);
        }
        if let Some(new) = &new {
            dirty.mark_new(&self.index, new);
        }
        if chosen_otherwise(old.as_deref(), new.as_deref())
            && let Some(pod) = old.as_ref().or(new.as_ref())
        {
            dirty.choosers(&self.index, &pod.key);
        }
    }

    fn compile_mesh_configs(&mut self, dirty: &Dirty, touched: &mut BTreeSet<ResourceKey>) {
        if dirty.mesh_configs.is_empty() {
            return;
        }
        self.mesh = mesh_config::in_force(self.index.world());
        let compiled = mesh_config::compile(&self.settings, &self.mesh);
        if *self.snapshot.mesh_config != compiled {
            self.snapshot.mesh_config = Arc::new(compiled);
            touched.insert(ResourceKey::MeshConfig);
        }
    }

    /// A route that came out different makes the services anew that it was or is attached to.
    fn compile_routes(&mut self, dirty: &mut Dirty) {
        for key in &dirty.routes {
            let compiled = self
                .index
                .world()
                .object(key)
                .and_then(|object| route::compile(&self.index, object));
            let (new, findings) = compiled.map_or_else(Default::default, |(route, findings)| {
                (Some(route), findings)
            });
            self.ledger.replace(Unit::Object(key.clone()), findings);
            if self.routes.get(key) == new.as_ref() {
                continue;
            }
            let old = match &new {
                Some(new) => self.routes.insert(key.clone(), new.clone()),
                None => self.routes.remove(key),
            };
            for route in old.iter().chain(&new) {
                let services = route.attachments.iter().map(|a| a.service.clone());
                dirty.services.extend(services);
            }
        }
    }

    fn compile_authorizations(&mut self, dirty: &Dirty, touched: &mut BTreeSet<ResourceKey>) {
        for key in &dirty.authorizations {
            let mut findings = Findings::default();
            let compiled = self.index.world().object(key).and_then(|object| {
                let Spec::AuthorizationPolicy(policy) = &object.spec else {
                    return None;
                };
                workload::check_targets(&self.index, object, policy, &mut findings);
                Some(Arc::new(authorization::compile(
                    object,
                    policy,
                    &mut findings,
                )))
            });
            self.ledger.replace(Unit::Object(key.clone()), findings);
            if self.snapshot.authorizations.put(name_of(key), compiled) {
                touched.insert(ResourceKey::Authorization {
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                });
            }
        }
    }

    fn compile_services(&mut self, dirty: &mut Dirty, touched: &mut BTreeSet<ResourceKey>) {
        for name in &dirty.services {
            let mut findings = Findings::default();
            let compiled = service::compile(
                &self.index,
                &self.routes,
                &self.settings.trust_domain,
                name,
                &mut findings,
            );
            self.ledger.replace(Unit::Service(name.clone()), findings);
            let old = self.snapshot.services.get(name).cloned();
            let (views, buckets) = match compiled {
                Some(compiled) => (Some(Arc::new(compiled.views)), Some(compiled.buckets)),
                None => (None, None),
            };
            if ports_differ(old.as_deref(), views.as_deref()) {
                dirty.pods_of.insert(name.clone());
            }
            self.snapshot
                .put_service(name, old.as_deref(), views, touched);
            self.snapshot.put_endpoints(name, buckets, touched);
        }
    }

    fn compile_pods(&mut self, dirty: &mut Dirty, touched: &mut BTreeSet<ResourceKey>) {
        dirty.pods.extend(pods_of_any(&self.index, &dirty.pods_of));
        for name in &dirty.pods {
            let mut findings = Findings::default();
            let context = workload::Context {
                index: &self.index,
                trust_domain: &self.settings.trust_domain,
                mesh: &self.mesh,
                services: &self.snapshot.services,
                authorizations: &self.snapshot.authorizations,
            };
            let pod = self.index.pod(name);
            let compiled = pod.and_then(|(object, pod)| {
                meshed::check(&self.index, object, pod, &mut findings);
                context.compile(object, pod, &mut findings)
            });
            if let Some((object, _)) = pod {
                let unit = Unit::Object(object.key.clone());
                self.ledger.replace(unit, findings);
            } else {
                let key = ObjectKey::new(Kind::Pod, name.0.clone(), name.1.clone());
                self.ledger.replace(Unit::Object(key), findings);
            }
            let (workload, inbound) = compiled.map_or((None, None), |compiled| {
                (compiled.workload, compiled.inbound)
            });
            if self
                .snapshot
                .inbounds
                .put(name.clone(), inbound.map(Arc::new))
            {
                touched.insert(ResourceKey::Inbound {
                    namespace: name.0.clone(),
                    pod: name.1.clone(),
                });
            }
            if self.workloads.put(name.clone(), workload.map(Arc::new))
                && let Some((_, pod)) = pod
            {
                dirty.addresses.extend(&pod.ips);
            }
        }
    }

    fn compile_addresses(&mut self, dirty: &Dirty, touched: &mut BTreeSet<ResourceKey>) {
        for address in &dirty.addresses {
            let service = service::owner(&self.index, *address).map(|object| name_of(&object.key));
            let workload = pod_at(&self.index, *address)
                .and_then(|(object, _)| self.workloads.get(&name_of(&object.key)))
                .cloned();
            let changed = [
                self.snapshot.virtual_addresses.put(*address, service),
                self.snapshot.workloads.put(*address, workload),
            ];
            if changed.contains(&true) {
                touched.insert(ResourceKey::Address(*address));
            }
        }
    }

    /// What is only to be said.
    fn check(&mut self, dirty: &Dirty) {
        for namespace in &dirty.peer_authentications {
            let findings = peer_authentication::check(&self.index, namespace);
            let unit = Unit::PeerAuthentications(namespace.clone());
            self.ledger.replace(unit, findings);
        }
        for key in &dirty.traffic_policies {
            let object = self.index.world().object(key);
            let findings = match object.map(|object| (object, &object.spec)) {
                Some((object, Spec::TrafficPolicy(policy))) => {
                    traffic_policy::check(&self.index, object, policy)
                }
                _ => Findings::default(),
            };
            self.ledger.replace(Unit::Object(key.clone()), findings);
        }
        for key in &dirty.gateways {
            let object = self.index.world().object(key);
            let findings = object.map(|object| gateway::check(&self.index, object));
            self.ledger
                .replace(Unit::Object(key.clone()), findings.unwrap_or_default());
        }
        for key in &dirty.mesh_configs {
            let findings = mesh_config::check(&self.settings, self.index.world(), key);
            self.ledger.replace(Unit::Object(key.clone()), findings);
        }
    }
}

/// Whether pods of a service get to know their ports differently: what is spoken there and whether
/// a route leads there.
fn ports_differ(old: Option<&ServiceViews>, new: Option<&ServiceViews>) -> bool {
    let facts = |views: Option<&ServiceViews>| {
        views.map(|views| {
            let ports = views.shared.ports.iter();
            ports
                .map(|port| (port.port, port.protocol, port.routed))
                .collect::<Vec<_>>()
        })
    };
    facts(old) != facts(new)
}
