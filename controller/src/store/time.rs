//! Times as the store keeps them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix milliseconds; times before 1970 are negative, those beyond the range are its ends.
pub fn unix_ms(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// The time of unix milliseconds; beyond what the system can tell, 1970.
pub fn system_time(unix_ms: i64) -> SystemTime {
    let distance = Duration::from_millis(unix_ms.unsigned_abs());
    let time = if unix_ms < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for ms in [0, 1, -1, 1_763_800_000_123, -86_400_000] {
            assert_eq!(unix_ms(system_time(ms)), ms);
        }
    }
}
