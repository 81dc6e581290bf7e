//! What a kernel can do, by its configuration: a file of its package, or a part of itself (`CONFIG_IKCONFIG`).

use std::collections::BTreeSet;
use std::io::Read as _;

use banger_types::guest::KernelFeature;

/// What stands before the configuration in a kernel, packed by gzip (Linux, kernel/configs.c).
const BEGIN: &[u8] = b"IKCFG_ST";
/// A configuration has at most this many bytes; Debian's has 270 kB.
const LARGEST: u64 = 8 << 20;

/// What each feature is made of: all of these options, of those in one list any.
const OPTIONS: [(KernelFeature, &[&[&str]]); 9] = [
    (KernelFeature::Overlay, &[&["OVERLAY_FS"]]),
    (KernelFeature::Ext4, &[&["EXT4_FS"]]),
    (KernelFeature::Block, &[&["VIRTIO_BLK"], &["VIRTIO_MMIO"]]),
    (KernelFeature::Console, &[&["VIRTIO_CONSOLE"], &["VIRTIO_MMIO"]]),
    (KernelFeature::Socket, &[&["VIRTIO_VSOCKETS"], &["VIRTIO_MMIO"]]),
    (KernelFeature::Network, &[&["VIRTIO_NET"], &["VIRTIO_MMIO"]]),
    (KernelFeature::Squashfs, &[&["SQUASHFS"]]),
    (KernelFeature::Erofs, &[&["EROFS_FS"]]),
    // What Docker's engine does without is left away (moby, contrib/check-config.sh, "Generally Necessary").
    (
        KernelFeature::Containers,
        &[
            &["NAMESPACES"],
            &["NET_NS"],
            &["PID_NS"],
            &["IPC_NS"],
            &["UTS_NS"],
            &["CGROUPS"],
            &["VETH"],
            &["BRIDGE"],
            &["NF_NAT"],
            &["NETFILTER_XT_MATCH_ADDRTYPE"],
            &["NETFILTER_XT_MATCH_CONNTRACK"],
            &["NETFILTER_XT_TARGET_MASQUERADE", "IP_NF_TARGET_MASQUERADE"],
            &["NFT_COMPAT", "IP_NF_NAT"],
        ],
    ),
];

/// Which of a kernel's modules its VMs have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Modules {
    /// All of them.
    All,
    /// Not those that are asked for here: what is not built in is not there.
    Unknown,
}

/// Returns what a kernel of this configuration can do.
pub(super) fn of_configuration(configuration: &str, modules: Modules) -> Vec<KernelFeature> {
    let option = |line: &'_ str| -> Option<String> {
        let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
        let is_there = value == "y" || value == "m" && modules == Modules::All;
        is_there.then(|| name.to_owned())
    };
    let there: BTreeSet<String> = configuration.lines().filter_map(option).collect();
    let has = |options: &&[&str]| options.iter().any(|option| there.contains(*option));
    OPTIONS.into_iter().filter(|(_, all)| all.iter().all(has)).map(|(feature, _)| feature).collect()
}

/// Returns the configuration that is part of a kernel, an ELF file, if it is.
pub(super) fn embedded(elf: &[u8]) -> Option<String> {
    let at = memchr::memmem::find(elf, BEGIN)? + BEGIN.len();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&elf[at..]).take(LARGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_a_module_counts_where_modules_are() {
        let text = "# CONFIG_EROFS_FS is not set\nCONFIG_OVERLAY_FS=m\nCONFIG_EXT4_FS=y\nCONFIG_SQUASHFS_XZ=y\n\
            CONFIG_VIRTIO_MMIO=y\nCONFIG_VIRTIO_NET=m\nCONFIG_VIRTIO_BLK=\"y\"\n";
        let (overlay, ext4, network) = (KernelFeature::Overlay, KernelFeature::Ext4, KernelFeature::Network);
        assert_eq!(of_configuration(text, Modules::All), [overlay, ext4, network]);
        assert_eq!(of_configuration(text, Modules::Unknown), [ext4]);
        assert_eq!(of_configuration("", Modules::All), []);
    }

    #[test]
    fn containers_need_all_that_they_are_made_of() {
        let all = OPTIONS.into_iter().find(|(feature, _)| *feature == KernelFeature::Containers).unwrap().1;
        let text = |leave_out: &str| {
            let lines = all.iter().filter_map(|any| any.last()).filter(|option| **option != leave_out);
            lines.map(|option| format!("CONFIG_{option}=m")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(of_configuration(&text(""), Modules::All), [KernelFeature::Containers]);
        assert_eq!(of_configuration(&text("VETH"), Modules::All), []);
        assert_eq!(of_configuration(&text("IP_NF_NAT"), Modules::All), []);
    }

    #[test]
    fn a_kernel_may_carry_its_configuration() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"CONFIG_EXT4_FS=y\n").unwrap();
        let elf = [b"\x7fELF...", BEGIN, &packed.finish().unwrap(), b"IKCFG_ED..."].concat();
        assert_eq!(embedded(&elf).unwrap(), "CONFIG_EXT4_FS=y\n");
        assert_eq!(embedded(&elf[..20]), None, "it is cut");
        assert_eq!(embedded(b"\x7fELF"), None);
    }
}
