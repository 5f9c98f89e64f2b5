//! Following changes gives what compiling from scratch gives, and the delta names every resource
//! that is different.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::Value;
use weft_compile::{Compiler, Delta, ResourceKey, Settings, Snapshot, compile};
use weft_model::membership::{ENABLED, INJECT};
use weft_model::*;

const NAMESPACES: [&str; 3] = ["shop", "office", "weft-system"];
const NAMES: [&str; 3] = ["a", "b", "c"];
const LABELS: [&str; 2] = ["red", "blue"];

/// Random choices, drawn one after the other.
struct Dice<'a>(&'a mut dyn Iterator<Item = u8>);

impl Dice<'_> {
    fn below(&mut self, sides: u8) -> u8 {
        self.0.next().unwrap_or_default() % sides
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.below(u8::try_from(choices.len()).unwrap()))]
    }

    fn name(&mut self) -> Arc<str> {
        self.one_of(&NAMES).into()
    }

    fn namespace(&mut self) -> Arc<str> {
        self.one_of(&NAMESPACES).into()
    }

    fn labels(&mut self) -> Labels {
        match self.below(3) {
            0 => Labels::new(),
            _ => Labels::from([("color".into(), self.one_of(&LABELS).into())]),
        }
    }

    fn address(&mut self, net: u8) -> IpAddr {
        IpAddr::from([10, net, 0, self.below(3)])
    }

    fn service(&mut self) -> Service {
        let port = |name: &str, port, target| ServicePort {
            name: name.into(),
            port,
            target,
            transport: Transport::Tcp,
            app_protocol: None,
        };
        let mut ports = vec![port("http", 80, TargetPort::Name("main".into()))];
        if self.coin() {
            let name = self.one_of(&["tcp", "second"]);
            ports.push(port(name, 81, TargetPort::Number(9000)));
        }
        Service {
            cluster_ips: vec![self.address(96)],
            ports,
            selector: self.labels(),
            ..Service::default()
        }
    }

    fn slice(&mut self) -> EndpointSlice {
        let endpoints = (0..self.below(3)).map(|_| Endpoint {
            address: self.address(244),
            ready: self.coin(),
            serving: true,
            terminating: self.below(4) == 0,
            pod: self.coin().then(|| self.name()),
            zone: None,
        });
        let endpoints = endpoints.collect();
        EndpointSlice {
            service: self.name(),
            endpoints,
            ports: vec![EndpointPort {
                name: self.one_of(&["http", "second"]).into(),
                port: 8080,
                transport: Transport::Tcp,
                app_protocol: None,
            }],
        }
    }

    fn pod(&mut self) -> Pod {
        Pod {
            labels: self.labels(),
            ips: vec![self.address(244)],
            service_account: self.name(),
            uid: "u".into(),
            ports: vec![ContainerPort {
                name: "main".into(),
                port: 8080 + u16::from(self.below(2)),
                transport: Transport::Tcp,
            }],
            ready: self.coin(),
            terminating: self.below(4) == 0,
            meshed: self.below(4) > 0,
            asks_for_mesh: self.one_of(&[None, None, Some(true), Some(false)]),
            workload: "w".into(),
            host_network: self.below(8) == 0,
            zone: self.coin().then(|| "a".into()),
        }
    }

    fn route<M: Default>(&mut self) -> Route<M> {
        let parents = (0..=self.below(2)).map(|_| {
            let (group, kind) = self.one_of(&[("", "Service"), (GATEWAY_GROUP, "Gateway")]);
            ParentRef {
                group: group.into(),
                kind: kind.into(),
                namespace: self.coin().then(|| self.namespace()),
                name: self.name(),
                section_name: None,
                port: self.one_of(&[None, Some(80), Some(81)]),
            }
        });
        let parents = parents.collect();
        let backend = Backend {
            group: "".into(),
            kind: "Service".into(),
            namespace: self.coin().then(|| self.namespace()),
            name: self.name(),
            port: Some(self.one_of(&[80, 81])),
            weight: 1,
            filters: Vec::new(),
        };
        Route {
            parents,
            hostnames: Vec::new(),
            rules: vec![Rule {
                backends: vec![backend],
                ..Rule::default()
            }],
        }
    }

    fn reference(&mut self) -> TargetRef {
        TargetRef {
            group: "".into(),
            kind: "Service".into(),
            name: self.name(),
            section_name: self.one_of(&[None, Some("http")]).map(Into::into),
        }
    }

    fn authorization(&mut self) -> AuthorizationPolicy {
        AuthorizationPolicy {
            action: self.one_of(&[Action::Allow, Action::Deny]),
            targets: match self.below(3) {
                0 => PolicyTargets::Everything,
                1 => PolicyTargets::Selector(self.labels()),
                _ => PolicyTargets::References(vec![self.reference()]),
            },
            rules: vec![AuthorizationRule {
                to: vec![Operation {
                    ports: vec![self.one_of(&[80, 81])],
                    ..Operation::default()
                }],
                ..AuthorizationRule::default()
            }],
        }
    }

    fn mode(&mut self) -> Option<MtlsMode> {
        self.one_of(&[None, Some(MtlsMode::Strict), Some(MtlsMode::Permissive)])
    }

    fn spec(&mut self) -> Spec {
        match self.below(16) {
            0 | 1 => Spec::Service(self.service()),
            2 | 3 => Spec::EndpointSlice(self.slice()),
            4 | 5 => Spec::Pod(self.pod()),
            6 => Spec::HttpRoute(self.route()),
            7 => Spec::GrpcRoute(self.route()),
            8 => Spec::AuthorizationPolicy(self.authorization()),
            9 => Spec::PeerAuthentication(PeerAuthentication {
                selector: self.labels(),
                mode: self.mode(),
                ports: [(8080, MtlsMode::Strict)].into(),
            }),
            10 => Spec::TrafficPolicy(Box::new(TrafficPolicy {
                targets: vec![self.reference()],
                balancing: Some(self.one_of(&[Balancing::LeastLatency, Balancing::RoundRobin])),
                ..TrafficPolicy::default()
            })),
            11 => Spec::Namespace(Namespace {
                labels: match self.coin() {
                    true => Labels::from([(INJECT.into(), ENABLED.into())]),
                    false => Labels::new(),
                },
                ..Namespace::default()
            }),
            12 => Spec::GatewayClass(GatewayClass {
                controller: self.one_of(&[CONTROLLER, "example.com/other"]).into(),
            }),
            13 => Spec::Gateway(Gateway { class: self.name() }),
            14 => Spec::ReferenceGrant(ReferenceGrant {
                from: vec![GrantedTo {
                    group: GATEWAY_GROUP.into(),
                    kind: "HTTPRoute".into(),
                    namespace: self.namespace(),
                }],
                to: vec![Granted {
                    group: "".into(),
                    kind: "Service".into(),
                    name: self.coin().then(|| self.name()),
                }],
            }),
            _ => Spec::MeshConfig(MeshConfig {
                mtls: self.mode(),
                ..MeshConfig::default()
            }),
        }
    }

    fn change(&mut self) -> Change {
        let spec = self.spec();
        let (namespace, name) = match spec.kind() {
            Kind::MeshConfig => ("".into(), "default".into()),
            Kind::Namespace => ("".into(), self.namespace()),
            Kind::GatewayClass => ("".into(), self.name()),
            _ => (self.namespace(), self.name()),
        };
        if self.below(4) == 0 {
            return Change::Delete(ObjectKey::new(spec.kind(), namespace, name));
        }
        let meta = Meta {
            origin: Origin::Kubernetes {
                resource_version: 1,
            },
            created: Created {
                seconds: self.below(3).into(),
                place: "".into(),
            },
            generation: 1,
        };
        let mut object = Object::new(namespace, name, meta, spec);
        if self.below(8) == 0 {
            object.problems.push(Problem {
                field: self
                    .one_of(&["spec.rules[0]", "spec.targetRefs", "spec"])
                    .into(),
                reason: Reason::UnknownField,
                message: "unknown".into(),
            });
        }
        Change::Upsert(Arc::new(object))
    }
}

