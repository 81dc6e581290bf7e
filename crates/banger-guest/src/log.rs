//! Lines for people: on the console of a guest without systemd, in the journal of one with it.

pub use banger_types::error::chain;

/// Writes a line to standard error, with the program's name before it.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => { $crate::log::line(&format!($($argument)*)) };
}

/// Writes `text` as one line to standard error. A line that cannot be written is lost: there is nowhere else.
pub fn line(text: &str) {
    let line = format!("banger-guest: {text}\n");
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
}
