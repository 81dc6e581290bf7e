//! What the monitor says of its own work.

use std::io;
use std::path::Path;

use banger_types::error::chain;
use banger_types::monitor::file;

use super::log::RotatingLog;
use crate::monitor::now_ns;

/// Most bytes of `monitor.log`.
const WORDS_LIMIT: u64 = 1 << 20;

/// The monitor's own words: `monitor.log`, which is standard error, too.
#[derive(Debug)]
pub(crate) struct Words(RotatingLog);

impl Words {
    /// Opens the log in the working directory, and makes it standard output and standard error.
    pub(crate) fn open() -> io::Result<Self> {
        let words = Self(RotatingLog::open(Path::new(file::MONITOR_LOG), WORDS_LIMIT)?);
        words.redirect()?;
        Ok(words)
    }

    fn redirect(&self) -> io::Result<()> {
        rustix::stdio::dup2_stdout(self.0.file())?;
        rustix::stdio::dup2_stderr(self.0.file())?;
        Ok(())
    }

    /// Writes a line. If it cannot be written, there is nobody who could be told.
    pub(crate) fn say(&mut self, line: &str) {
        if let Ok(true) = self.0.write(format!("{} {line}\n", now_ns() / 1_000_000).as_bytes()) {
            let _unredirected = self.redirect();
        }
    }

    /// Writes a line about a failure, with all its causes.
    pub(crate) fn complain(&mut self, what: &str, error: &dyn std::error::Error) {
        self.say(&format!("{what}: {}", chain(error)));
    }
}
