//! Since when a container runs, or has not. The engine's list tells it only as text ("Up 5 minutes",
//! "Exited (0) 2 hours ago"), whose words stand for ranges of ages. Pure.

use std::{
    ops::Range,
    time::{Duration, SystemTime},
};

use dockctl_api::v1::Container;
use prost_types::Timestamp;

/// Puts the times in that a container's status tells, which was asked for just now.
pub(super) fn fill(container: &mut Container, now: SystemTime) {
    let Some(ages) = ages(&container.status) else { return };
    let at = now.checked_sub(Duration::from_secs(ages.start)).map(Timestamp::from);
    // The words know of no part of a second.
    let at = at.map(|at| Timestamp { nanos: 0, ..at });
    match container.status.starts_with("Up ") {
        true => container.started_at = at,
        false => container.finished_at = at,
    }
}

/// Keeps the times that a container had `before` where its new status still fits them: they are from
/// when its age was told in smaller units.
pub(crate) fn keep(before: &Container, container: &mut Container) {
    let Some(ages) = ages(&container.status) else { return };
    let kept = |before: &Option<Timestamp>, now: &mut Option<Timestamp>| {
        let (Some(old), Some(new)) = (before, &*now) else { return };
        // The new time is that of the range's beginning; clocks are read a moment apart.
        let older = new.seconds.saturating_sub(old.seconds);
        let width = i64::try_from(ages.end - ages.start).unwrap_or(i64::MAX);
        if (-1..=width).contains(&older) {
            *now = *before;
        }
    };
    kept(&before.started_at, &mut container.started_at);
    kept(&before.finished_at, &mut container.finished_at);
}

/// The ages, seconds, that a status stands for; none for one that tells no age. The words and their
/// bounds are those of docker's units package.
fn ages(status: &str) -> Option<Range<u64>> {
    let text = match status.strip_prefix("Up ") {
        Some(text) => text.split(" (").next()?,
        None => status.split_once(") ")?.1.strip_suffix(" ago")?,
    };
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match text {
        "Less than a second" => return Some(0..1),
        "About a minute" => return Some(MINUTE..2 * MINUTE),
        "About an hour" => return Some(HOUR..HOUR + HOUR / 2),
        _ => {}
    }
    let (number, unit) = text.split_once(' ')?;
    let number = number.parse::<u64>().ok().filter(|n| *n < 1_000_000)?;
    let of = |unit: u64| number * unit..(number + 1) * unit;
    Some(match unit.trim_end_matches('s') {
        "second" => of(1),
        "minute" => of(MINUTE),
        // Rounded, where all others are cut off.
        "hour" => (number * HOUR).saturating_sub(HOUR / 2)..number * HOUR + HOUR / 2,
        "day" => of(DAY),
        "week" => of(7 * DAY),
        "month" => of(30 * DAY),
        "year" => of(365 * DAY),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_361_220;

    fn seen(status: &str, now: i64) -> Container {
        let mut container = Container { status: status.to_owned(), ..Container::default() };
        fill(&mut container, SystemTime::UNIX_EPOCH + Duration::from_secs(now.unsigned_abs()));
        container
    }

    #[test]
    fn a_status_tells_when_it_began() {
        let ago = |time: Option<Timestamp>| time.map(|t| NOW - t.seconds);
        for (status, up, down) in [
            ("Up Less than a second", Some(0), None),
            ("Up 5 seconds", Some(5), None),
            ("Up About a minute (healthy)", Some(60), None),
            ("Up 5 minutes (Paused)", Some(300), None),
            ("Up About an hour", Some(3600), None),
            ("Up 3 hours (health: starting)", Some(9000), None),
            ("Up 2 weeks", Some(14 * 86_400), None),
            ("Exited (137) 2 days ago", None, Some(2 * 86_400)),
            ("Restarting (1) 4 seconds ago", None, Some(4)),
            ("Created", None, None),
            ("Dead", None, None),
            ("Up many moons", None, None),
            ("Exited (0) 99999999999999999999 years ago", None, None),
        ] {
            let seen = seen(status, NOW);
            assert_eq!((ago(seen.started_at), ago(seen.finished_at)), (up, down), "{status}");
        }
    }

    #[test]
    fn what_was_told_in_seconds_is_kept_until_it_cannot_be_true() {
        let first = seen("Up 5 seconds", NOW);
        let mut later = seen("Up 2 minutes", NOW + 150);
        keep(&first, &mut later);
        assert_eq!(later.started_at, first.started_at);
        let mut again = seen("Up 3 seconds", NOW + 200);
        keep(&later, &mut again);
        assert_eq!(again.started_at.map(|t| t.seconds), Some(NOW + 197), "started anew");
        let mut long = seen("Up 2 hours", NOW);
        long.started_at = Some(Timestamp { seconds: NOW - 5400, nanos: 0 });
        let mut longer = seen("Up 3 hours", NOW + 3600);
        keep(&long, &mut longer);
        assert_eq!(longer.started_at.map(|t| t.seconds), Some(NOW + 3600 - 9000));
    }
}
