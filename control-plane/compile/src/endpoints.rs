//! A service's endpoints, in buckets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use weft_identity::{SpiffeId, TrustDomain};
use weft_model::{
    Endpoint as SliceEndpoint, EndpointSlice, Kind, Object, ObjectKey, Pod, Service, Spec,
    Transport,
};

use crate::index::{Handle, Index, name_of};
use crate::protocol::tcp_ports;
use crate::resource::{Endpoint, EndpointPort, Endpoints, Port};
use crate::snapshot::Name;

/// Endpoints that a bucket holds on the average, at most.
const BUCKET_SIZE: usize = 128;

/// The identity of a pod, `None` where it is not meshed.
///
/// # Errors
/// A meshed pod whose service account cannot stand in a SPIFFE ID.
pub(crate) fn identity(
    trust_domain: &TrustDomain,
    object: &Object,
    pod: &Pod,
) -> Result<Option<SpiffeId>, weft_identity::NameError> {
    pod.meshed
        .then(|| SpiffeId::new(trust_domain, &object.key.namespace, &pod.service_account))
        .transpose()
}

/// Whose endpoint it is. A dual-stack service lists a pod once for each family: that is still one
/// pod, which is to be balanced to, limited and ejected as one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Pod(Name),
    Address(IpAddr),
}

/// All buckets of a service. `ports` are its ports as compiled, in the order of `tcp_ports`.
pub(crate) fn buckets(
    index: &Index,
    trust_domain: &TrustDomain,
    name: &Name,
    service: &Service,
    ports: &[Port],
) -> Vec<Arc<Endpoints>> {
    let mut found: BTreeMap<Owner, Endpoint> = BTreeMap::new();
    for object in index.referring(&Handle::SliceOf(name.clone())) {
        let Spec::EndpointSlice(slice) = &object.spec else {
            continue;
        };
        for endpoint in &slice.endpoints {
            let Some((owner, endpoint)) =
                compile(index, trust_domain, name, service, ports, slice, endpoint)
            else {
                continue;
            };
            let preferred = preferred_family(index, service, &owner);
            found
                .entry(owner)
                .and_modify(|known| merge(known, &endpoint, preferred))
                .or_insert(endpoint);
        }
    }
    let count = bucket_count(found.len());
    let mut buckets = vec![Endpoints::default(); count];
    for (address, endpoint) in by_address(found.into_values()) {
        buckets[bucket_of(address, count)].endpoints.push(endpoint);
    }
    buckets.into_iter().map(Arc::new).collect()
}

/// Ascending. Pods on their node's network may share an address.
fn by_address(endpoints: impl Iterator<Item = Endpoint>) -> BTreeMap<IpAddr, Endpoint> {
    let mut sorted: BTreeMap<IpAddr, Endpoint> = BTreeMap::new();
    for endpoint in endpoints {
        sorted
            .entry(endpoint.address)
            .and_modify(|known| merge(known, &endpoint, None))
            .or_insert(endpoint);
    }
    sorted
}

/// An address whose family a pod is called by where it is listed with both: the service's first one,
/// without one (headless) the pod's. Proxies need not know: a meshed pod's proxy reaches the application on
/// whichever family that listens.
fn preferred_family(index: &Index, service: &Service, owner: &Owner) -> Option<IpAddr> {
    service
        .cluster_ips
        .first()
        .copied()
        .or_else(|| match owner {
            Owner::Pod(pod) => index.pod(pod)?.1.ips.first().copied(),
            Owner::Address(_) => None,
        })
}

/// One more entry for a known endpoint: in another slice (Kubernetes allows that while it moves), or
/// the pod's address of the other family.
fn merge(known: &mut Endpoint, other: &Endpoint, preferred: Option<IpAddr>) {
    known.ready |= other.ready;
    known.terminating &= other.terminating;
    let ranked = |address: IpAddr| {
        let other_family = preferred.is_some_and(|p| p.is_ipv4() != address.is_ipv4());
        (other_family, address)
    };
    if ranked(other.address) < ranked(known.address) {
        known.address = other.address;
    }
    for port in &other.ports {
        if !known
            .ports
            .iter()
            .any(|p| p.service_port == port.service_port)
        {
            known.ports.push(port.clone());
        }
    }
    known.ports.sort_by_key(|port| port.service_port);
}

