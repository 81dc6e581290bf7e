//! Bare Firecracker with a TAP: no banger, and a guest that sends, or does nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use banger_image::kernel::cpio::Archive;
use serde_json::Value;

use super::{aid, place};
use crate::boot::{Bare, Card, LINE};

/// The half of its initramfs that is made where there is a busybox.
const HALF: &str = "network-init.cpio";
/// The whole one, and what Firecracker is told.
const WHOLE: &str = "network-bare.cpio";
/// The variable that names whom it sends to; without it, it does nothing.
const RECEIVER: &str = "receiver";
/// The guest's hardware address; locally administered.
const MAC: &str = "02:62:6e:67:00:02";

/// A VM that bare machines are made like: its kernel, its processors, its memory.
#[derive(Debug)]
pub(super) struct Model {
    /// A directory with what it has written for its VMM.
    directory: PathBuf,
    initramfs: PathBuf,
    scratch: PathBuf,
}

/// Makes in `scratch` what it takes, and returns the files: for where none of it can be made.
pub(crate) fn prepare(scratch: &Path) -> Result<Vec<PathBuf>> {
    let half = scratch.join(HALF);
    let busybox = fs_err::read("/bin/busybox").context("the package busybox-static")?;
    let packed = Archive::new()
        .directory("bench", 0o755)
        .file("bench/busybox", 0o755, &busybox)
        .file("bench/aid", 0o755, &fs_err::read(aid())?)
        .file("init", 0o755, init().as_bytes())
        .finish();
    fs_err::write(&half, packed)?;
    Ok(vec![half, aid()])
}

/// The kernel gives init what it does not know itself (`init/main.c`, `unknown_bootoption`).
fn init() -> String {
    let guest = place::TAP_ADDRESS.replace(".1", ".2");
    format!(
        "#!/bench/busybox sh\n\
         for module in /modules/*.ko; do /bench/busybox insmod $module; done\n\
         /bench/busybox ip address add {guest}/24 dev eth0\n\
         /bench/busybox ip link set eth0 up\n\
         echo '{LINE}'\n\
         test -z \"${RECEIVER}\" || /bench/aid send ${RECEIVER} > /dev/null 2>&1\n\
         while :; do /bench/busybox sleep 1000000; done\n"
    )
}

impl Model {
    /// Takes from the VM in `vm` what is needed of it, before it goes.
    pub(super) fn of(vm: &Path, prepared: &Path, scratch: &Path) -> Result<Self> {
        let directory = scratch.join("network-model");
        fs_err::create_dir_all(&directory)?;
        for file in ["launch.json", "firecracker.json"] {
            fs_err::copy(vm.join(file), directory.join(file))?;
        }
        let theirs: Value = serde_json::from_slice(&fs_err::read(vm.join("firecracker.json"))?)?;
        let theirs = theirs["boot-source"]["initrd_path"].as_str().context("a VM without an initramfs")?;
        // The modules come with the VM's own; of what is there twice, the kernel keeps the later.
        let initramfs = scratch.join(WHOLE);
        let whole = [fs_err::read(vm.join(theirs))?, fs_err::read(prepared.join(HALF))?].concat();
        fs_err::write(&initramfs, whole)?;
        Ok(Self { directory, initramfs, scratch: scratch.to_owned() })
    }

    /// Returns the machine; it sends to this address, if there is one.
    pub(super) fn bare(&self, receiver: Option<&str>) -> Result<Bare> {
        let variable = receiver.map(|address| format!("{RECEIVER}={address}")).unwrap_or_default();
        let card = Card { device: place::TAP, mac: MAC, initramfs: &self.initramfs, variable: &variable };
        Bare::with_card(&self.directory, &card, &self.scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_guest_is_the_hosts_neighbour_and_sends_where_it_is_told() {
        let init = init();
        assert!(init.contains("address add 10.99.0.2/24"), "{init}");
        assert!(init.contains("send $receiver"), "{init}");
    }
}
