//! The store under its limits, while connected and not.

use std::net::Ipv4Addr;

use super::*;
use crate::backend::{BackendKey, BackendSnapshot};
use crate::protocol::MtlsMode;
use crate::service::Service;

fn address(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, 0, 1).into(), port)
}

fn service(name: &str) -> Arc<Service> {
    Arc::new(Service {
        namespace: "shop".into(),
        name: name.into(),
        addresses: vec![],
        ports: vec![],
        policy: Arc::default(),
    })
}

fn mesh(outbound: OutboundPolicy) -> MeshConfig {
    MeshConfig {
        ranges: vec!["10.0.0.0/8".parse().unwrap()],
        outbound,
        ..MeshConfig::default()
    }
}

fn connected(limits: StoreLimits) -> (Arc<Store>, Writer) {
    let (store, writer) = Store::new(limits);
    writer.set_mesh(mesh(OutboundPolicy::AllowAny));
    writer.set_connected(true);
    (store, writer)
}

fn refused(resolution: Resolution) -> Option<RefusedReason> {
    match resolution {
        Resolution::Refused(reason) => Some(reason),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_look_ups_are_one_question() {
    let (store, mut writer) = connected(StoreLimits::default());
    let asks: Vec<_> = (0..10)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.resolve(address(80)).await })
        })
        .collect();
    assert_eq!(writer.wanted().await, address(80));
    let cell = writer.set_service(service("web"));
    let target = AddressTarget::Service {
        service: Arc::clone(&cell),
        port: 80,
    };
    writer.set_address(address(80), target);
    for ask in asks {
        let Resolution::Service { service, port: 80 } = ask.await.unwrap() else {
            panic!("not the service");
        };
        assert!(Arc::ptr_eq(&service, &cell));
    }
    assert!(writer.demand_is_empty());
    assert!(store.resolved(address(80)).is_some());
}

#[tokio::test(start_paused = true)]
async fn nobody_answers_within_a_second() {
    let (store, _writer) = connected(StoreLimits::default());
    let began = Instant::now();
    let inside = store.resolve(address(80)).await;
    assert_eq!(refused(inside), Some(RefusedReason::NoControlPlane));
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    let outside = store.resolve("192.0.2.1:443".parse().unwrap()).await;
    assert!(matches!(outside, Resolution::Passthrough));
}

