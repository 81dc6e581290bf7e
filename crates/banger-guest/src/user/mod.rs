//! Users of the image, and the environment of their sessions.
//!
//! `/etc/passwd` and `/etc/group` are read by hand (passwd(5), group(5)): a static binary has no NSS, and
//! the image may have no C library at all.

mod database;
mod environment;

pub use self::database::{Login, LoginError, find, group_number};
pub use self::environment::{Environment, is_settable_by_client};
