//! Who gets the request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use smallvec::smallvec;

use super::*;
use crate::backend::{Backend, BackendKey};
use crate::endpoint::{Endpoint, EndpointPort, EndpointState};
use crate::protocol::{Locality, Protocol};
use crate::traffic::{OutlierDetection, TrafficPolicy};

fn endpoint(last: u8, weight: u32) -> Endpoint {
    Endpoint {
        address: IpAddr::from([10, 0, 0, last]),
        ports: smallvec![EndpointPort {
            service_port: 80,
            port: 8080,
            mtls: false,
            protocol: Protocol::Detect,
        }],
        identity: None,
        namespace: "shop".into(),
        workload: "web".into(),
        locality: Locality {
            region: "".into(),
            zone: "".into(),
        },
        weight,
        ready: true,
        terminating: false,
        state: EndpointState::new(),
    }
}

fn policy(balancing: Balancing) -> Arc<TrafficPolicy> {
    Arc::new(TrafficPolicy {
        balancing,
        outlier: Some(OutlierDetection {
            consecutive_failures: 2,
            base_ejection: Duration::from_secs(10),
            max_ejection_percent: 50,
        }),
        ..TrafficPolicy::default()
    })
}

struct Pool {
    backend: Arc<Backend>,
    rng: SmallRng,
}

impl Pool {
    fn new(balancing: Balancing, endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let backend = Backend::new(BackendKey {
            namespace: "shop".into(),
            name: "web".into(),
            port: 80,
        });
        let endpoints = endpoints.into_iter().map(Arc::new);
        backend.replace(BackendSnapshot::new(
            endpoints,
            80,
            policy(balancing),
            Protocol::Http,
        ));
        Self {
            backend,
            rng: SmallRng::seed_from_u64(3),
        }
    }

    fn pick(
        &mut self,
        now: Instant,
        tried: &[u64],
        latency: impl Fn(u64) -> f64,
    ) -> Option<Target> {
        let snapshot = self.backend.load();
        pick(
            &snapshot,
            &self.backend.state,
            now,
            tried,
            &mut self.rng,
            latency,
        )
        .cloned()
    }

    fn counts(
        &mut self,
        now: Instant,
        picks: usize,
        latency: impl Fn(u64) -> f64,
    ) -> HashMap<u8, usize> {
        let mut counts = HashMap::new();
        for _ in 0..picks {
            let picked = self.pick(now, &[], &latency).unwrap();
            *counts.entry(last(&picked)).or_default() += 1;
        }
        counts
    }

    fn target(&self, at: u8) -> Target {
        let snapshot = self.backend.load();
        snapshot
            .all()
            .iter()
            .find(|t| last(t) == at)
            .unwrap()
            .clone()
    }

    fn fail(&self, at: u8, times: usize, now: Instant) {
        for _ in 0..times {
            self.backend.on_failure(&self.target(at), now);
        }
    }
}

