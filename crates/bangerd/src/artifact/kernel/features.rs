//! What a kernel can do: by its configuration, and as a guest says that was booted from it.

use std::sync::Arc;

use banger_image::kernel::{KernelSource, file};
use banger_types::guest::KernelFeature;
use banger_types::kernel::Kernel;
use banger_types::{ApiError, ErrorKind};

use crate::artifact::Artifacts;
use crate::operation::{Handle, Part};

/// What every kernel has to have.
pub(in crate::artifact) const NEEDED: &str = "the kernel needs an 8250 serial console, initramfs, devtmpfs, virtio-mmio, virtio-blk, ext4, overlayfs, and \
     virtio-console (QEMU) or vsock over virtio (Firecracker): built in, or as modules in the file that --initrd names";

/// Kernels of which more is to be known than they say themselves.
pub(super) trait NeedsAGuest {
    /// Whether a guest has to be booted to know what it can do: whoever has made it has not made it for banger.
    fn needs_a_guest(&self) -> bool;
}

impl NeedsAGuest for Kernel {
    fn needs_a_guest(&self) -> bool {
        self.registered.is_some() || !matches!(self.source.parse(), Ok(KernelSource::Debian(_)))
    }
}

impl Artifacts {
    /// Returns a kernel with what it can do. Fails for one that no VM can boot; warns of what VMs will not have.
    pub(super) async fn with_features(
        &self,
        what: &str,
        kernel: Kernel,
        operation: &Arc<Handle>,
    ) -> Result<Kernel, ApiError> {
        let kernel = if kernel.needs_a_guest() || kernel.features.is_empty() {
            self.asked(what, kernel, operation).await?
        } else {
            kernel
        };
        let refuse =
            |why| ApiError::new(ErrorKind::Failed, format!("cannot {what}")).because(why).fix(NEEDED);
        for warning in judge(&kernel.release, &kernel.features).map_err(refuse)? {
            operation.warn(warning);
        }
        Ok(kernel)
    }

    /// Boots a guest of a kernel that says what that can do.
    async fn asked(&self, what: &str, kernel: Kernel, operation: &Arc<Handle>) -> Result<Kernel, ApiError> {
        let (part, _give_up) = Part::of(operation);
        // It looks at a drive, too; what is on that is of no concern.
        let drive = self.context().layout.kernel(&kernel.id).join(file::MODULES);
        let stage = "kernel: boot it to see what it can do";
        let answer = self.context().inspect(what, stage, &kernel.id, &drive, &part).await?;
        let inspection = answer.map_err(|instead| {
            let error = ApiError::new(ErrorKind::Failed, format!("cannot {what}"));
            error.because(format!("a VM that boots it to see what it can do {instead}")).fix(NEEDED)
        })?;
        let features = merged(&kernel.features, &inspection.features);
        Ok(Kernel { release: inspection.kernel_release, features, ..kernel })
    }
}

/// Returns what is in either list.
pub(in crate::artifact) fn merged(one: &[KernelFeature], other: &[KernelFeature]) -> Vec<KernelFeature> {
    KernelFeature::ALL
        .into_iter()
        .filter(|feature| one.contains(feature) || other.contains(feature))
        .collect()
}

/// Says what VMs cannot do with a kernel; fails with the reason for which there can be none.
pub(in crate::artifact) fn judge(release: &str, features: &[KernelFeature]) -> Result<Vec<String>, String> {
    let has = |feature| features.contains(&feature);
    for feature in [KernelFeature::Overlay, KernelFeature::Ext4, KernelFeature::Block] {
        if !has(feature) {
            return Err(format!("the kernel {release} has no {feature}"));
        }
    }
    let (console, socket) = (has(KernelFeature::Console), has(KernelFeature::Socket));
    if !console && !socket {
        return Err(format!(
            "nothing can be said to a guest of the kernel {release}: it has neither virtio-console nor vsock"
        ));
    }
    let lacks = [
        (console, "virtio-console: its VMs do not run under QEMU"),
        (socket, "vsock over virtio: its VMs do not run under Firecracker"),
        (has(KernelFeature::Network), "virtio-net: its VMs have no network"),
    ];
    let lacks = lacks.into_iter().filter(|(there, _)| !there);
    Ok(lacks.map(|(_, what)| format!("the kernel {release} has no {what}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_refused_for_what_no_vm_can_be_without() {
        let (overlay, ext4, block) = (KernelFeature::Overlay, KernelFeature::Ext4, KernelFeature::Block);
        let why = |features: &[KernelFeature]| judge("6.1", features).unwrap_err();
        assert!(why(&[]).ends_with("has no overlayfs"));
        assert!(why(&[overlay]).ends_with("has no ext4"));
        assert!(why(&[overlay, ext4]).ends_with("has no virtio-blk"));
        assert!(why(&[overlay, ext4, block]).contains("neither virtio-console nor vsock"));
        let warnings = judge("6.1", &[overlay, ext4, block, KernelFeature::Console]).unwrap();
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].contains("Firecracker") && warnings[1].contains("no network"), "{warnings:?}");
    }

    #[test]
    fn what_either_says_counts_once() {
        let (overlay, ext4, network) = (KernelFeature::Overlay, KernelFeature::Ext4, KernelFeature::Network);
        assert_eq!(merged(&[network, ext4], &[ext4, overlay]), [overlay, ext4, network]);
    }
}
