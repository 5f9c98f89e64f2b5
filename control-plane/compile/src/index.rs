//! The world, and who refers to what in it: so that a change finds what depends on it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use weft_model::{
    Backend, Change, Kind, Object, ObjectKey, ParentRef, Pod, Route, Service, Spec, World,
};

use crate::gateway::parent_gateway;
use crate::snapshot::Name;

/// A thing that objects refer to, with the role that they give it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Handle {
    /// Routes with this Service as a parent.
    Parent(Name),
    /// Routes with this Service as a backend.
    Backend(Name),
    /// Routes with this Gateway as a parent.
    Gateway(Name),
    /// TrafficPolicies that target this Service.
    TrafficPolicy(Name),
    /// EndpointSlices of this Service.
    SliceOf(Name),
    /// EndpointSlices with an endpoint that is this Pod.
    SliceWith(Name),
    /// EndpointSlices with an endpoint at this address that names no Pod.
    SliceAt(IpAddr),
    /// Pods with this address.
    PodAt(IpAddr),
    /// Services with this virtual address.
    ServiceAt(IpAddr),
    /// Services whose selector's first label is this one: namespace, key, value.
    Selector(Arc<str>, Arc<str>, Arc<str>),
}

/// The world with its reverse references.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    world: World,
    referrers: HashMap<Handle, Vec<ObjectKey>>,
}

impl Index {
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Applies a change; returns the object before and after.
    pub(crate) fn apply(&mut self, change: Change) -> (Option<Arc<Object>>, Option<Arc<Object>>) {
        let key = change.key().clone();
        let old = self.world.apply(change);
        let new = self.world.object(&key).cloned();
        for handle in old.iter().flat_map(|object| handles(object)) {
            self.forget(&handle, &key);
        }
        for handle in new.iter().flat_map(|object| handles(object)) {
            let keys = self
                .referrers
                .entry(handle)
                .or_insert_with(|| Vec::with_capacity(1));
            if let Err(position) = keys.binary_search(&key) {
                keys.insert(position, key.clone());
            }
        }
        (old, new)
    }

    fn forget(&mut self, handle: &Handle, key: &ObjectKey) {
        let Some(keys) = self.referrers.get_mut(handle) else {
            return;
        };
        if let Ok(position) = keys.binary_search(key) {
            keys.remove(position);
        }
        if keys.is_empty() {
            self.referrers.remove(handle);
        }
    }

    /// The objects that refer to `handle`, in the order of their keys.
    pub(crate) fn referrers(&self, handle: &Handle) -> &[ObjectKey] {
        self.referrers.get(handle).map_or(&[], Vec::as_slice)
    }

    /// As [`Self::referrers`], the objects themselves.
    pub(crate) fn referring<'a>(
        &'a self,
        handle: &Handle,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.referrers(handle)
            .iter()
            .filter_map(|key| self.world.object(key))
    }

    /// A service.
    pub(crate) fn service(&self, name: &Name) -> Option<(&Arc<Object>, &Service)> {
        let key = ObjectKey::new(Kind::Service, name.0.clone(), name.1.clone());
        let object = self.world.object(&key)?;
        match &object.spec {
            Spec::Service(service) => Some((object, service)),
            _ => None,
        }
    }

    /// A pod.
    pub(crate) fn pod(&self, name: &Name) -> Option<(&Arc<Object>, &Pod)> {
        let key = ObjectKey::new(Kind::Pod, name.0.clone(), name.1.clone());
        let object = self.world.object(&key)?;
        pod_of(object)
    }

    /// Whether nothing runs at all: YAML that is looked at offline, or a mesh before its first pod.
    /// What a policy chooses is not known then.
    pub(crate) fn has_no_pods(&self) -> bool {
        self.world.of_kind(Kind::Pod).next().is_none()
    }

    /// The pods of a namespace.
    pub(crate) fn pods_in<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<Object>, &'a Pod)> {
        self.world
            .in_namespace(Kind::Pod, namespace)
            .filter_map(pod_of)
    }

    /// All pods.
    pub(crate) fn pods(&self) -> impl Iterator<Item = (&Arc<Object>, &Pod)> {
        self.world.of_kind(Kind::Pod).filter_map(pod_of)
    }
}

fn pod_of(object: &Arc<Object>) -> Option<(&Arc<Object>, &Pod)> {
    match &object.spec {
        Spec::Pod(pod) => Some((object, pod)),
        _ => None,
    }
}

/// Namespace and name of an object.
pub(crate) fn name_of(key: &ObjectKey) -> Name {
    (Arc::clone(&key.namespace), Arc::clone(&key.name))
}

/// The Service that a parent reference names, if it names one.
pub(crate) fn parent_service(route: &ObjectKey, parent: &ParentRef) -> Option<Name> {
    (parent.group.is_empty() && *parent.kind == *"Service").then(|| {
        let namespace = parent.namespace.as_ref().unwrap_or(&route.namespace);
        (Arc::clone(namespace), Arc::clone(&parent.name))
    })
}

/// The Service that a backend names, if it names one.
pub(crate) fn backend_service(route: &ObjectKey, backend: &Backend) -> Option<Name> {
    (backend.group.is_empty() && *backend.kind == *"Service").then(|| {
        let namespace = backend.namespace.as_ref().unwrap_or(&route.namespace);
        (Arc::clone(namespace), Arc::clone(&backend.name))
    })
}

fn handles(object: &Object) -> Vec<Handle> {
    let key = &object.key;
    match &object.spec {
        Spec::HttpRoute(route) => route_handles(key, route),
        Spec::GrpcRoute(route) => route_handles(key, route),
        Spec::TrafficPolicy(policy) => policy
            .targets
            .iter()
            .map(|target| (Arc::clone(&key.namespace), Arc::clone(&target.name)))
            .map(Handle::TrafficPolicy)
            .collect(),
        Spec::EndpointSlice(slice) => {
            let service = (Arc::clone(&key.namespace), Arc::clone(&slice.service));
            let endpoints = slice.endpoints.iter().map(|endpoint| match &endpoint.pod {
                Some(pod) => Handle::SliceWith((Arc::clone(&key.namespace), Arc::clone(pod))),
                None => Handle::SliceAt(endpoint.address),
            });
            std::iter::once(Handle::SliceOf(service))
                .chain(endpoints)
                .collect()
        }
        Spec::Pod(pod) if !pod.host_network => {
            pod.ips.iter().map(|ip| Handle::PodAt(*ip)).collect()
        }
        Spec::Service(service) => {
            let selector = service.selector.iter().next().map(|(label, value)| {
                Handle::Selector(
                    Arc::clone(&key.namespace),
                    Arc::clone(label),
                    Arc::clone(value),
                )
            });
            let addresses = service.cluster_ips.iter().map(|ip| Handle::ServiceAt(*ip));
            addresses.chain(selector).collect()
        }
        _ => Vec::new(),
    }
}

fn route_handles<M>(key: &ObjectKey, route: &Route<M>) -> Vec<Handle> {
    let parents = route
        .parents
        .iter()
        .filter_map(|parent| match parent_service(key, parent) {
            Some(service) => Some(Handle::Parent(service)),
            None => parent_gateway(key, parent).map(Handle::Gateway),
        });
    let backends = route
        .rules
        .iter()
        .flat_map(|rule| &rule.backends)
        .filter_map(|backend| backend_service(key, backend))
        .map(Handle::Backend);
    parents.chain(backends).collect()
}
