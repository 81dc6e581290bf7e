//! Init, agent and SSH server of a banger guest.
//!
//! One static binary with seven roles, told apart by how it is started:
//!
//! - as process 1 of the initramfs it boots the guest ([`boot`]) and either hands over to the image's systemd or
//!   stays as the guest's own init ([`init`]);
//! - as `banger-guest agent` it serves the control channel ([`agent`]), and on it SSH ([`ssh`]);
//! - as `banger-guest sftp` it serves files to one SSH session, as that session's user ([`sftp`]);
//! - as `banger-guest session` it is what PAM takes for a user's shell ([`login`]);
//! - as `banger-guest service` it keeps the image's own command running ([`service`]);
//! - as `banger-guest console` it has a shell for whoever is at the other end of the serial line ([`console`]).

pub mod agent;
mod async_file;
pub mod boot;
pub mod console;
pub mod init;
pub mod log;
pub mod login;
mod process;
pub mod service;
pub mod sftp;
pub mod ssh;
mod trim;
mod uevent;
pub mod user;
mod virtio;

/// Paths in the running guest, all on its `/run`.
pub mod path {
    /// Holds [`CONFIG`]; only root may look in.
    pub const DIRECTORY: &str = "/run/banger";
    /// The guest's configuration, mode 0600: it has the SSH server's private key.
    pub const CONFIG: &str = "/run/banger/config.json";
    /// This binary. Not a copy but the initramfs's own file, bound here: a copy would cost its size in memory.
    /// systemd leaves mounts under `/run/initramfs` alone when it goes down (its `INITRD_INTERFACE`), and a binary
    /// that runs cannot be unmounted.
    pub const BINARY: &str = "/run/initramfs/banger-guest";
}
