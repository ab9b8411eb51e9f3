//! Reads the timestamps of the API server.
//!
//! Ages are computed from times of the API server only: machines' clocks can differ by any amount.

/// Reads a Kubernetes timestamp (RFC 3339 in UTC, such as `2026-01-31T12:00:00Z`), in seconds since the Unix
/// epoch.
#[must_use]
pub fn parse_timestamp(timestamp: &str) -> Option<u64> {
    let text = timestamp.strip_suffix('Z')?;
    let (date, clock) = text.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    epoch_s(year, month, day, clock)
}

/// Reads the date of an HTTP response (`IMF-fixdate` of RFC 9110, such as `Sun, 06 Nov 1994 08:49:37 GMT`), in
/// seconds since the Unix epoch.
#[must_use]
pub fn parse_http_date(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

    let text = date.trim().strip_suffix(" GMT")?;
    let (_, text) = text.split_once(", ")?;
    let mut parts = text.split(' ');
    let (day, month, year, clock) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    epoch_s(year.parse().ok()?, month, day.parse().ok()?, clock)
}

/// Returns the seconds since the Unix epoch. `clock` is `hh:mm:ss`, possibly with a fraction.
fn epoch_s(year: u64, month: u64, day: u64, clock: &str) -> Option<u64> {
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

    #[test]
    fn the_date_of_a_response_is_read() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Tue, 24 Nov 2026 03:23:10 GMT", Some(1_795_490_590)),
            ("Tue, 24 Foo 2026 03:23:10 GMT", None),
            ("2026-11-24T03:23:10Z", None),
        ] {
            assert_eq!(parse_http_date(text), expected, "{text}");
        }
    }
}
