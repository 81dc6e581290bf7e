//! The images and kernels that banger knows by name.

/// The image of a VM for which none is named.
pub(crate) const DEFAULT_IMAGE: &str = "debian";
/// The kernel of a VM for which none is named.
pub(crate) const DEFAULT_KERNEL: &str = "debian";

/// Returns the source of an image that the catalog has.
pub(crate) fn image_source(name: &str) -> Option<&'static str> {
    (name == DEFAULT_IMAGE).then_some("debian:bookworm")
}

/// Returns the source of a kernel that the catalog has.
pub(crate) fn kernel_source(name: &str) -> Option<&'static str> {
    (name == DEFAULT_KERNEL).then_some("debian:bookworm")
}
