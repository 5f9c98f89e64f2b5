//! The hub against a model: whatever clients and catalogs do, in the end every client holds exactly
//! what the catalog has for it, and no pod is called drained while someone may still call it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use prost::Message;
use tokio::sync::Notify;
use weft_proto::discovery::{DeltaDiscoveryRequest, Resource};
use weft_proto::{google, mesh};

use crate::body::{Body, Facts, InboundFacts};
use crate::catalog::{Catalog, Changes};
use crate::client::Client;
use crate::frame::Frame;
use crate::hub::Hub;
use crate::kind::Kind;
use crate::stream_id::StreamId;

const KINDS: [Kind; 4] = [
    Kind::TrustBundle,
    Kind::Authorization,
    Kind::Inbound,
    Kind::Endpoints,
];
const CLIENTS: usize = 3;
const NAMES: usize = 3;

fn name_of(kind: Kind, index: usize) -> String {
    match kind {
        Kind::TrustBundle => "default".into(),
        Kind::Authorization => format!("shop/policy-{index}"),
        Kind::Inbound => format!("shop/pod-{index}"),
        Kind::Endpoints => format!("shop/web/{index}"),
        _ => unreachable!("not in KINDS"),
    }
}

fn address(pod: usize) -> IpAddr {
    IpAddr::from([10, 0, 0, u8::try_from(pod).unwrap()])
}

/// What is in a catalog: a number for the content, and what the server has to know.
#[derive(Clone, Debug, Default)]
struct World {
    trust: u8,
    policies: BTreeMap<usize, u8>,
    /// By pod: content, policies, terminating. Every pod has one, or its client could not connect.
    inbounds: [(u8, BTreeSet<usize>, bool); CLIENTS],
    /// By bucket: content and the pods it offers.
    buckets: BTreeMap<usize, (u8, BTreeSet<usize>)>,
}

impl World {
    /// Content as it stands in the message, facts.
    fn content(&self, kind: Kind, topic: &str) -> Option<(String, Facts)> {
        let index = topic.rsplit(['-', '/']).next()?.parse::<usize>();
        match kind {
            Kind::TrustBundle => {
                (topic == "default").then(|| (self.trust.to_string(), Facts::None))
            }
            Kind::Authorization => {
                let content = self.policies.get(&index.ok()?)?;
                Some((content.to_string(), Facts::None))
            }
            Kind::Inbound => {
                let (content, policies, terminating) = self.inbounds.get(index.ok()?)?;
                let pod = topic.rsplit('-').next()?.parse().ok()?;
                let facts = InboundFacts {
                    service_account: "app".into(),
                    addresses: [address(pod)].into(),
                    policies: policies
                        .iter()
                        .map(|policy| name_of(Kind::Authorization, *policy).into())
                        .collect(),
                    terminating: *terminating,
                };
                let text = format!("{content} {policies:?} {terminating}");
                Some((text, Facts::Inbound(facts)))
            }
            Kind::Endpoints => {
                let (content, pods) = self.buckets.get(&index.ok()?)?;
                let live = pods.iter().map(|pod| address(*pod)).collect();
                Some((format!("{content} {pods:?}"), Facts::Live(live)))
            }
            _ => None,
        }
    }
}

