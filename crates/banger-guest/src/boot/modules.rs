//! Kernel modules of the initramfs: just those that are needed to mount the root.

use std::fs::{self, File};
use std::path::Path;

use rustix::io::Errno;

use super::BootError;
use crate::virtio::Device;

/// Where the initramfs keeps them, with `list`: one file name a line, in the order in which they must be loaded.
pub(super) const DIRECTORY: &str = "/modules";

/// Modules that only a network card needs. Loading them takes an emulated processor 0.1 to 0.2 s.
const NETWORK: [&str; 3] = ["failover", "net_failover", "virtio_net"];

/// Modules that only a console with ports needs: the control channel, under some VMMs.
const CONSOLE: [&str; 1] = ["virtio_console"];

/// Modules that only a socket device needs: the control channel, under other VMMs.
const SOCKET: [&str; 3] = ["vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"];

/// What modules are loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For the root: every guest.
    Root,
    /// For a console with ports.
    Console,
    /// For a socket device.
    Socket,
    /// For a network card.
    Network,
}

impl Purpose {
    fn of(file: &str) -> Self {
        // `07-virtio_net.ko`: the number says in which order.
        let name = file.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        let name = name.split('.').next().unwrap_or_default();
        let purposes = [(Self::Network, &NETWORK[..]), (Self::Console, &CONSOLE), (Self::Socket, &SOCKET)];
        let purpose = purposes.into_iter().find(|(_, modules)| modules.contains(&name));
        purpose.map_or(Self::Root, |(purpose, _)| purpose)
    }
}

/// Loads what the root and the control channel need.
pub(super) fn load_for_root() -> Result<(), BootError> {
    load_all(Purpose::Root)?;
    // The bus is up now, and says what else there is.
    for (device, purpose) in [(Device::Console, Purpose::Console), (Device::Socket, Purpose::Socket)] {
        if device.is_there() {
            load_all(purpose)?;
        }
    }
    Ok(())
}

/// Loads every module of the list that is for `purpose`. A module that is there already, or built in, is fine.
pub(super) fn load_all(purpose: Purpose) -> Result<(), BootError> {
    let directory = Path::new(DIRECTORY);
    let list = directory.join("list");
    let names = fs::read_to_string(&list).map_err(|source| BootError::File {
        action: "read",
        path: list.clone(),
        source,
    })?;
    let names = names.lines().map(str::trim).filter(|line| !line.is_empty());
    for name in names.filter(|name| Purpose::of(name) == purpose) {
        load(&directory.join(name)).map_err(|source| BootError::Module { name: name.to_owned(), source })?;
    }
    Ok(())
}

fn load(path: &Path) -> std::io::Result<()> {
    let file = File::open(path)?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_kind_of_device_alone_needs_is_for_that() {
        for file in ["07-virtio_net.ko", "06-net_failover.ko", "failover.ko.xz"] {
            assert_eq!(Purpose::of(file), Purpose::Network, "{file}");
        }
        assert_eq!(Purpose::of("05-virtio_console.ko"), Purpose::Console);
        for file in
            ["09-vsock.ko", "10-vmw_vsock_virtio_transport_common.ko", "11-vmw_vsock_virtio_transport.ko"]
        {
            assert_eq!(Purpose::of(file), Purpose::Socket, "{file}");
        }
        for file in ["01-virtio.ko", "02-virtio_mmio.ko", "virtio_blk.ko", "08-overlay.ko", "9p.ko"] {
            assert_eq!(Purpose::of(file), Purpose::Root, "{file}");
        }
    }
}
