//! What small processes have in common that stay beside a VM.

use std::ffi::c_void;
use std::fs;
use std::io;

use rustix::mm::{Advice, madvise};

/// What is in this process of this program's own file as it is there: code and constants.
///
/// What a process has needed for its beginning stays mapped: of a program of 2 MB that has nothing more to do than to wait, most.
/// It is the file's, in memory once for all who run it, and nothing is lost by forgetting it: what is needed again comes back by a
/// fault, from memory as long as the file's pages are there.
#[derive(Debug)]
pub struct Program(Vec<(usize, usize)>);

impl Program {
    /// Finds it, while `/proc` is in reach.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn find() -> io::Result<Self> {
        let program = fs::read_link("/proc/self/exe")?;
        let maps = fs::read_to_string("/proc/self/smaps")?;
        Ok(Self(unchanged(&maps, &program.to_string_lossy())))
    }

    /// Forgets what has been needed of it until now.
    pub fn forget(&self) {
        for (start, length) in &self.0 {
            #[expect(
                unsafe_code,
                reason = "advice that takes pages away is unsafe for memory that was written to"
            )]
            // SAFETY: a private mapping of a file that was not written to when it was found, and cannot be: each page that is
            // forgotten comes back as it was.
            unsafe {
                // The process is what it was without it, and larger.
                let _ = madvise(*start as *mut c_void, *length, Advice::LinuxDontNeed);
            }
        }
    }
}

/// Forgets what of this program's file was needed until now, where `/proc` is in reach: see [`Program`].
pub fn forget_beginning() {
    if let Ok(program) = Program::find() {
        program.forget();
    }
}

/// Returns the mappings of a program's file that `/proc/self/smaps` (`proc_pid_smaps(5)`) says nobody can write to and nobody has:
/// relocated constants are the process's own, though they cannot be written to any more.
fn unchanged(maps: &str, program: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut last = None;
    for line in maps.lines() {
        if let Some(anonymous) = line.strip_prefix("Anonymous:") {
            found.extend(last.take().filter(|_| anonymous.trim() == "0 kB"));
        } else if let Some(mapping) = mapping(line) {
            last = mapping.range(program);
        }
    }
    found
}

/// The line that a mapping begins with.
struct Mapping<'a> {
    start: usize,
    end: usize,
    rest: &'a str,
}

fn mapping(line: &str) -> Option<Mapping<'_>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let [start, end] = [start, end].map(|address| usize::from_str_radix(address, 16).ok());
    Some(Mapping { start: start?, end: end?, rest })
}

impl Mapping<'_> {
    /// Returns where it is, if it is private, of this program's file, and cannot be written to.
    fn range(&self, program: &str) -> Option<(usize, usize)> {
        let (permissions, rest) = self.rest.split_once(' ')?;
        let is_constant = ["r--p", "r-xp"].contains(&permissions) && rest.ends_with(&format!(" {program}"));
        is_constant.then_some((self.start, self.end.checked_sub(self.start)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how much of this program is in memory, KiB.
    fn resident() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
        size.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_is_forgotten_is_gone_and_comes_back_when_it_is_needed() {
        let program = Program::find().unwrap();
        assert!(program.0.len() >= 2, "{program:?}");
        let before = resident();
        program.forget();
        let after = resident();
        assert!(after < before, "{after} KiB of {before}");
    }

    #[test]
    fn only_what_nobody_has_written_to_is_forgotten() {
        let found = |line: &str, anonymous: &str| {
            unchanged(&format!("{line}\nSize: 8 kB\nAnonymous: {anonymous} kB\nVmFlags: rd\n"), "/bin/x")
        };
        let constants = "00400000-00452000 r--p 00000000 08:02 173521 /bin/x";
        assert_eq!(found(constants, "0"), [(0x40_0000, 0x5_2000)]);
        assert_eq!(found(&constants.replace("r--p", "r-xp"), "0"), [(0x40_0000, 0x5_2000)]);
        assert_eq!(found(constants, "4"), []);
        for other in [
            constants.replace("r--p", "rw-p"),
            constants.replace("r--p", "r-xs"),
            constants.replace("/bin/x", "/sbin/bin/x"),
            constants.replace("/bin/x", "[vdso]"),
            constants.replace("00452000", "00300000"),
            String::new(),
        ] {
            assert_eq!(found(&other, "0"), [], "{other}");
        }
    }
}