fn last(target: &Target) -> u8 {
    match target.endpoint.address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

fn unknown(_: u64) -> f64 {
    0.0
}

#[test]
fn round_robin_visits_all_equally_and_by_weight() {
    let now = Instant::now();
    let mut even = Pool::new(Balancing::RoundRobin, (1..=5).map(|n| endpoint(n, 1)));
    let counts = even.counts(now, 50, unknown);
    assert!(
        counts.len() == 5 && counts.values().all(|n| *n == 10),
        "{counts:?}"
    );
    let mut weighted = Pool::new(Balancing::RoundRobin, [endpoint(1, 3), endpoint(2, 1)]);
    let counts = weighted.counts(now, 40, unknown);
    assert_eq!((counts[&1], counts[&2]), (30, 10));
}

#[test]
fn the_faster_of_two_wins_and_the_loaded_one_loses() {
    let now = Instant::now();
    let mut pool = Pool::new(Balancing::LeastLatency, [endpoint(1, 1), endpoint(2, 1)]);
    let fast = pool.target(1).id();
    let latency = move |id| if id == fast { 0.001 } else { 0.004 };
    assert_eq!(pool.counts(now, 100, latency), HashMap::from([(1, 100)]));
    let _busy: Vec<_> = (0..8)
        .map(|_| pool.target(1).endpoint.state.begin())
        .collect();
    assert_eq!(pool.counts(now, 100, latency), HashMap::from([(2, 100)]));
}

#[test]
fn one_without_an_average_is_compared_by_load_alone() {
    let now = Instant::now();
    let mut pool = Pool::new(Balancing::LeastLatency, [endpoint(1, 1), endpoint(2, 1)]);
    let known = pool.target(1).id();
    let latency = move |id| if id == known { 0.001 } else { 0.0 };
    let counts = pool.counts(now, 200, latency);
    assert!(counts[&2] > 50, "a new endpoint is not starved: {counts:?}");
    let _busy = pool.target(2).endpoint.state.begin();
    assert_eq!(pool.counts(now, 50, latency), HashMap::from([(1, 50)]));
}

#[test]
fn weights_decide_how_often_one_is_drawn() {
    let now = Instant::now();
    let heavy = (1..=10).map(|n| endpoint(n, if n == 1 { 91 } else { 1 }));
    let mut pool = Pool::new(Balancing::LeastLatency, heavy);
    let counts = pool.counts(now, 2_000, unknown);
    assert!(counts[&1] > 1_000, "{counts:?}");
}

#[test]
fn who_takes_no_requests_gets_none() {
    let now = Instant::now();
    let mut gone = endpoint(2, 1);
    gone.terminating = true;
    let mut starting = endpoint(3, 1);
    starting.ready = false;
    for balancing in [Balancing::LeastLatency, Balancing::RoundRobin] {
        let all = [endpoint(1, 1), gone.clone(), starting.clone()];
        assert_eq!(
            Pool::new(balancing, all).counts(now, 20, unknown),
            HashMap::from([(1, 20)])
        );
        let mut none = Pool::new(balancing, [gone.clone(), starting.clone()]);
        assert!(none.pick(now, &[], unknown).is_none());
        assert_eq!(none.backend.load().all().len(), 2);
    }
}

#[test]
fn the_tried_are_left_out_while_there_are_others() {
    let now = Instant::now();
    for balancing in [Balancing::LeastLatency, Balancing::RoundRobin] {
        let mut pool = Pool::new(balancing, (1..=3).map(|n| endpoint(n, 1)));
        let ids: Vec<_> = (1..=3).map(|n| pool.target(n).id()).collect();
        for _ in 0..20 {
            assert_eq!(last(&pool.pick(now, &ids[..2], unknown).unwrap()), 3);
        }
        assert!(pool.pick(now, &ids, unknown).is_some());
    }
}

#[test]
fn failures_in_a_row_eject_and_success_interrupts_them() {
    let now = Instant::now();
    let mut pool = Pool::new(Balancing::LeastLatency, (1..=4).map(|n| endpoint(n, 1)));
    pool.fail(1, 1, now);
    pool.backend.on_success(&pool.target(1), now);
    pool.fail(1, 1, now);
    assert!(!pool.target(1).endpoint.state.is_ejected(now));
    pool.fail(1, 1, now);
    assert!(pool.target(1).endpoint.state.is_ejected(now));
    assert!(!pool.counts(now, 100, unknown).contains_key(&1));
}

#[test]
fn an_ejected_endpoint_comes_back_by_one_request_at_a_time() {
    let now = Instant::now();
    let pool = Pool::new(Balancing::LeastLatency, (1..=4).map(|n| endpoint(n, 1)));
    let state = pool.target(1).endpoint.state.clone();
    pool.fail(1, 2, now);
    let lapsed = now + Duration::from_secs(11);
    assert!(!state.is_available(now) && state.is_available(lapsed));
    let probe = state.begin();
    assert!(!state.is_available(lapsed), "one is trying it");
    drop(probe);
    pool.fail(1, 1, lapsed);
    assert!(state.is_ejected(lapsed), "a failed try ejects at once");
    assert!(
        state.is_ejected(lapsed + Duration::from_secs(19)),
        "for twice as long"
    );
    let again = lapsed + Duration::from_secs(21);
    assert!(state.is_available(again));
    state.on_success(again);
    let _many: Vec<_> = (0..5).map(|_| state.begin()).collect();
    assert!(state.is_available(again), "closed again");
}

#[test]
fn an_old_ejection_is_forgiven() {
    let now = Instant::now();
    let pool = Pool::new(Balancing::LeastLatency, (1..=4).map(|n| endpoint(n, 1)));
    let state = pool.target(1).endpoint.state.clone();
    pool.fail(1, 2, now);
    state.on_success(now + Duration::from_secs(11));
    let soon = now + Duration::from_secs(60);
    pool.fail(1, 2, soon);
    assert_eq!(state.ejections(), 2);
    state.on_success(soon + Duration::from_secs(21));
    let much_later = soon + Duration::from_secs(1_000);
    pool.fail(1, 2, much_later);
    assert_eq!(state.ejections(), 1);
    assert!(state.is_available(much_later + Duration::from_secs(11)));
}

#[test]
fn a_late_success_does_not_end_an_ejection() {
    let now = Instant::now();
    let pool = Pool::new(Balancing::LeastLatency, (1..=4).map(|n| endpoint(n, 1)));
    pool.fail(1, 2, now);
    pool.backend
        .on_success(&pool.target(1), now + Duration::from_secs(1));
    assert!(
        pool.target(1)
            .endpoint
            .state
            .is_ejected(now + Duration::from_secs(1))
    );
}

#[test]
fn no_more_than_the_percentage_is_out_but_one_always_may() {
    let now = Instant::now();
    let pool = Pool::new(Balancing::LeastLatency, (1..=4).map(|n| endpoint(n, 1)));
    for n in 1..=4 {
        pool.fail(n, 3, now);
    }
    let out = |pool: &Pool, of: u8| {
        (1..=of)
            .filter(|n| pool.target(*n).endpoint.state.is_ejected(now))
            .count()
    };
    assert_eq!(out(&pool, 4), 2);
    let single = Pool::new(Balancing::LeastLatency, [endpoint(1, 1)]);
    single.fail(1, 5, now);
    assert_eq!(out(&single, 1), 1);
}

#[test]
fn with_nobody_healthy_the_ejected_are_used() {
    let now = Instant::now();
    let mut pool = Pool::new(Balancing::LeastLatency, [endpoint(1, 1), endpoint(2, 1)]);
    for n in 1..=2 {
        let target = pool.target(n);
        target
            .endpoint
            .state
            .eject(now, &OutlierDetection::default());
    }
    assert_eq!(pool.counts(now, 100, unknown).len(), 2);
}

#[test]
fn an_average_follows_peaks_at_once_and_forgets_slowly() {
    let now = Instant::now();
    let mut average = PeakEwma::new(Duration::from_millis(1), now);
    average.observe(Duration::from_millis(100), now);
    assert!((average.seconds(now) - 0.1).abs() < 1e-9);
    average.observe(Duration::from_millis(1), now);
    assert!(average.seconds(now) > 0.09);
    let later = now + PeakEwma::DECAY * 5;
    average.observe(Duration::from_millis(1), later);
    assert!(average.seconds(later) < 0.002);
}

#[test]
fn steps_visit_every_point_once() {
    for total in 1..200_u64 {
        let visited: std::collections::HashSet<_> = (0..total)
            .map(|turn| turn * stride(total) % total)
            .collect();
        assert_eq!(visited.len() as u64, total, "{total}");
    }
}

proptest! {
    #[test]
    fn somebody_is_picked_whenever_somebody_is_usable(
        kinds in prop::collection::vec((1_u32..9, any::<bool>(), any::<bool>(), any::<bool>()), 0..8),
        round_robin: bool,
        tried in 0_usize..8,
    ) {
        let now = Instant::now();
        let endpoints: Vec<_> = kinds.iter().enumerate().map(|(n, (weight, ready, terminating, ejected))| {
            let mut endpoint = endpoint(n as u8, *weight);
            endpoint.ready = *ready;
            endpoint.terminating = *terminating;
            if *ejected {
                endpoint.state.eject(now, &OutlierDetection::default());
            }
            endpoint
        }).collect();
        let usable = endpoints.iter().any(Endpoint::is_usable);
        let tried: Vec<_> = endpoints.iter().take(tried).map(|e| e.state.id()).collect();
        let balancing = if round_robin { Balancing::RoundRobin } else { Balancing::LeastLatency };
        let mut pool = Pool::new(balancing, endpoints);
        let picked = pool.pick(now, &tried, unknown);
        prop_assert_eq!(picked.is_some(), usable);
        prop_assert!(picked.is_none_or(|target| target.endpoint.is_usable()));
    }
}
