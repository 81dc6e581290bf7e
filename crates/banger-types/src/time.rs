//! Times as people read them.

use jiff::Timestamp;

/// Returns how long before `now` this was: `3 minutes ago`.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    const UNITS: [(i64, &str); 6] = [
        (365 * 86_400, "year"),
        (30 * 86_400, "month"),
        (7 * 86_400, "week"),
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
    ];
    let seconds = now.as_second() - then.as_second();
    let found = UNITS.iter().find(|(length, _)| seconds >= *length);
    let (count, unit) = match found {
        Some((length, unit)) => (seconds / length, *unit),
        None if seconds < 2 => return "just now".to_owned(),
        None => (seconds, "second"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

/// Returns how long after `now` this will be: `in 4 s`.
pub fn until(then: Timestamp, now: Timestamp) -> String {
    match u64::try_from(then.as_millisecond() - now.as_millisecond()) {
        // Rounded up, so that it counts down to 1 and then is over.
        Ok(milliseconds @ 1..60_000) => format!("in {} s", milliseconds.div_ceil(1_000)),
        Ok(milliseconds @ 60_000..) => format!("in {}", duration(milliseconds)),
        Ok(0) | Err(_) => "now".to_owned(),
    }
}

/// Returns a duration of this many milliseconds: `480 ms`, `1.2 s`, `2 min 5 s`.
pub fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_their_largest_unit() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for (seconds, text) in [
            (-5, "just now"),
            (1, "just now"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (7_300, "2 hours ago"),
            (86_400 * 6, "6 days ago"),
            (86_400 * 800, "2 years ago"),
        ] {
            let then = Timestamp::from_second(1_800_000_000 - seconds).unwrap();
            assert_eq!(ago(then, now), text);
        }
    }

    #[test]
    fn what_is_to_come_counts_down() {
        let now = Timestamp::from_millisecond(1_800_000_000_000).unwrap();
        for (milliseconds, text) in
            [(-1, "now"), (0, "now"), (1, "in 1 s"), (3_200, "in 4 s"), (125_000, "in 2 min 5 s")]
        {
            let then = Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap();
            assert_eq!(until(then, now), text);
        }
    }

    #[test]
    fn durations_keep_two_units() {
        assert_eq!(duration(999), "999 ms");
        assert_eq!(duration(1_280), "1.2 s");
        assert_eq!(duration(125_900), "2 min 5 s");
    }
}