#[tokio::test(start_paused = true)]
async fn without_a_stream_nobody_waits() {
    let (store, writer) = connected(StoreLimits::default());
    writer.set_connected(false);
    let began = Instant::now();
    let inside = store.resolve(address(80)).await;
    assert_eq!(refused(inside), Some(RefusedReason::NoControlPlane));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn before_the_mesh_is_known_nothing_passes() {
    let (store, writer) = Store::new(StoreLimits::default());
    let outside = store.resolve("192.0.2.1:443".parse().unwrap()).await;
    assert_eq!(refused(outside), Some(RefusedReason::NoControlPlane));
    assert!(store.inbound().is_none());
    writer.set_mesh(mesh(OutboundPolicy::RegistryOnly));
    let outside = store.resolve("192.0.2.1:443".parse().unwrap()).await;
    assert_eq!(refused(outside), Some(RefusedReason::RegistryOnly));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_an_answer_that_a_push_overturns() {
    let (store, mut writer) = connected(StoreLimits::default());
    let nobody = address(81);
    writer.set_address(nobody, AddressTarget::Nobody);
    let unknown = store.resolved(nobody).unwrap();
    assert_eq!(refused(unknown), Some(RefusedReason::UnknownMeshAddress));
    let service = writer.set_service(service("web"));
    writer.set_address(nobody, AddressTarget::Service { service, port: 81 });
    assert!(matches!(
        store.resolved(nobody),
        Some(Resolution::Service { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn look_ups_of_what_is_new_are_limited() {
    let (store, _writer) = connected(StoreLimits {
        lookup_burst: 2,
        lookups_per_second: 1,
        ..StoreLimits::default()
    });
    let mut reasons = Vec::new();
    for port in 1..=3 {
        let ask = store.resolve(address(port));
        reasons.push(refused(
            tokio::time::timeout(Duration::ZERO, ask)
                .await
                .unwrap_or(Resolution::Passthrough),
        ));
    }
    assert_eq!(reasons, [None, None, Some(RefusedReason::LookupLimit)]);
    tokio::time::advance(Duration::from_secs(1)).await;
    let asked = store.resolve(address(3)).await;
    assert_eq!(refused(asked), Some(RefusedReason::NoControlPlane));
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_is_let_go_and_kept_for_when_nobody_answers() {
    let (store, mut writer) = connected(StoreLimits {
        idle_sweeps: 1,
        max_let_go: 1,
        ..StoreLimits::default()
    });
    let cell = writer.set_service(service("web"));
    for port in [1, 2] {
        let service = Arc::clone(&cell);
        writer.set_address(address(port), AddressTarget::Service { service, port });
        store.resolved(address(port));
    }
    let backend = writer.backend(&BackendKey {
        namespace: "shop".into(),
        name: "10.0.0.1".into(),
        port: 3,
    });
    writer.set_address(address(3), AddressTarget::Workload(backend));
    assert_eq!(writer.sweep(), Unused::default());
    store.resolved(address(3));
    let unused = writer.sweep();
    assert_eq!(unused.let_go.len(), 2, "{unused:?}");
    assert_eq!(unused.forgotten.len(), 1, "{unused:?}");
    let kept = if unused.forgotten == [address(1)] {
        2
    } else {
        1
    };
    assert!(store.resolved(address(kept)).is_none());
    let last_known = store.resolve(address(kept)).await;
    assert!(matches!(last_known, Resolution::Service { .. }));
    assert_eq!(writer.wanted().await, address(kept));
}

#[tokio::test(start_paused = true)]
async fn a_service_in_use_keeps_its_address_and_is_asked_for_again() {
    let (_store, mut writer) = connected(StoreLimits {
        idle_sweeps: 1,
        ..StoreLimits::default()
    });
    let cell = writer.set_service(service("web"));
    let service = Arc::clone(&cell);
    writer.set_address(address(1), AddressTarget::Service { service, port: 1 });
    for _ in 0..5 {
        cell.load();
        assert_eq!(writer.sweep(), Unused::default());
    }
    assert_eq!(writer.sweep().let_go, [address(1)]);
    assert_eq!(writer.sweep(), Unused::default());
    cell.load();
    assert_eq!(writer.sweep().wanted_again, [address(1)]);
}

#[test]
fn objects_keep_their_identity_while_anybody_holds_them() {
    let (_store, mut writer) = Store::new(StoreLimits::default());
    let key = BackendKey {
        namespace: "shop".into(),
        name: "web".into(),
        port: 80,
    };
    let backend = writer.backend(&key);
    backend.replace(BackendSnapshot::empty());
    assert!(Arc::ptr_eq(&backend, &writer.backend(&key)));
    let name = ServiceName {
        namespace: "shop".into(),
        name: "web".into(),
    };
    let ip = Ipv4Addr::LOCALHOST.into();
    let state = writer.endpoint_state(&name, ip);
    assert_eq!(state.id(), writer.endpoint_state(&name, ip).id());
    let cell = writer.set_service(service("web"));
    assert!(Arc::ptr_eq(&cell, &writer.set_service(service("web"))));
    let (id, _) = (state.id(), drop(state));
    writer.sweep();
    assert_ne!(id, writer.endpoint_state(&name, ip).id());
}

#[test]
fn changes_of_the_inbound_are_announced() {
    let (store, writer) = Store::new(StoreLimits::default());
    let mut changes = store.inbound_changes();
    writer.set_inbound(Inbound::new("shop", "web-1", MtlsMode::Strict));
    assert!(changes.has_changed().unwrap());
    assert_eq!(&*changes.borrow_and_update().as_ref().unwrap().pod, "web-1");
    assert_eq!(store.inbound().unwrap().mtls, MtlsMode::Strict);
}

#[test]
fn readers_on_many_threads_always_see_something_whole() {
    let (store, mut writer) = Store::new(StoreLimits::default());
    let cell = writer.set_service(service("web"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for port in 1..200 {
                        if let Some(found) = store.resolved(address(port)) {
                            let Resolution::Service { service, port: at } = found else {
                                panic!("{found:?}");
                            };
                            assert_eq!(at, port);
                            assert_eq!(&*service.load().name, "web");
                        }
                    }
                }
            });
        }
        for port in 1..200 {
            let service = Arc::clone(&cell);
            writer.set_address(address(port), AddressTarget::Service { service, port });
            writer.set_service(self::service("web"));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(store.addresses().len(), 199);
}
