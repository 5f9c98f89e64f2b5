//! What a change of the world may affect.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use weft_model::{
    EndpointSlice, Kind, Object, ObjectKey, Pod, PolicyTargets, ROOT_NAMESPACE, Service, Spec,
};

use crate::gateway;
use crate::index::{Handle, Index, name_of};
use crate::meshed::is_without_sidecar;
use crate::snapshot::Name;
use crate::targets::pods_of;
use crate::workload::authorization_policies;

/// What has to be compiled again.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub(crate) routes: BTreeSet<ObjectKey>,
    pub(crate) services: BTreeSet<Name>,
    pub(crate) pods: BTreeSet<Name>,
    /// Services whose pods have to be compiled again, once the whole change is known.
    pub(crate) pods_of: BTreeSet<Name>,
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// AuthorizationPolicies: themselves and their targets.
    pub(crate) authorizations: BTreeSet<ObjectKey>,
    /// Namespaces whose PeerAuthentications are to be looked at together.
    pub(crate) peer_authentications: BTreeSet<Arc<str>>,
    pub(crate) traffic_policies: BTreeSet<ObjectKey>,
    pub(crate) mesh_configs: BTreeSet<ObjectKey>,
    /// Gateways and their classes.
    pub(crate) gateways: BTreeSet<ObjectKey>,
}

impl Dirty {
    /// Marks what depends on an object that a change takes away or replaces. Called before the
    /// change is applied.
    pub(crate) fn mark_old(&mut self, index: &Index, object: &Object) {
        if let Spec::Service(_) = &object.spec {
            self.pods.extend(pods_of(index, &name_of(&object.key)));
        }
        self.mark(index, object);
    }

    /// Marks what depends on an object that a change brings. Called after the change is applied.
    pub(crate) fn mark_new(&mut self, index: &Index, object: &Object) {
        if let Spec::Service(_) = &object.spec {
            self.pods_of.insert(name_of(&object.key));
        }
        self.mark(index, object);
    }

    fn mark(&mut self, index: &Index, object: &Object) {
        let key = &object.key;
        match &object.spec {
            // Whether its pods should have sidecars.
            Spec::Namespace(_) => {
                let pods = index.pods_in(&key.name);
                self.pods.extend(pods.map(|(pod, _)| name_of(&pod.key)));
                self.choosers_in(index, ROOT_NAMESPACE);
            }
            Spec::ServiceAccount(_) => {}
            Spec::Service(service) => self.service(index, &name_of(key), service),
            Spec::EndpointSlice(slice) => self.slice(index, key, slice),
            Spec::Pod(pod) => self.pod(index, key, pod),
            Spec::GatewayClass(_) => {
                self.gateways.insert(key.clone());
                for gateway in gateway::of_class(index, &key.name) {
                    self.gateway(index, gateway);
                }
            }
            Spec::Gateway(_) => self.gateway(index, key),
            Spec::ReferenceGrant(_) => self.routes_of_gateways(index),
            Spec::HttpRoute(_) | Spec::GrpcRoute(_) => {
                self.routes.insert(key.clone());
            }
            Spec::AuthorizationPolicy(_) => {
                self.authorizations.insert(key.clone());
                self.pods_in_scope(index, &key.namespace);
            }
            Spec::PeerAuthentication(_) => {
                self.peer_authentications.insert(key.namespace.clone());
                self.pods_in_scope(index, &key.namespace);
            }
            Spec::TrafficPolicy(policy) => {
                self.traffic_policies.insert(key.clone());
                let targets = policy.targets.iter();
                self.services
                    .extend(targets.map(|target| (key.namespace.clone(), target.name.clone())));
            }
            Spec::MeshConfig(_) => {
                self.mesh_configs.insert(key.clone());
                self.all_pods(index);
            }
        }
    }

    fn gateway(&mut self, index: &Index, key: &ObjectKey) {
        let routes = index.referrers(&Handle::Gateway(name_of(key)));
        self.routes.extend(routes.iter().cloned());
        self.gateways.insert(key.clone());
    }

    /// Grants are few and change seldom: no route is looked up by the namespaces that it leads to.
    fn routes_of_gateways(&mut self, index: &Index) {
        for gateway in index.world().of_kind(Kind::Gateway) {
            let routes = index.referrers(&Handle::Gateway(name_of(&gateway.key)));
            self.routes.extend(routes.iter().cloned());
        }
    }

