//! One endpoint changes in a large mesh: one bucket is different, everything else stays the very
//! same.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use weft_compile::{Compiler, ResourceKey, Settings};
use weft_model::*;

const SERVICES: u32 = 500;
const PODS_PER_SERVICE: u32 = 10;

fn object(name: &str, spec: Spec) -> Change {
    let meta = Meta {
        origin: Origin::Kubernetes {
            resource_version: 1,
        },
        created: Created::default(),
        generation: 1,
    };
    Change::Upsert(Arc::new(Object::new("shop", name, meta, spec)))
}

fn labels(service: u32) -> Labels {
    [("app".into(), format!("app-{service}").into())].into()
}

fn address(net: u8, number: u32) -> IpAddr {
    Ipv4Addr::from_bits((u32::from(net) << 24) + number).into()
}

fn service(number: u32) -> Change {
    let port = ServicePort {
        name: "http".into(),
        port: 80,
        target: TargetPort::Number(8080),
        transport: Transport::Tcp,
        app_protocol: None,
    };
    let service = Service {
        cluster_ips: vec![address(11, number)],
        ports: vec![port],
        selector: labels(number),
        ..Service::default()
    };
    object(&format!("app-{number}"), Spec::Service(service))
}

fn pod(service: u32, nth: u32) -> Change {
    let pod = Pod {
        labels: labels(service),
        ips: vec![address(10, service * PODS_PER_SERVICE + nth)],
        service_account: "default".into(),
        ready: true,
        meshed: true,
        ..Pod::default()
    };
    object(&format!("app-{service}-{nth}"), Spec::Pod(pod))
}

/// The slice of a service; `sick` is not ready.
fn slice(service: u32, pods: u32, sick: Option<u32>) -> Change {
    let endpoints = (0..pods).map(|nth| Endpoint {
        address: address(10, service * PODS_PER_SERVICE + nth),
        ready: sick != Some(nth),
        serving: true,
        terminating: false,
        pod: Some(format!("app-{service}-{nth}").into()),
        zone: None,
    });
    let slice = EndpointSlice {
        service: format!("app-{service}").into(),
        endpoints: endpoints.collect(),
        ports: vec![EndpointPort {
            name: "http".into(),
            port: 8080,
            transport: Transport::Tcp,
            app_protocol: None,
        }],
    };
    object(&format!("app-{service}"), Spec::EndpointSlice(slice))
}

#[test]
fn an_endpoint_that_changes_costs_one_bucket() {
    let mut compiler = Compiler::new(Settings::default());
    let services = (0..SERVICES).flat_map(|service_number| {
        let pods = (0..PODS_PER_SERVICE).map(move |nth| pod(service_number, nth));
        [
            service(service_number),
            slice(service_number, PODS_PER_SERVICE, None),
        ]
        .into_iter()
        .chain(pods)
    });
    compiler.apply(services);
    let before = compiler.snapshot().clone();

    let delta = compiler.apply([slice(7, PODS_PER_SERVICE, Some(3))]);
    let bucket = ResourceKey::Endpoints {
        namespace: "shop".into(),
        name: "app-7".into(),
        bucket: 0,
    };
    assert_eq!(delta.changed, BTreeSet::from([bucket]));
    assert!(delta.removed.is_empty());

    let after = compiler.snapshot();
    let sick = |snapshot: &weft_compile::Snapshot| {
        let bucket = snapshot.endpoints("shop", "app-7", 0).unwrap();
        bucket
            .endpoints
            .iter()
            .filter(|endpoint| !endpoint.ready)
            .count()
    };
    assert_eq!(
        (sick(&before), sick(after)),
        (0, 1),
        "a snapshot taken before stays as it was"
    );
    let untouched =
        |snapshot: &weft_compile::Snapshot| snapshot.endpoints("shop", "app-8", 0).unwrap();
    assert!(Arc::ptr_eq(&untouched(&before), &untouched(after)));
    let inbound = |snapshot: &weft_compile::Snapshot| snapshot.inbound("shop", "app-7-3").unwrap();
    assert!(Arc::ptr_eq(&inbound(&before), &inbound(after)));
}

#[test]
fn of_a_large_service_one_of_many_buckets_changes() {
    const PODS: u32 = 2000;
    let mut compiler = Compiler::new(Settings::default());
    compiler.apply([service(0)]);
    compiler.apply((0..PODS).map(|nth| pod(0, nth)));
    compiler.apply([slice(0, PODS, None)]);
    let service = compiler
        .snapshot()
        .service("shop", "app-0", "office")
        .unwrap();
    assert_eq!(service.buckets, 16);

    let delta = compiler.apply([slice(0, PODS, Some(1234))]);
    assert_eq!(delta.changed.len(), 1, "{delta:?}");
    let held: usize = (0..service.buckets)
        .map(|bucket| {
            compiler
                .snapshot()
                .endpoints("shop", "app-0", bucket)
                .unwrap()
        })
        .map(|bucket| bucket.endpoints.len())
        .sum();
    assert_eq!(held, PODS as usize, "every endpoint stands in one bucket");
}