/// `None`: the pod is not known yet. It may well be meshed, so nothing may go there in plaintext.
fn compile(
    index: &Index,
    trust_domain: &TrustDomain,
    service_name: &Name,
    service: &Service,
    ports: &[Port],
    slice: &EndpointSlice,
    endpoint: &SliceEndpoint,
) -> Option<(Owner, Endpoint)> {
    let pod = pod_behind(index, service_name, endpoint);
    if endpoint.pod.is_some() && pod.is_none() {
        return None;
    }
    let identity = match pod {
        Some((object, pod)) => identity(trust_domain, object, pod).ok()?,
        None => None,
    };
    let owner = pod.map_or(Owner::Address(endpoint.address), |(object, _)| {
        Owner::Pod(name_of(&object.key))
    });
    let pod = pod.map(|(object, pod)| (&object.key.namespace, pod));
    let terminating = endpoint.terminating || pod.is_some_and(|(_, pod)| pod.terminating);
    let mtls = identity.is_some();
    let compiled = Endpoint {
        address: endpoint.address,
        ports: ports_at(service, ports, slice, mtls),
        identity,
        namespace: pod.map_or_else(
            || service_name.0.clone(),
            |(namespace, _)| namespace.clone(),
        ),
        workload: pod.map_or_else(|| "".into(), |(_, pod)| pod.workload.clone()),
        zone: endpoint
            .zone
            .clone()
            .or_else(|| pod?.1.zone.clone())
            .unwrap_or_default(),
        ready: endpoint.ready && !terminating,
        terminating,
    };
    Some((owner, compiled))
}

/// The pod that an endpoint names, or else the one that has its address.
fn pod_behind<'a>(
    index: &'a Index,
    service: &Name,
    endpoint: &SliceEndpoint,
) -> Option<(&'a Arc<Object>, &'a Pod)> {
    match &endpoint.pod {
        Some(pod) => index.pod(&(service.0.clone(), pod.clone())),
        None => pod_at(index, endpoint.address),
    }
}

/// The pod that has an address: one that is not going away, of several the newest (an address is
/// given out again while its last owner is still listed).
pub(crate) fn pod_at(index: &Index, address: IpAddr) -> Option<(&Arc<Object>, &Pod)> {
    index
        .referrers(&Handle::PodAt(address))
        .iter()
        .filter_map(|key: &ObjectKey| {
            debug_assert_eq!(key.kind, Kind::Pod, "only pods have pod addresses");
            index.pod(&(key.namespace.clone(), key.name.clone()))
        })
        .max_by(|(a, one), (b, other)| {
            (!one.terminating, a.seniority()).cmp(&(!other.terminating, b.seniority()))
        })
}

fn ports_at(
    service: &Service,
    ports: &[Port],
    slice: &EndpointSlice,
    mtls: bool,
) -> Vec<EndpointPort> {
    let mut at: Vec<_> = tcp_ports(&service.ports)
        .filter_map(|port| {
            let compiled = ports.iter().find(|compiled| compiled.port == port.port)?;
            let there = slice
                .ports
                .iter()
                .find(|there| there.name == port.name && there.transport == Transport::Tcp)?;
            Some(EndpointPort {
                service_port: port.port,
                port: there.port,
                mtls,
                protocol: compiled.protocol,
            })
        })
        .collect();
    at.sort_by_key(|port| port.service_port);
    at
}

/// A power of two, so that a growing service splits its buckets instead of shuffling them.
fn bucket_count(endpoints: usize) -> usize {
    endpoints.div_ceil(BUCKET_SIZE).max(1).next_power_of_two()
}

/// FNV-1a over the address, folded: the same on every replica and in every version.
fn bucket_of(address: IpAddr, count: usize) -> usize {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut feed = |octets: &[u8]| {
        for octet in octets {
            hash = (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    match address {
        IpAddr::V4(address) => feed(&address.octets()),
        IpAddr::V6(address) => feed(&address.octets()),
    }
    let folded = hash ^ (hash >> 32);
    // The remainder is below `count`, so it fits.
    (folded % count as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_grow_by_doubling_and_hold_about_equally_many() {
        assert_eq!(bucket_count(0), 1);
        assert_eq!(bucket_count(128), 1);
        assert_eq!(bucket_count(129), 2);
        assert_eq!(bucket_count(10_000), 128);
        let mut sizes = [0usize; 128];
        for n in 0..10_000u32 {
            sizes[bucket_of(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 128)] += 1;
        }
        assert!(
            sizes.iter().all(|size| (30..=160).contains(size)),
            "{sizes:?}"
        );
    }

    #[test]
    fn a_split_keeps_an_endpoint_in_its_bucket_or_the_new_half_of_it() {
        for n in 0..1000u32 {
            let address = IpAddr::from((0x0a00_0000 + n).to_be_bytes());
            assert_eq!(bucket_of(address, 8) % 4, bucket_of(address, 4));
        }
    }
}