fn entries<'a>(dump: &'a Value, part: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    dump[part].as_object().unwrap().iter()
}

/// The names in one part of two dumps under which they differ.
fn differing(part: &str, before: &Value, after: &Value) -> BTreeSet<String> {
    let names = entries(before, part).chain(entries(after, part));
    names
        .map(|(name, _)| name.clone())
        .filter(|name| before[part].get(name) != after[part].get(name))
        .collect()
}

fn split(name: &str) -> (Arc<str>, Arc<str>) {
    let (namespace, name) = name.split_once('/').unwrap();
    (namespace.into(), name.into())
}

/// The key under which a delta names an entry of a dump.
fn key(part: &str, entry: &str) -> ResourceKey {
    if part == "addresses" {
        return ResourceKey::Address(entry.parse().unwrap());
    }
    let (namespace, name) = split(entry);
    match part {
        "services" => {
            let (name, from) = match name.split_once("?from=") {
                Some((name, from)) => (name.into(), Some(from.into())),
                None => (name.clone(), None),
            };
            ResourceKey::Service {
                namespace,
                name,
                from,
            }
        }
        "endpoints" => {
            let (name, bucket) = name.split_once('/').unwrap();
            ResourceKey::Endpoints {
                namespace,
                name: name.into(),
                bucket: bucket.parse().unwrap(),
            }
        }
        "inbounds" => ResourceKey::Inbound {
            namespace,
            pod: name,
        },
        _ => ResourceKey::Authorization { namespace, name },
    }
}

