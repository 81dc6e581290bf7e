//! TAP devices.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use banger_types::helper::VmDevice;

use crate::error::Refusal;
use crate::network::{self, DEVICE, exists};
use crate::state::{User, Vm};
use crate::tool::{BRIDGE, IP};

/// Returns the name of a VM's device. Not its id: whoever saw that could be the first to have a VM of it.
pub(crate) fn name(vm: &Vm) -> String {
    format!("{DEVICE}{}", vm.device)
}

/// Returns a VM's place as its owner sees it.
pub(crate) fn describe(user: &User, vm: &Vm) -> VmDevice {
    VmDevice { device: name(vm), mac: mac(vm), address: vm.address, address_v6: address_v6(user, vm) }
}

/// Returns the guest's hardware address.
pub(crate) fn mac(vm: &Vm) -> String {
    mac_of(vm.address)
}

/// Returns the hardware address of who has an address: locally administered (IEEE 802 section 8.4), and another for each.
pub(crate) fn mac_of(address: Ipv4Addr) -> String {
    let [_, a, b, c] = address.octets();
    format!("02:62:67:{a:02x}:{b:02x}:{c:02x}")
}

/// Returns the guest's address on its link, which is made of that (RFC 4291 appendix A).
pub(crate) fn link_local(vm: &Vm) -> Ipv6Addr {
    let [_, a, b, c] = vm.address.octets();
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x00, 0x62, 0x67, 0xff, 0xfe, a, b, c])
}

/// Returns the guest's address of IPv6.
pub(crate) fn address_v6(user: &User, vm: &Vm) -> Option<Ipv6Addr> {
    let last = u128::from(vm.address.octets()[3]);
    user.v6.map(|first| Ipv6Addr::from_bits(first.to_bits() | last))
}

/// Makes a VM's device what it has to be: in the bridge, and its user's to open, or its jail's.
pub(crate) fn ensure(uid: u32, vm: &Vm) -> Result<(), Refusal> {
    let (device, bridge, owner) = (name(vm), network::bridge(uid), vm.jail.unwrap_or(uid).to_string());
    // One that was made for another.
    if exists(&device) && std::fs::read_to_string(owner_file(&device)).is_ok_and(|now| now.trim() != owner) {
        remove(vm)?;
    }
    if !exists(&device) {
        // With a header before each frame, as VMMs' network cards have it.
        IP.run(&["tuntap", "add", "dev", &device, "mode", "tap", "user", &owner, "vnet_hdr"], "")?;
    }
    // The host has nothing to say on it, but as the bridge.
    write(&format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1")?;
    IP.run(&["link", "set", "dev", &device, "master", &bridge], "")?;
    // Where a guest is, is known: a bridge that learns it would believe frames that no rule sees, as those for bridges themselves (IEEE
    // 802.1Q section 8.6.3).
    let port = ["type", "bridge_slave", "learning", "off", "flood", "off"];
    IP.run(&[&["link", "set", "dev", &device][..], &port].concat(), "")?;
    BRIDGE.run(&["fdb", "replace", &mac(vm), "dev", &device, "master", "static"], "")?;
    IP.run(&["link", "set", "dev", &device, "up"], "").map(drop)
}

/// Where the number of who may open a device stands.
fn owner_file(device: &str) -> String {
    format!("/sys/class/net/{device}/owner")
}

/// Takes a VM's device away, if it is there.
pub(crate) fn remove(vm: &Vm) -> Result<(), Refusal> {
    network::remove_link(&name(vm))
}

/// Writes a setting, which a kernel may be without.
fn write(path: &str, value: &str) -> Result<(), Refusal> {
    match std::fs::write(Path::new(path), value) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Refusal::file("cannot write", path)(error))
        }
        _ => Ok(()),
    }
}
