//! Records of PAX extended headers (POSIX.1-2017, `pax`, "pax Extended Header").
//!
//! Our own reader, as the `tar` crate's splits at newlines: a binary value with a newline in it
//! (`security.capability`, say) would tear the record, and with it hide the others.

use super::ArchiveError;

/// Iterates over `length keyword=value\n` records.
#[derive(Debug, Clone)]
pub(super) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Returns the records of a header's data.
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    fn split(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let space = self.rest.iter().take(20).position(|&b| b == b' ')?;
        let length = decimal(&self.rest[..space])?;
        let length = usize::try_from(length).ok().filter(|&n| n > space + 1 && n <= self.rest.len())?;
        let (record, rest) = self.rest.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n")?;
        let equals = record.iter().position(|&b| b == b'=')?;
        self.rest = rest;
        Some((&record[..equals], &record[equals + 1..]))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), ArchiveError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Some writers pad the data with NULs.
        if self.rest.iter().all(|&b| b == 0) {
            return None;
        }
        let record = self.split();
        if record.is_none() {
            self.rest = &[];
        }
        Some(record.ok_or(ArchiveError::Malformed("a PAX record is malformed")))
    }
}

/// Returns an unsigned decimal number.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Returns a time: seconds with an optional sign and fraction.
pub(super) fn time(bytes: &[u8]) -> Option<crate::rootfs::Timestamp> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    // The fraction of a time before the epoch counts downwards; ours always counts upwards.
    Some(if whole.starts_with('-') && nanoseconds > 0 {
        crate::rootfs::Timestamp {
            seconds: seconds.checked_sub(1)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        }
    } else {
        crate::rootfs::Timestamp { seconds, nanoseconds }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::Timestamp;

    #[test]
    fn a_value_may_hold_newlines() {
        let data = b"14 a=b\n9 c=d\n\n9 uid=77\n";
        let records: Vec<_> = Records::new(data).map(Result::unwrap).collect();
        assert_eq!(records, [(&b"a"[..], &b"b\n9 c=d\n"[..]), (b"uid", b"77")]);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [&b"x"[..], b"5 a=b\n", b"99 a=b\n", b"6 ab\n\n", b"0 a=b\n", b"-7 a=b\n", b"7 a=b x"] {
            assert!(Records::new(bad).any(|record| record.is_err()), "{}", bad.escape_ascii());
        }
        assert_eq!(Records::new(b"\0\0\0").count(), 0);
    }

    #[test]
    fn times_have_nanoseconds() {
        let at = |seconds, nanoseconds| Some(Timestamp { seconds, nanoseconds });
        assert_eq!(time(b"12.5"), at(12, 500_000_000));
        assert_eq!(time(b"12"), at(12, 0));
        assert_eq!(time(b"12.1234567891"), at(12, 123_456_789));
        assert_eq!(time(b"-1.25"), at(-2, 750_000_000));
        assert_eq!(time(b"-0.5"), at(-1, 500_000_000));
        assert_eq!((time(b"x"), time(b"1.x")), (None, None));
    }
}