/// Every entry that differs is named, in the right one of the two sets.
fn check_delta(delta: &Delta, before: &Value, after: &Value) {
    for part in [
        "addresses",
        "services",
        "endpoints",
        "inbounds",
        "authorizations",
    ] {
        for entry in differing(part, before, after) {
            let key = key(part, &entry);
            // A view that a namespace no longer has of its own may be the shared one now.
            let same_view = entry.contains("?from=") && {
                let shared = entry.split('?').next().unwrap();
                let seen = |dump: &Value| {
                    let views = &dump["services"];
                    views.get(&entry).or(views.get(shared)).cloned()
                };
                seen(before) == seen(after)
            };
            let gone = after[part].get(&entry).is_none() && !entry.contains("?from=");
            let named = if gone { &delta.removed } else { &delta.changed };
            let anywhere = delta.changed.contains(&key) || delta.removed.contains(&key);
            assert!(
                same_view || named.contains(&key) || (entry.contains("?from=") && anywhere),
                "{key:?} differs and is not in {delta:?}"
            );
        }
    }
    for policy in differing("authorizations", before, after) {
        let (namespace, name) = split(&policy);
        for (pod, inbound) in entries(after, "inbounds") {
            let policies = inbound["policies"].as_array().unwrap();
            if policies
                .iter()
                .any(|held| held["namespace"] == *namespace && held["name"] == *name)
            {
                assert!(
                    delta.changed.contains(&key("inbounds", pod)),
                    "{pod} holds {policy}"
                );
            }
        }
    }
    if delta.is_empty() {
        assert_eq!(before, after);
    }
}

fn dump(snapshot: &Snapshot) -> Value {
    serde_json::to_value(snapshot).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn following_changes_equals_compiling_from_scratch(
        bytes in prop::collection::vec(any::<u8>(), 200..1200),
        batch in 1usize..6,
    ) {
        let mut bytes = bytes.into_iter().peekable();
        let mut compiler = Compiler::new(Settings::default());
        let mut before = dump(compiler.snapshot());
        while bytes.peek().is_some() {
            let mut dice = Dice(&mut bytes);
            let changes: Vec<_> = (0..batch).map(|_| dice.change()).collect();
            let shown = format!("{changes:#?}");
            let delta = compiler.apply(changes);
            let after = dump(compiler.snapshot());
            check_delta(&delta, &before, &after);
            let (scratch, diagnostics) = compile(Settings::default(), compiler.world());
            prop_assert_eq!(&after, &dump(&scratch), "after {}", shown);
            prop_assert_eq!(compiler.diagnostics(), diagnostics, "after {}", shown);
            before = after;
        }
    }
}
