//! Which virtio devices this machine has.

use std::fs;

/// A kind of device (virtio 1.2, section 5, "Device Types").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// A console, with ports.
    Console = 3,
    /// A socket device.
    Socket = 19,
}

impl Device {
    /// Returns whether there is one. The bus must be up.
    pub(crate) fn is_there(self) -> bool {
        let devices = fs::read_dir("/sys/bus/virtio/devices").into_iter().flatten().flatten();
        let mut kinds =
            devices.filter_map(|device| kind(&fs::read_to_string(device.path().join("device")).ok()?));
        kinds.any(|kind| kind == self as u32)
    }
}

/// Returns the kind from what the kernel prints: `0x0013`.
fn kind(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_the_kernel_prints_them() {
        assert_eq!(kind("0x0013\n"), Some(Device::Socket as u32));
        assert_eq!(kind("0x0003\n"), Some(Device::Console as u32));
        assert_eq!(kind("19"), None);
    }
}
