//! Sockets of VMMs, in their VMs' directories.

use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Connects. The directory may be too deep for a socket's address (107 bytes, unix(7)): it is named by an open
/// descriptor.
pub(crate) fn connect(directory: &Path, socket: &str) -> std::io::Result<UnixStream> {
    let directory = fs_err::File::open(directory)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{socket}", directory.as_raw_fd()))
}