    fn service(&mut self, index: &Index, name: &Name, service: &Service) {
        self.services.insert(name.clone());
        for handle in [Handle::Parent(name.clone()), Handle::Backend(name.clone())] {
            self.routes.extend(index.referrers(&handle).iter().cloned());
        }
        let policies = index.referrers(&Handle::TrafficPolicy(name.clone()));
        self.traffic_policies.extend(policies.iter().cloned());
        self.policies_on(index, name);
        for address in &service.cluster_ips {
            self.addresses.insert(*address);
            let claimants = index.referrers(&Handle::ServiceAt(*address));
            self.services.extend(claimants.iter().map(name_of));
        }
    }

    fn slice(&mut self, index: &Index, key: &ObjectKey, slice: &EndpointSlice) {
        let namespace = &key.namespace;
        self.services
            .insert((namespace.clone(), slice.service.clone()));
        let named = slice.endpoints.iter().filter_map(|e| e.pod.clone());
        self.pods.extend(named.map(|pod| (namespace.clone(), pod)));
        self.policies_on(index, &(namespace.clone(), slice.service.clone()));
    }

    /// The AuthorizationPolicies that target a service.
    fn policies_on(&mut self, index: &Index, service: &Name) {
        for (policy, spec) in authorization_policies(index, &service.0) {
            if let PolicyTargets::References(targets) = &spec.targets
                && targets.iter().any(|target| target.name == service.1)
            {
                self.authorizations.insert(policy.key.clone());
            }
        }
    }

    fn pod(&mut self, index: &Index, key: &ObjectKey, pod: &Pod) {
        let name = name_of(key);
        let at_addresses = pod.ips.iter().map(|ip| Handle::SliceAt(*ip));
        for handle in at_addresses.chain([Handle::SliceWith(name.clone())]) {
            for object in index.referring(&handle) {
                if let Spec::EndpointSlice(slice) = &object.spec {
                    self.services
                        .insert((object.key.namespace.clone(), slice.service.clone()));
                }
            }
        }
        self.addresses.extend(&pod.ips);
        self.pods.insert(name);
    }

    /// The policies that may choose another set of pods, now that this pod is another one.
    pub(crate) fn choosers(&mut self, index: &Index, pod: &ObjectKey) {
        for namespace in [&*pod.namespace, ROOT_NAMESPACE] {
            self.choosers_in(index, namespace);
        }
    }

    fn choosers_in(&mut self, index: &Index, namespace: &str) {
        let policies = authorization_policies(index, namespace);
        self.authorizations
            .extend(policies.map(|(policy, _)| policy.key.clone()));
        self.peer_authentications.insert(namespace.into());
    }

    /// All policies that choose pods.
    pub(crate) fn all_choosers(&mut self, index: &Index) {
        let world = index.world();
        self.authorizations.extend(
            world
                .of_kind(Kind::AuthorizationPolicy)
                .map(|object| object.key.clone()),
        );
        self.peer_authentications.extend(
            world
                .of_kind(Kind::PeerAuthentication)
                .map(|object| object.key.namespace.clone()),
        );
    }

    fn pods_in_scope(&mut self, index: &Index, namespace: &str) {
        if namespace == ROOT_NAMESPACE {
            self.all_pods(index);
        } else {
            let pods = index.pods_in(namespace);
            self.pods
                .extend(pods.map(|(object, _)| name_of(&object.key)));
        }
    }

    fn all_pods(&mut self, index: &Index) {
        let pods = index.world().of_kind(Kind::Pod);
        self.pods.extend(pods.map(|object| name_of(&object.key)));
    }
}

/// Whether a pod is another one to policies that choose it: an update of its readiness is not.
pub(crate) fn chosen_otherwise(old: Option<&Object>, new: Option<&Object>) -> bool {
    let facts = |object: Option<&Object>| match object.map(|object| &object.spec) {
        Some(Spec::Pod(pod)) => Some((
            pod.labels.clone(),
            pod.meshed,
            pod.ports.clone(),
            is_without_sidecar(pod),
            pod.asks_for_mesh,
        )),
        _ => None,
    };
    facts(old) != facts(new)
}
