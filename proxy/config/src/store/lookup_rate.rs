//! How many new addresses may be asked for: a token bucket. Only look-ups of what is not known come here.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct LookupRate {
    per_second: f64,
    burst: f64,
    bucket: Mutex<Option<(f64, Instant)>>,
}

impl LookupRate {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: f64::from(per_second),
            burst: f64::from(burst),
            bucket: Mutex::new(None),
        }
    }

    /// Takes one look-up out of the bucket.
    pub(super) fn admit(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, at) = bucket.unwrap_or((self.burst, now));
        let gained = now.saturating_duration_since(at).as_secs_f64() * self.per_second;
        let tokens = (tokens + gained).min(self.burst);
        let admitted = tokens >= 1.0;
        *bucket = Some((if admitted { tokens - 1.0 } else { tokens }, now));
        admitted
    }
}
