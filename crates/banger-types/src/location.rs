//! Where a user's banger keeps things: decided from the environment alone.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::{ApiError, ErrorKind};

/// Environment variables that banger reads.
pub mod variable {
    /// Overrides the daemon's socket.
    pub const SOCKET: &str = "BANGER_SOCKET";
    /// Overrides the data directory.
    pub const DATA_DIRECTORY: &str = "BANGER_DATA_DIR";
    /// Overrides where `bangerd`, `banger-monitor` and `banger-guest` are looked for.
    pub const PROGRAM_DIRECTORY: &str = "BANGER_PROGRAM_DIR";
    /// Number of an open descriptor on which a started program says that it is ready, or why not.
    pub const READY_DESCRIPTOR: &str = "BANGER_READY_FD";
    /// What the daemon logs, in `tracing`'s filter syntax.
    pub const LOG: &str = "BANGER_LOG";
    /// Names the Firecracker that is run.
    pub const FIRECRACKER: &str = "BANGER_FIRECRACKER";
    /// Leaves KVM alone, whatever its value is unless that is empty.
    pub const NO_KVM: &str = "BANGER_NO_KVM";
    /// Overrides where the web console listens: an address of loopback and a port, or `off`.
    pub const WEB_LISTEN: &str = "BANGER_WEB_LISTEN";
    /// For tests: milliseconds that a guest has for its way down when the host goes down.
    pub const SHUTDOWN_LIMIT: &str = "BANGER_MONITOR_SHUTDOWN_LIMIT_MS";
    /// For tests: where a daemon that was built for them ends itself.
    pub const FAULT_POINT: &str = "BANGER_FAULT_POINT";
}

/// Neither `HOME` nor the variables that replace it are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot tell where to keep data: neither HOME, XDG_DATA_HOME nor BANGER_DATA_DIR is an absolute path"
)]
pub struct NoHome;

/// The directories and the socket of one user's banger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locations {
    /// Machines, images, kernels, the database and the daemon's log. Mode 0700.
    pub data: PathBuf,
    /// The configuration file; need not exist.
    pub configuration: Option<PathBuf>,
    /// The daemon's socket.
    pub socket: PathBuf,
}

impl Locations {
    /// Returns the locations that `variable` (an environment) leads to.
    ///
    /// A data directory is an installation with a daemon of its own, and a user may have several: by another
    /// `HOME` or `XDG_DATA_HOME`. All share one runtime directory, so that the socket's name there is made of the
    /// data directory's path: a client never speaks to another installation's daemon, and no daemon takes
    /// another's place.
    ///
    /// Without `XDG_RUNTIME_DIR` (root, su, cron) the socket is in the data directory, which is the
    /// user's own, so that nobody else can take its place.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, NoHome> {
        // Relative paths in these variables are to be ignored (XDG Base Directory Specification).
        let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let data = absolute(variable::DATA_DIRECTORY)
            .or_else(|| absolute("XDG_DATA_HOME").map(|path| path.join("banger")))
            .or_else(|| home.as_ref().map(|path| path.join(".local/share/banger")))
            .ok_or(NoHome)?;
        let configuration = absolute("XDG_CONFIG_HOME")
            .or_else(|| home.map(|path| path.join(".config")))
            .map(|path| path.join("banger/config.toml"));
        // A directory that was chosen by hand, often for an hour, has everything in it.
        let runtime = absolute("XDG_RUNTIME_DIR").filter(|_| variable(variable::DATA_DIRECTORY).is_none());
        let socket = absolute(variable::SOCKET)
            .or_else(|| runtime.map(|path| path.join("banger").join(socket_name(&data))))
            .unwrap_or_else(|| data.join("run/bangerd.sock"));
        Ok(Self { data, configuration, socket })
    }
}

/// Returns the error of a data directory that cannot be used, because of `source`.
pub fn unusable_data(data: &Path, source: &io::Error) -> ApiError {
    let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let kind = if full { ErrorKind::Failed } else { ErrorKind::NotPermitted };
    let what = format!("cannot use the data directory {}", data.display());
    let error = ApiError::caused_by(kind, what, source);
    if full {
        error.fix("make room on its file system, or set BANGER_DATA_DIR to a directory on another")
    } else {
        error.fix("set HOME or BANGER_DATA_DIR to a directory that is yours to write to")
    }
}

/// Returns the name of the socket of the daemon whose data is in `data`. Clients and daemons of different
/// versions must agree on it.
fn socket_name(data: &Path) -> String {
    // FNV-1a with 64 bits (Fowler, Noll, Vo): nobody gains by two paths of one digest, for both are the user's own.
    let mut digest = 0xcbf2_9ce4_8422_2325_u64;
    // By components, so that a slash too many is no other directory.
    let names = data.components().map(|name| name.as_os_str().as_bytes());
    for byte in names.flat_map(|name| name.iter().chain(b"/")) {
        digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("bangerd-{digest:016x}.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Locations, NoHome> {
        Locations::from_environment(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_xdg_directories_decide() {
        let locations =
            from(&[("HOME", "/home/a"), ("XDG_RUNTIME_DIR", "/run/user/7"), ("XDG_DATA_HOME", "/d")])
                .unwrap();
        assert_eq!(locations.data, PathBuf::from("/d/banger"));
        // Never to be changed: a client of one version asks a daemon of another.
        assert_eq!(locations.socket, PathBuf::from("/run/user/7/banger/bangerd-4f045327f261090c.sock"));
        assert_eq!(locations.configuration, Some(PathBuf::from("/home/a/.config/banger/config.toml")));
    }

    #[test]
    fn each_data_directory_has_a_socket_of_its_own() {
        let socket = |name, value| from(&[("XDG_RUNTIME_DIR", "/run/user/7"), (name, value)]).unwrap().socket;
        let own = socket("HOME", "/home/a");
        assert_ne!(own, socket("HOME", "/home/b"));
        assert_ne!(own, socket("XDG_DATA_HOME", "/home/a/data"));
        assert_eq!(own, socket("XDG_DATA_HOME", "/home/a/.local/share"));
        assert_eq!(own, socket("HOME", "/home//a/./"));
        assert!(own.as_os_str().len() < 108, "an address has room for it");
    }

    #[test]
    fn without_a_runtime_directory_the_socket_is_with_the_data() {
        let locations = from(&[("HOME", "/root")]).unwrap();
        assert_eq!(locations.socket, PathBuf::from("/root/.local/share/banger/run/bangerd.sock"));
    }

    #[test]
    fn a_data_directory_of_its_own_has_a_socket_of_its_own() {
        let locations =
            from(&[("HOME", "/root"), ("XDG_RUNTIME_DIR", "/run"), ("BANGER_DATA_DIR", "/x")]).unwrap();
        assert_eq!(locations.socket, PathBuf::from("/x/run/bangerd.sock"));
    }

    #[test]
    fn relative_paths_do_not_count() {
        assert_eq!(from(&[("HOME", "home")]), Err(NoHome));
    }
}
