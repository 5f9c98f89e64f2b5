//! Renewal times, from a seeded source of chance.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

#[test]
fn renewal_is_due_at_about_two_thirds_and_not_for_all_at_once() {
    let times: std::collections::BTreeSet<_> = (0..100)
        .map(|seed| RotationSchedule::new(start(), start() + DAY, &mut rng(seed)).next_attempt())
        .collect();
    assert!(times.len() > 90);
    assert!(*times.first().unwrap() >= start() + DAY.mul_f64(0.60));
    assert!(*times.last().unwrap() <= start() + DAY.mul_f64(0.70));
}

#[test]
fn failures_back_off_and_hurry_at_the_end() {
    let mut rng = rng(1);
    let mut schedule = RotationSchedule::new(start(), start() + DAY, &mut rng);
    let mut now = schedule.next_attempt();
    let mut pauses = Vec::new();
    while now < start() + DAY && pauses.len() < 1000 {
        let next = schedule.failed(now, &mut rng);
        pauses.push(next.duration_since(now).unwrap());
        now = next;
    }
    let seconds = Duration::from_secs;
    assert!(pauses[0] >= seconds(5) && pauses[0] <= seconds(10));
    assert!(pauses[1] >= seconds(10) && pauses[1] <= seconds(20));
    assert!(pauses.iter().all(|pause| *pause <= seconds(600)));
    assert!(pauses.iter().any(|pause| *pause >= seconds(300)));
    assert!(*pauses.last().unwrap() <= seconds(10));
    assert_eq!(usize::try_from(schedule.failures()).unwrap(), pauses.len());
}

#[test]
fn the_alarm_comes_when_a_fifth_of_the_life_is_left() {
    let schedule = RotationSchedule::new(start(), start() + DAY, &mut rng(1));
    assert!(!schedule.alarm(schedule.next_attempt()));
    assert!(!schedule.alarm(start() + DAY.mul_f64(0.79)));
    assert!(schedule.alarm(start() + DAY.mul_f64(0.81)));
    assert!(schedule.alarm(start() + DAY * 2));
    assert!(!schedule.expired(start() + DAY));
    assert!(schedule.expired(start() + DAY + HOUR));
}

#[test]
fn what_is_due_is_not_waited_for() {
    let schedule = RotationSchedule::new(start(), start() + DAY, &mut rng(1));
    assert_eq!(
        schedule.delay(start()),
        schedule.next_attempt().duration_since(start()).unwrap()
    );
    assert_eq!(schedule.delay(start() + DAY), Duration::ZERO);
}

proptest! {
    #[test]
    fn whatever_the_life_pauses_are_sane(
        life in 1_u64..100_000_000, seed in any::<u64>(), fails in 1_usize..80
    ) {
        let mut rng = rng(seed);
        let end = start() + Duration::from_secs(life);
        let mut schedule = RotationSchedule::new(start(), end, &mut rng);
        let mut now = schedule.next_attempt();
        prop_assert!(now > start() && now < end);
        for _ in 0..fails {
            let next = schedule.failed(now, &mut rng);
            let pause = next.duration_since(now).unwrap();
            prop_assert!(pause >= Duration::from_millis(250) && pause <= Duration::from_secs(600));
            now = next;
        }
    }
}
