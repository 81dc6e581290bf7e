//! Root file systems and kernel bundles: sources, ext4 and cpio writing.
