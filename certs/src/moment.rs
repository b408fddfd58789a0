//! Points in time, as certificates and tokens count them.

use std::fmt;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

/// Whole seconds since 1970. Displays as `2026-11-23T08:00:00Z`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnixSeconds(pub u64);

impl UnixSeconds {
    /// Returns the moment `delay` later, rounded down to a second.
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay.as_secs()))
    }

    /// Returns the moment `delay` earlier, and never one before 1970.
    pub fn before(self, delay: Duration) -> Self {
        Self(self.0.saturating_sub(delay.as_secs()))
    }

    /// Converts for rcgen. A moment past the year 9999 becomes its last day.
    pub(crate) fn date(self) -> OffsetDateTime {
        const LAST_DAY_SECONDS: i64 = 253_402_214_400;
        let seconds = i64::try_from(self.0).unwrap_or(i64::MAX).min(LAST_DAY_SECONDS);
        OffsetDateTime::from_unix_timestamp(seconds).expect("the year 9999 is in range")
    }

    /// Converts from what certificates hold. A moment before 1970 becomes 1970.
    pub(crate) fn from_timestamp(seconds: i64) -> Self {
        Self(u64::try_from(seconds).unwrap_or(0))
    }
}

impl From<SystemTime> for UnixSeconds {
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

impl fmt::Display for UnixSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, (hour, minute, second)) = (self.date().date(), self.date().to_hms());
        write!(f, "{date}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_like_dates() {
        let text = |seconds| UnixSeconds(seconds).to_string();
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(1_795_420_805), "2026-11-23T08:00:05Z");
        assert_eq!(text(u64::MAX), "9999-12-31T00:00:00Z");
    }

    #[test]
    fn arithmetic_stays_in_range() {
        assert_eq!(UnixSeconds(5).before(Duration::from_secs(9)), UnixSeconds(0));
        assert_eq!(UnixSeconds(5).after(Duration::MAX), UnixSeconds(u64::MAX));
    }
}
