//! Wall-clock time, in seconds since the Unix epoch.

/// A clock whose times can be compared with those of other machines.
pub trait WallClock {
    /// Seconds since the Unix epoch.
    fn epoch_s(&self) -> u64;
}

/// The host's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock;

impl WallClock for HostClock {
    fn epoch_s(&self) -> u64 {
        dagster_ray_sdk::clock::epoch_s()
    }
}

/// A manual clock for tests.
impl WallClock for std::cell::Cell<u64> {
    fn epoch_s(&self) -> u64 {
        self.get()
    }
}

impl<W: WallClock> WallClock for &W {
    fn epoch_s(&self) -> u64 {
        (**self).epoch_s()
    }
}

/// Reads a Kubernetes timestamp (RFC 3339 in UTC, such as `2026-01-31T12:00:00Z`).
#[must_use]
pub fn parse_timestamp(timestamp: &str) -> Option<u64> {
    let text = timestamp.strip_suffix('Z')?;
    let (date, clock) = text.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut clock = clock.split(['.', ':']).map(str::parse::<u64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Counting years from March puts the leap day last, so that months have fixed offsets.
    let year = if month <= 2 { year - 1 } else { year };
    let since_march = (month + 9) % 12;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (since_march * 153 + 2) / 5 + day - 1;
    const EPOCH_DAYS: u64 = 719_468;
    let days = days.checked_sub(EPOCH_DAYS)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_across_leap_days() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2024-02-29T12:30:15Z", Some(1_709_209_815)),
            ("2026-11-24T03:23:10.123456Z", Some(1_795_490_590)),
            ("2026-11-24T03:23:10", None),
            ("yesterday", None),
        ] {
            assert_eq!(parse_timestamp(text), expected, "{text}");
        }
    }
}
