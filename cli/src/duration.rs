//! Durations on the command line and in tables: `500ms`, `10s`, `1m30s`, as in the Gateway API (GEP-2257).

use std::time::Duration;

/// Parses a sum of `h`, `m`, `s` and `ms` parts.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let fault = || format!("{text:?} is not a duration such as 500ms, 10s or 1m30s");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let amount: u64 = rest[..digits].parse().map_err(|_| fault())?;
        rest = &rest[digits..];
        let unit = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let millis = match &rest[..unit] {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(fault()),
        };
        total += Duration::from_millis(amount.checked_mul(millis).ok_or_else(fault)?);
        rest = &rest[unit..];
    }
    if text.is_empty() {
        Err(fault())
    } else {
        Ok(total)
    }
}

/// How long something has lasted, to two units.
pub(crate) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_durations_are_rounded_down() {
        let texts = [59, 61, 3_600, 90_061].map(|seconds| rough(Duration::from_secs(seconds)));
        assert_eq!(texts, ["59s", "1m1s", "1h0m", "25h1m"]);
    }

    #[test]
    fn durations_are_sums_of_parts() {
        assert_eq!(parse("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse("250ms").unwrap(), Duration::from_millis(250));
        for bad in ["", "10", "s", "-1s", "1.5s", "1d", "99999999999999999999h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
