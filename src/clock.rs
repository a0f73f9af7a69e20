//! The one clock. Read once a request, at the edge; everything below is told the instant.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{Duration, Utc};

use crate::domain::Time;

/// The time of day, truncated to the microseconds that both databases keep. Tests move it instead of sleeping.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset_seconds: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place that the rule leads to")]
    pub fn now(&self) -> Time {
        let now = Utc::now() + Duration::seconds(self.offset_seconds.load(Ordering::Relaxed));
        now - Duration::nanoseconds(i64::from(now.timestamp_subsec_nanos() % 1000))
    }

    /// Moves this clock and its clones ahead.
    pub fn advance(&self, seconds: i64) {
        self.offset_seconds.fetch_add(seconds, Ordering::Relaxed);
    }
}
