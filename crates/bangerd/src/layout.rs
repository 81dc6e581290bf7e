//! Where things are in the data directory. Written once.

use std::path::{Path, PathBuf};

use banger_types::{ImageId, KernelId, OperationId, VmId};

/// The data directory, file by file.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    data: PathBuf,
}

/// Files of a VM's directory; the monitor's are in `banger_types::monitor::file`.
pub(crate) mod vm_file {
    /// The private disk.
    pub(crate) const DISK: &str = "disk.ext4";
    /// The configuration drive, rewritten at each start.
    pub(crate) const CONFIGURATION: &str = "configuration.img";
    /// The initramfs that it boots: another name of one of its kernel's.
    pub(crate) const INITRAMFS: &str = "initramfs.cpio";
    /// The key with which the owner logs in, OpenSSH's form, 0600.
    pub(crate) const IDENTITY: &str = "identity";
    /// The key of the guest's SSH server, OpenSSH's form, 0600.
    pub(crate) const HOST_KEY: &str = "host_key";
    /// What isolated its guest when it was started last, as JSON.
    pub(crate) const ACCELERATOR: &str = "accelerator.json";
}

impl Layout {
    pub(crate) const fn new(data: PathBuf) -> Self {
        Self { data }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.data.join("banger.db")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("bangerd.log")
    }

    pub(crate) fn vms(&self) -> PathBuf {
        self.data.join("vms")
    }

    pub(crate) fn vm(&self, id: &VmId) -> PathBuf {
        self.vms().join(id.as_str())
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    pub(crate) fn image(&self, id: &ImageId) -> PathBuf {
        self.images().join(id.as_str())
    }

    pub(crate) fn kernels(&self) -> PathBuf {
        self.data.join("kernels")
    }

    pub(crate) fn kernel(&self, id: &KernelId) -> PathBuf {
        self.kernels().join(id.as_str())
    }

    pub(crate) fn templates(&self) -> PathBuf {
        self.data.join("templates")
    }

    /// Engines that were installed, each in a directory with its name and version.
    pub(crate) fn engines(&self) -> PathBuf {
        self.data.join("engines")
    }

    /// Layers of images, to be used again.
    pub(crate) fn layers(&self) -> PathBuf {
        self.data.join("layers")
    }

    /// What is being downloaded.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.data.join("downloads")
    }

    /// What is kept of Debian's archive.
    pub(crate) fn debian(&self) -> PathBuf {
        self.data.join("debian")
    }

    /// Catalogs from elsewhere, by their digests.
    pub(crate) fn catalogs(&self) -> PathBuf {
        self.data.join("catalogs")
    }

    pub(crate) fn operation_logs(&self) -> PathBuf {
        self.data.join("operations")
    }

    pub(crate) fn operation_log(&self, id: &OperationId) -> PathBuf {
        self.operation_logs().join(format!("{id}.log"))
    }

    /// What is known of KVM, for this boot of the host.
    pub(crate) fn kvm_verdicts(&self) -> PathBuf {
        self.data.join("kvm.json")
    }

    /// VMs that are gone, and whose places in a network are not, as JSON.
    pub(crate) fn left_places(&self) -> PathBuf {
        self.data.join("left-places.json")
    }

    pub(crate) fn ssh(&self) -> PathBuf {
        self.data.join("ssh")
    }

    pub(crate) fn ssh_configuration(&self) -> PathBuf {
        self.ssh().join("config")
    }

    pub(crate) fn ssh_known_hosts(&self) -> PathBuf {
        self.ssh().join("known_hosts")
    }

    /// Every directory, parents first.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        vec![
            self.data.clone(),
            self.vms(),
            self.images(),
            self.kernels(),
            self.templates(),
            self.engines(),
            self.downloads(),
            self.debian(),
            self.catalogs(),
            self.layers(),
            crate::artifact::stored_layers(&self.layers()),
            crate::artifact::unpacked_layers(&self.layers()),
            self.operation_logs(),
            self.ssh(),
        ]
    }
}