impl Catalog for World {
    fn body(&self, kind: Kind, topic: &str, drained: bool) -> Option<Body> {
        let (mut text, facts) = self.content(kind, topic)?;
        if drained {
            text.push_str(" drained");
        }
        let live: &[IpAddr] = match &facts {
            Facts::Live(live) => live,
            _ => &[],
        };
        let message = mesh::MeshConfig {
            trust_domain: text,
            address_ranges: live.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        Some(Body::new(kind, topic, &message, facts))
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Held {
    version: String,
    message: mesh::MeshConfig,
}

/// A proxy: what it wants, what it has applied, what it has not answered yet.
struct Proxy {
    index: usize,
    id: StreamId,
    wanted: BTreeSet<(Kind, String)>,
    applied: BTreeMap<(Kind, String), Option<Held>>,
    refused: BTreeMap<(Kind, String), String>,
    unanswered: HashMap<Kind, Frame>,
    fresh: BTreeSet<Kind>,
}

struct Mesh {
    hub: Hub,
    world: World,
    proxies: Vec<Proxy>,
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize, usize, usize),
    Unsubscribe(usize, usize, usize),
    Poll(usize),
    Answer {
        proxy: usize,
        kind: usize,
        refuse: bool,
    },
    Stale(usize, usize),
    Reconnect(usize),
    Trust(u8),
    Policy(usize, Option<u8>),
    Inbound(usize, u8, BTreeSet<usize>),
    Terminating(usize),
    Bucket(usize, Option<(u8, BTreeSet<usize>)>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pods = || prop::collection::btree_set(0..CLIENTS, 0..=CLIENTS);
    let step = prop_oneof![
        4 => (0..CLIENTS, 0..4_usize, 0..NAMES).prop_map(|(p, k, n)| Step::Subscribe(p, k, n)),
        1 => (0..CLIENTS, 0..4_usize, 0..NAMES).prop_map(|(p, k, n)| Step::Unsubscribe(p, k, n)),
        4 => (0..CLIENTS).prop_map(Step::Poll),
        4 => (0..CLIENTS, 0..4_usize, prop::bool::weighted(0.2))
            .prop_map(|(proxy, kind, refuse)| Step::Answer { proxy, kind, refuse }),
        1 => (0..CLIENTS, 0..4_usize).prop_map(|(p, k)| Step::Stale(p, k)),
        1 => (0..CLIENTS).prop_map(Step::Reconnect),
        1 => (0..3_u8).prop_map(Step::Trust),
        2 => (0..NAMES, prop::option::of(0..3_u8)).prop_map(|(n, c)| Step::Policy(n, c)),
        2 => (0..CLIENTS, 0..3_u8, pods()).prop_map(|(p, c, set)| Step::Inbound(p, c, set)),
        1 => (0..CLIENTS).prop_map(Step::Terminating),
        4 => (0..NAMES, prop::option::weighted(0.8, (0..3_u8, pods())))
            .prop_map(|(n, c)| Step::Bucket(n, c)),
    ];
    prop::collection::vec(step, 0..120)
}

impl Mesh {
    fn new() -> Self {
        let mut mesh = Self {
            hub: Hub::new("r".into()),
            world: World::default(),
            proxies: Vec::new(),
        };
        mesh.publish();
        for index in 0..CLIENTS {
            let id = mesh.connect(index);
            mesh.proxies.push(Proxy {
                index,
                id,
                wanted: BTreeSet::new(),
                applied: BTreeMap::new(),
                refused: BTreeMap::new(),
                unanswered: HashMap::new(),
                fresh: KINDS.into(),
            });
        }
        mesh
    }

    fn publish(&mut self) {
        let world = Arc::new(self.world.clone());
        self.hub.publish(world, &Changes::All);
    }

    fn connect(&mut self, index: usize) -> StreamId {
        let client = Client {
            identity: "spiffe://cluster.local/ns/shop/sa/app".parse().unwrap(),
            pod: name_of(Kind::Inbound, index).parse().unwrap(),
            address: address(index),
            masqueraded: false,
        };
        self.hub
            .connect(client, 0, Arc::new(Notify::new()))
            .unwrap()
    }

    fn request(&mut self, proxy: usize, kind: Kind, request: DeltaDiscoveryRequest) {
        self.proxies[proxy].fresh.remove(&kind);
        self.hub
            .request(self.proxies[proxy].id, kind, &request)
            .unwrap();
    }

    fn subscribe(&mut self, proxy: usize, kind: Kind, names: Vec<String>) {
        let mut request = DeltaDiscoveryRequest {
            resource_names_subscribe: names.clone(),
            ..Default::default()
        };
        let state = &mut self.proxies[proxy];
        for name in names {
            let key = (kind, name);
            if let Some(Some(held)) = state.applied.get(&key)
                && state.fresh.contains(&kind)
            {
                let versions = &mut request.initial_resource_versions;
                versions.insert(key.1.clone(), held.version.clone());
            }
            state.refused.remove(&key);
            state.wanted.insert(key);
        }
        self.request(proxy, kind, request);
    }

    fn poll(&mut self, proxy: usize) -> bool {
        let state = &mut self.proxies[proxy];
        let Some(frame) = self.hub.poll(state.id).unwrap() else {
            return false;
        };
        let kind = Kind::from_type_url(&frame.type_url).unwrap();
        let before = state.unanswered.insert(kind, frame);
        assert!(before.is_none(), "two unacknowledged responses of {kind}");
        true
    }

    fn answer(&mut self, proxy: usize, kind: Kind, refuse: bool) -> bool {
        let state = &mut self.proxies[proxy];
        let Some(frame) = state.unanswered.remove(&kind) else {
            return false;
        };
        let mut request = DeltaDiscoveryRequest {
            response_nonce: frame.nonce,
            ..Default::default()
        };
        let resources = frame
            .resources
            .into_iter()
            .map(|r| Resource::decode(r).unwrap());
        for (i, resource) in resources.enumerate() {
            let key = (kind, resource.name);
            let held = resource.resource.map(|any| Held {
                version: resource.version.clone(),
                message: mesh::MeshConfig::decode(any.value.as_slice()).unwrap(),
            });
            if refuse && i == 0 && held.is_some() {
                let refusal = mesh::Refusal {
                    resource: key.1.clone(),
                    field: "f".into(),
                    reason: "no".into(),
                };
                let detail = prost_types::Any {
                    type_url: weft_proto::type_url::REFUSAL.into(),
                    value: refusal.encode_to_vec(),
                };
                let status = google::rpc::Status {
                    details: vec![detail],
                    ..Default::default()
                };
                request.error_detail = Some(status);
                if state.wanted.contains(&key) {
                    state.refused.insert(key, resource.version);
                }
            } else if state.wanted.contains(&key) {
                state.refused.remove(&key);
                state.applied.insert(key, held);
            }
        }
        for name in frame.removed_resources {
            if state.wanted.contains(&(kind, name.clone())) {
                state.applied.insert((kind, name), None);
            }
        }
        self.request(proxy, kind, request);
        true
    }

    fn reconnect(&mut self, proxy: usize) {
        self.hub.disconnect(self.proxies[proxy].id);
        let id = self.connect(self.proxies[proxy].index);
        let state = &mut self.proxies[proxy];
        state.id = id;
        state.unanswered.clear();
        state.fresh = KINDS.into();
        for kind in KINDS {
            let wanted = &self.proxies[proxy].wanted;
            let names: Vec<_> = wanted.iter().filter(|(k, _)| *k == kind).collect();
            let names: Vec<_> = names.into_iter().map(|(_, name)| name.clone()).collect();
            if !names.is_empty() {
                self.subscribe(proxy, kind, names);
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Subscribe(proxy, kind, name) => {
                let kind = KINDS[kind];
                self.subscribe(proxy, kind, vec![name_of(kind, name)]);
            }
            Step::Unsubscribe(proxy, kind, name) => {
                let kind = KINDS[kind];
                let name = name_of(kind, name);
                let key = (kind, name.clone());
                let state = &mut self.proxies[proxy];
                state.wanted.remove(&key);
                state.applied.remove(&key);
                state.refused.remove(&key);
                let request = DeltaDiscoveryRequest {
                    resource_names_unsubscribe: vec![name],
                    ..Default::default()
                };
                self.request(proxy, kind, request);
            }
            Step::Poll(proxy) => {
                self.poll(proxy);
            }
            Step::Answer {
                proxy,
                kind,
                refuse,
            } => {
                self.answer(proxy, KINDS[kind], refuse);
            }
            Step::Stale(proxy, kind) => {
                let request = DeltaDiscoveryRequest {
                    response_nonce: "4000000000".into(),
                    ..Default::default()
                };
                self.request(proxy, KINDS[kind], request);
            }
            Step::Reconnect(proxy) => self.reconnect(proxy),
            Step::Trust(content) => self.change(|world| world.trust = content),
            Step::Policy(name, Some(content)) => self.change(|world| {
                world.policies.insert(name, content);
            }),
            Step::Policy(name, None) => self.change(|world| {
                world.policies.remove(&name);
            }),
            Step::Inbound(pod, content, policies) => self.change(|world| {
                let terminating = world.inbounds[pod].2;
                world.inbounds[pod] = (content, policies, terminating);
            }),
            Step::Terminating(pod) => self.change(|world| {
                world.inbounds[pod].2 = !world.inbounds[pod].2;
            }),
            Step::Bucket(name, Some(content)) => self.change(|world| {
                world.buckets.insert(name, content);
            }),
            Step::Bucket(name, None) => self.change(|world| {
                world.buckets.remove(&name);
            }),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut World)) {
        change(&mut self.world);
        self.publish();
    }

    /// Everyone reads and accepts everything until nothing comes any more.
    fn settle(&mut self) {
        // A quiet round may have woken someone whom it had asked already.
        let mut quiet = 0;
        for _ in 0..10_000 {
            let mut moved = false;
            for proxy in 0..CLIENTS {
                while self.poll(proxy) {
                    moved = true;
                }
                for kind in KINDS {
                    moved |= self.answer(proxy, kind, false);
                }
            }
            quiet = if moved { 0 } else { quiet + 1 };
            if quiet == 2 {
                return;
            }
        }
        panic!("the server never comes to rest");
    }

    fn may_see(&self, proxy: &Proxy, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Inbound => name == name_of(Kind::Inbound, proxy.index),
            Kind::Authorization => {
                let policies = &self.world.inbounds[proxy.index].1;
                policies.iter().any(|policy| name_of(kind, *policy) == name)
            }
            _ => true,
        }
    }

    fn check_end(&mut self) {
        for proxy in &self.proxies {
            for (kind, name) in &proxy.wanted {
                let drained = *kind == Kind::Inbound && self.hub.is_drained(name);
                let newest = self
                    .may_see(proxy, *kind, name)
                    .then(|| self.world.body(*kind, name, drained))
                    .flatten()
                    .map(|body| body.version().to_string());
                let key = (*kind, name.clone());
                let has = proxy.applied.get(&key);
                let version = has.cloned().flatten().map(|held| held.version);
                if newest.is_some() && proxy.refused.get(&key) == newest.as_ref() {
                    continue;
                }
                assert!(has.is_some(), "{kind} {name} was never answered");
                assert_eq!(version, newest, "{kind} {name} of pod-{}", proxy.index);
            }
        }
        let epoch = self.hub.epoch();
        let progress = self.hub.progress(epoch);
        assert!(progress.is_complete(), "{progress:?}");
    }

    /// Nobody who is connected uses a pod that has been told that it is drained.
    fn check_drained(&self) {
        for pod in 0..CLIENTS {
            if !self.hub.is_drained(&name_of(Kind::Inbound, pod)) {
                continue;
            }
            let address = address(pod).to_string();
            for proxy in &self.proxies {
                for (key, held) in &proxy.applied {
                    let uses = held.iter().flat_map(|held| &held.message.address_ranges);
                    let uses = uses.clone().any(|used| *used == address);
                    let wanted = proxy.wanted.contains(key);
                    assert!(
                        !(uses && wanted),
                        "pod-{} uses pod-{pod} by {key:?}",
                        proxy.index
                    );
                }
            }
        }
    }
}

/// In [`KINDS`].
const ENDPOINTS: usize = 3;

fn offer(bucket: usize, pods: &[usize]) -> Step {
    Step::Bucket(bucket, Some((0, pods.iter().copied().collect())))
}

/// The response that is out when a client lets go of a name comes in all the same, and counts if the client is back by then.
#[test]
fn who_is_back_before_it_answers_may_use_what_was_out() {
    let mut mesh = Mesh::new();
    let (caller, kind, name, leaving) = (1, ENDPOINTS, 1, 2);
    mesh.step(offer(name, &[leaving]));
    mesh.step(Step::Subscribe(caller, kind, name));
    mesh.step(Step::Poll(caller));
    mesh.step(Step::Terminating(leaving));
    let answer = Step::Answer {
        proxy: caller,
        kind,
        refuse: false,
    };
    for step in [
        offer(name, &[]),
        Step::Unsubscribe(caller, kind, name),
        Step::Subscribe(caller, kind, name),
        answer,
    ] {
        mesh.step(step);
        mesh.check_drained();
    }
    mesh.settle();
    mesh.check_drained();
    assert!(mesh.hub.is_drained(&name_of(Kind::Inbound, leaving)));
}

/// What it has applied meanwhile is not forgotten with the answer that was out when it asked again the first time.
#[test]
fn who_asks_again_and_again_and_refuses_uses_what_it_has() {
    let mut mesh = Mesh::new();
    let (caller, kind, name, leaving) = (0, ENDPOINTS, 0, 2);
    let ask = || Step::Subscribe(caller, kind, name);
    let answer = |refuse| Step::Answer {
        proxy: caller,
        kind,
        refuse,
    };
    for step in [
        offer(name, &[leaving]),
        ask(),
        Step::Poll(caller),
        ask(),
        answer(false),
        ask(),
        Step::Terminating(leaving),
        offer(name, &[]),
        Step::Poll(caller),
        answer(true),
    ] {
        mesh.step(step);
        mesh.check_drained();
    }
    assert!(!mesh.hub.is_drained(&name_of(Kind::Inbound, leaving)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn in_the_end_everyone_has_what_is_theirs(steps in steps()) {
        let mut mesh = Mesh::new();
        for step in steps {
            mesh.step(step);
        }
        mesh.settle();
        mesh.check_end();
    }

    /// As compile does it, a pod that is being deleted is offered nowhere from the same catalog on.
    /// Without reconnects (who is away may use anything) and without pods that return.
    #[test]
    fn drained_means_that_nobody_calls(steps in steps(), pods in prop::collection::vec(0..CLIENTS, 1..3)) {
        let mut mesh = Mesh::new();
        let mut leaving = BTreeSet::new();
        let last = steps.len() / 2;
        for (i, step) in steps.into_iter().enumerate() {
            if i == last {
                leaving.extend(pods.iter().copied());
                mesh.change(|world| {
                    for pod in &leaving {
                        world.inbounds[*pod].2 = true;
                    }
                    for (_, pods) in world.buckets.values_mut() {
                        pods.retain(|pod| !leaving.contains(pod));
                    }
                });
            }
            let step = match step {
                Step::Terminating(_) | Step::Reconnect(_) => continue,
                Step::Bucket(name, Some((content, pods))) => {
                    let staying = pods.difference(&leaving).copied().collect();
                    Step::Bucket(name, Some((content, staying)))
                }
                step => step,
            };
            mesh.step(step);
            mesh.check_drained();
        }
        mesh.settle();
        mesh.check_drained();
        for pod in leaving {
            let name = name_of(Kind::Inbound, pod);
            let refused = mesh.proxies.iter().any(|p| p.refused.keys().any(|(k, _)| *k == Kind::Endpoints));
            prop_assert!(refused || mesh.hub.is_drained(&name), "{name} is never drained");
        }
    }
}
