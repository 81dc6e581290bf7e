//! Attributes of files (draft-ietf-secsh-filexfer-02 section 5).

use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;

use banger_types::sftp::attribute_flag;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid};

use super::wire::{Malformed, Reader, Writer};

/// Most extended attributes in a packet; we know none.
const MOST_EXTENDED: u32 = 1024;

/// Attributes that a client sends. All of them are optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// User and group.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) permissions: Option<u32>,
    /// Last access and last change, seconds since the epoch.
    pub(super) times: Option<(u32, u32)>,
}

impl Attributes {
    /// Reads them.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let flags = reader.number()?;
        let mut attributes = Self::default();
        if flags & attribute_flag::SIZE != 0 {
            attributes.size = Some(reader.long()?);
        }
        if flags & attribute_flag::OWNER != 0 {
            attributes.owner = Some((reader.number()?, reader.number()?));
        }
        if flags & attribute_flag::PERMISSIONS != 0 {
            attributes.permissions = Some(reader.number()?);
        }
        if flags & attribute_flag::TIMES != 0 {
            attributes.times = Some((reader.number()?, reader.number()?));
        }
        if flags & attribute_flag::EXTENDED != 0 {
            let count = reader.number()?;
            if count > MOST_EXTENDED {
                return Err(Malformed);
            }
            for _ in 0..count {
                reader.string()?;
                reader.string()?;
            }
        }
        Ok(attributes)
    }

    /// Permissions of a file to be made.
    pub(super) fn mode_or(&self, default: u32) -> Mode {
        Mode::from_raw_mode(self.permissions.unwrap_or(default) & 0o7777)
    }

    /// Gives them to an open file.
    pub(super) fn set_on_file(&self, file: &impl AsFd) -> io::Result<()> {
        if let Some(size) = self.size {
            rustix::fs::ftruncate(file, size)?;
        }
        if let Some((user, group)) = self.owner {
            rustix::fs::fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
        }
        // After the owner: a change of owner takes the setuid bit away.
        if let Some(permissions) = self.permissions {
            rustix::fs::fchmod(file, Mode::from_raw_mode(permissions & 0o7777))?;
        }
        if let Some(times) = self.timestamps() {
            rustix::fs::futimens(file, &times)?;
        }
        Ok(())
    }

    /// Gives them to what a path leads to; with `follow` false, to the link itself.
    pub(super) fn set_on_path(&self, path: &[u8], follow: bool) -> io::Result<()> {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        if let Some(size) = self.size {
            let flags =
                rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
            rustix::fs::ftruncate(rustix::fs::open(path, flags, Mode::empty())?, size)?;
        }
        if let Some((user, group)) = self.owner {
            rustix::fs::chownat(CWD, path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)), flags)?;
        }
        if let Some(permissions) = self.permissions {
            // Links have no permissions of their own: without `follow` the kernel says so.
            rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(permissions & 0o7777), flags)?;
        }
        if let Some(times) = self.timestamps() {
            rustix::fs::utimensat(CWD, path, &times, flags)?;
        }
        Ok(())
    }

    fn timestamps(&self) -> Option<Timestamps> {
        let time = |seconds: u32| Timespec { tv_sec: i64::from(seconds), tv_nsec: 0 };
        self.times
            .map(|(access, change)| Timestamps { last_access: time(access), last_modification: time(change) })
    }
}

/// Writes a file's attributes.
pub(super) fn write(writer: &mut Writer, metadata: &Metadata) {
    // 32 bits of seconds are what this version has; they last until 2106.
    let seconds = |time: i64| u32::try_from(time.max(0)).unwrap_or(u32::MAX);
    writer.number(
        attribute_flag::SIZE | attribute_flag::OWNER | attribute_flag::PERMISSIONS | attribute_flag::TIMES,
    );
    writer.long(metadata.size());
    writer.number(metadata.uid());
    writer.number(metadata.gid());
    writer.number(metadata.mode());
    writer.number(seconds(metadata.atime()));
    writer.number(seconds(metadata.mtime()));
}

/// Writes attributes that say nothing.
pub(super) fn write_none(writer: &mut Writer) {
    writer.number(0);
}

/// Returns the line that `ls -l` would print, which clients show as it is (section 7 of the draft).
pub(super) fn long_name(name: &[u8], metadata: &Metadata) -> Vec<u8> {
    let mode = metadata.mode();
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o140_000 => 's',
        0o060_000 => 'b',
        0o020_000 => 'c',
        0o010_000 => 'p',
        _ => '-',
    };
    let mut line = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        line.push(if bits & 4 != 0 { 'r' } else { '-' });
        line.push(if bits & 2 != 0 { 'w' } else { '-' });
        line.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    let date = date(metadata.mtime());
    let (links, user, group, size) = (metadata.nlink(), metadata.uid(), metadata.gid(), metadata.size());
    let mut line = format!("{line} {links:>4} {user:<8} {group:<8} {size:>8} {date} ").into_bytes();
    line.extend_from_slice(name);
    line
}

/// Returns a time as `ls -l` writes an old one, in UTC: `Nov 24  2026`.
fn date(seconds: i64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    // Years are taken to begin in March, so that the odd day of a leap year is the last one of its year, and eras of 400
    // years, which all have 146097 days, begin on 1 March of 0000. The epoch is day 719468 of that count.
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March: 31, 30, 31, 30, 31 days, over and over: 153 in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + i64::from(month < 2);
    let month = usize::try_from(month).ok().and_then(|month| MONTHS.get(month)).copied().unwrap_or("???");
    format!("{month} {day:>2}  {year}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "Jan  1  1970"),
            (951_782_400, "Feb 29  2000"),
            (951_868_800, "Mar  1  2000"),
            (4_107_542_400, "Mar  1  2100"),
            (4_107_456_000, "Feb 28  2100"),
            (1_795_478_400, "Nov 24  2026"),
            (-1, "Dec 31  1969"),
        ] {
            assert_eq!(date(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn attributes_are_read_by_their_flags() {
        let bytes = [&[0, 0, 0, 0x0c][..], &[0, 0, 1, 0xa4], &[0, 0, 0, 1], &[0, 0, 0, 2], b"rest"].concat();
        let mut reader = Reader(&bytes);
        let attributes = Attributes::read(&mut reader).unwrap();
        let expected = Attributes { permissions: Some(0o644), times: Some((1, 2)), ..Attributes::default() };
        assert_eq!(attributes, expected);
        assert_eq!(reader.0, b"rest");
        assert_eq!(Attributes::read(&mut Reader(&[0x80, 0, 0, 0, 0xff, 0, 0, 0])), Err(Malformed));
    }

    #[test]
    fn a_long_name_looks_like_ls() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x");
        std::fs::write(&file, "12345").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o4754)).unwrap();
        let line = long_name(b"\xffx", &std::fs::metadata(&file).unwrap());
        assert!(line.starts_with(b"-rwsr-xr--    1 "), "{}", String::from_utf8_lossy(&line));
        assert!(line.ends_with(b" \xffx"));
    }
}
