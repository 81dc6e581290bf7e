//! What small processes have in common that stay beside a VM.

use std::ffi::c_void;
use std::fs;
use std::io;

use rustix::mm::{Advice, madvise};

/// This program's own code, as it is mapped into this process.
///
/// What a process has needed for its beginning stays mapped: of a program of 2 MB that has nothing more to do than to wait, most.
/// It is the file's, in memory once for all who run it, and nothing is lost by forgetting it: what is needed again comes back by a
/// fault, from memory as long as the file's pages are there.
#[derive(Debug)]
pub struct Code(Vec<(usize, usize)>);

impl Code {
    /// Finds it, while `/proc` is in reach.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn find() -> io::Result<Self> {
        let program = fs::read_link("/proc/self/exe")?;
        let maps = fs::read_to_string("/proc/self/maps")?;
        Ok(Self(maps.lines().filter_map(|line| code(line, &program.to_string_lossy())).collect()))
    }

    /// Forgets what has been needed of it until now. Does nothing where the kernel does not know how.
    pub fn forget(&self) {
        for (start, length) in &self.0 {
            #[expect(
                unsafe_code,
                reason = "advice that takes pages away is unsafe for memory that was written to"
            )]
            // SAFETY: a private mapping of a file that nobody can have written to, as it is not writable and code is not relocated:
            // each page that is forgotten comes back as it was.
            unsafe {
                // The process is what it was without it, and larger.
                let _ = madvise(*start as *mut c_void, *length, Advice::LinuxDontNeed);
            }
        }
    }
}

/// Forgets what this program's code was needed for until now, where `/proc` is in reach: see [`Code`].
pub fn forget_beginning() {
    if let Ok(code) = Code::find() {
        code.forget();
    }
}

/// Returns where a line of `/proc/self/maps` (`proc_pid_maps(5)`) says that code of this program is.
fn code(line: &str, program: &str) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let (permissions, rest) = rest.split_once(' ')?;
    if permissions != "r-xp" || !rest.ends_with(program) {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let [start, end] = [start, end].map(|address| usize::from_str_radix(address, 16).ok());
    Some((start?, end?.checked_sub(start?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how much of this program's code is mapped, KiB (`proc_pid_smaps(5)`).
    fn mapped() -> u64 {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines();
        lines.find(|line| code(line, &program.to_string_lossy()).is_some()).unwrap();
        let size = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        size.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn what_is_forgotten_is_not_mapped_and_comes_back_when_it_is_needed() {
        let code = Code::find().unwrap();
        let before = mapped();
        code.forget();
        let after = mapped();
        assert!(after < before, "{after} KiB of {before}");
    }

    #[test]
    fn only_code_of_this_program_is_forgotten() {
        let found = |line: &str| code(line, "/bin/x");
        assert_eq!(found("00400000-00452000 r-xp 00000000 08:02 173521 /bin/x"), Some((0x40_0000, 0x5_2000)));
        for other in [
            "00651000-00652000 r--p 00051000 08:02 173521 /bin/x",
            "00652000-00655000 rw-p 00052000 08:02 173521 /bin/x",
            "00400000-00452000 rwxp 00000000 08:02 173521 /bin/x",
            "00400000-00452000 r-xs 00000000 08:02 173521 /bin/x",
            "00400000-00452000 r-xp 00000000 08:02 173521 /bin/y",
            "7fff0000-7fff2000 r-xp 00000000 00:00 0 [vdso]",
            "00452000-00400000 r-xp 00000000 08:02 173521 /bin/x",
            "",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }
}
