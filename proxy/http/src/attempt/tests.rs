//! Which ends of an attempt lead to another.

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

fn policy(on: &[RetryOn]) -> RetryPolicy {
    RetryPolicy {
        attempts: 1,
        on: on.to_vec(),
        budget_min_per_second: 100,
        ..RetryPolicy::default()
    }
}

fn budget() -> std::sync::Arc<weft_proxy_config::Backend> {
    weft_proxy_config::Backend::new(weft_proxy_config::BackendKey {
        namespace: "a".into(),
        name: "b".into(),
        port: 1,
    })
}

fn is_again(method: &Method, on: &[RetryOn], ended: Ended, replayable: bool) -> bool {
    let (policy, backend) = (policy(on), budget());
    let rng = &mut SmallRng::seed_from_u64(1);
    let next = Attempts::new(method, &policy).next(
        ended,
        &policy,
        Some(&backend.state),
        replayable,
        |_| true,
        rng,
    );
    matches!(next, Next::Again(_))
}

#[test]
fn what_nobody_saw_is_sent_again_whatever_method_and_policy() {
    let undelivered = [
        Ended::NotConnected,
        Ended::Sent(SendError::Undelivered),
        Ended::Sent(SendError::Refused),
    ];
    for ended in undelivered {
        assert!(is_again(&Method::POST, &[], ended, true), "{ended:?}");
        assert!(
            !is_again(&Method::POST, &[], ended, false),
            "{ended:?}: the body is gone"
        );
    }
    for ended in [
        Ended::Overloaded,
        Ended::Sent(SendError::ClientGone),
        Ended::Sent(SendError::Reset),
        Ended::TimedOut,
    ] {
        assert!(!is_again(&Method::GET, &[], ended, true), "{ended:?}");
    }
}

#[test]
fn each_condition_is_met_by_its_end_alone() {
    let answer = |status, grpc| Ended::Answered(StatusCode::from_u16(status).unwrap(), grpc);
    for (ended, met) in [
        (answer(500, None), &[RetryOn::ServerError][..]),
        (
            answer(503, None),
            &[RetryOn::ServerError, RetryOn::GatewayError],
        ),
        (answer(200, None), &[]),
        (answer(404, None), &[]),
        (answer(200, Some(0)), &[]),
        (answer(200, Some(14)), &[RetryOn::GrpcUnavailable]),
        (answer(200, Some(8)), &[RetryOn::GrpcResourceExhausted]),
        (answer(200, Some(1)), &[RetryOn::GrpcCancelled]),
        (answer(200, Some(4)), &[RetryOn::GrpcDeadlineExceeded]),
        (answer(200, Some(13)), &[RetryOn::GrpcInternal]),
        (Ended::Sent(SendError::Reset), &[RetryOn::Reset]),
        (Ended::TimedOut, &[RetryOn::AttemptTimeout]),
    ] {
        assert_eq!(condition(ended).as_slice(), met, "{ended:?}");
        assert_eq!(is_again(&Method::GET, met, ended, true), !met.is_empty());
        assert!(
            !is_again(&Method::POST, met, ended, true),
            "{ended:?}: POST may have had its effect"
        );
    }
}

#[test]
fn pauses_double_up_to_the_longest_with_full_jitter() {
    let policy = RetryPolicy::default();
    let rng = &mut SmallRng::seed_from_u64(1);
    for (nth, step) in [(1, 25), (2, 50), (4, 200), (6, 800), (7, 1000), (200, 1000)] {
        let pauses: Vec<_> = (0..200)
            .map(|_| backoff(&policy, nth, rng).as_millis())
            .collect();
        assert!(pauses.iter().all(|pause| *pause <= step), "{nth}");
        assert!(pauses.iter().any(|pause| *pause > step * 3 / 4), "{nth}");
        assert!(pauses.iter().any(|pause| *pause < step / 4), "{nth}");
    }
}

#[test]
fn resends_are_bounded_and_retries_end_with_policy_and_budget() {
    let (policy, backend) = (policy(&[RetryOn::Reset]), budget());
    let rng = &mut SmallRng::seed_from_u64(1);
    let mut attempts = Attempts::new(&Method::GET, &policy);
    let mut next = |ended, policy: &RetryPolicy| {
        attempts.next(ended, policy, Some(&backend.state), true, |_| true, rng)
    };
    for _ in 0..MAX_RESENDS {
        assert!(matches!(next(Ended::NotConnected, &policy), Next::Again(_)));
    }
    assert_eq!(
        next(Ended::NotConnected, &policy),
        Next::Stop { exhausted: false }
    );
    assert!(matches!(
        next(Ended::Sent(SendError::Reset), &policy),
        Next::Again(_)
    ));
    assert_eq!(
        next(Ended::Sent(SendError::Reset), &policy),
        Next::Stop { exhausted: true }
    );
    let spent = RetryPolicy {
        attempts: 9,
        budget_min_per_second: 0,
        ..policy
    };
    assert_eq!(
        next(Ended::Sent(SendError::Reset), &spent),
        Next::Stop { exhausted: true }
    );
}
