//! Clocks: certificates and tokens begin and end by them.

use super::catalogue::Fault;
use super::facts::Facts;

/// What a certificate begins before its time is more than this.
const TOLERATED: i64 = 30;

pub(crate) fn skew(facts: &Facts) -> Vec<Fault> {
    let off = facts
        .clocks
        .iter()
        .filter(|clock| clock.ahead.abs() > TOLERATED);
    off.map(|clock| {
        let direction = if clock.ahead > 0 { "ahead of" } else { "behind" };
        Fault::error(
            format!(
                "the clock of {} is {} s {direction} the API server's",
                clock.whose,
                clock.ahead.abs()
            ),
            "synchronise it (chrony, systemd-timesyncd): certificates that are not valid yet, or no longer, are refused",
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::facts::Clock;
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_named_either_way() {
        let clock = |whose: &str, ahead| Clock {
            whose: whose.into(),
            ahead,
        };
        let facts = Facts {
            clocks: vec![
                clock("node a", 300),
                clock("node b", -31),
                clock("node c", 2),
            ],
            ..Facts::default()
        };
        let said: Vec<String> = skew(&facts)
            .into_iter()
            .map(|fault| fault.message)
            .collect();
        assert_eq!(
            said,
            [
                "the clock of node a is 300 s ahead of the API server's",
                "the clock of node b is 31 s behind the API server's",
            ]
        );
    }
}
