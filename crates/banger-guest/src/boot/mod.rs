//! Process 1 of the initramfs: from the kernel's first process to the image's.
//!
//! The initramfs holds this binary as `/init`, and `/modules`. The order below is the order of dependence; whatever
//! fails before the image's root stands is fatal, whatever fails after (a network card that isn't there, a
//! file that cannot be written) is a line on the console, for a guest that answers can be repaired.

mod base;
mod config;
mod devices;
mod etc;
mod filesystems;
mod growth;
mod inspection;
mod modules;
mod netlink;
mod network;
mod root;
mod systemd;
mod trimming;

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use banger_types::guest::{INSPECT_PARAMETER, ModulePurpose, PROBE_PARAMETER, PROBE_WORDS, TRIM_PARAMETER};
use rustix::system::{RebootCommand, reboot};
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use self::root::RootDirectory;
use crate::log;

pub use self::config::{ConfigError, parse as parse_config};
pub(crate) use self::filesystems::{VOLUMES, complete_without_systemd, make_read_only};

/// Why a guest cannot boot.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file system could not be mounted.
    #[error("mount {what} on {target}")]
    Mount {
        /// The device or kind of file system.
        what: String,
        /// Where.
        target: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kernel module could not be loaded.
    #[error("load the kernel module {name}")]
    Module {
        /// Its file's name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the initramfs, or a directory, could not be used.
    #[error("{action} {path}")]
    File {
        /// What was to be done: `read`, `create`.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A drive did not show up in time.
    #[error("the drive {path} did not appear within {seconds} s")]
    NoDevice {
        /// The device's path.
        path: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The configuration drive makes no sense.
    #[error("read the configuration drive")]
    Config(#[from] ConfigError),
    /// The image's init could not be started.
    #[error("start {path}")]
    Exec {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Boots the guest. Never returns: it becomes the image's init, or powers off with the reason on the console.
pub fn run() -> ! {
    let error = match boot() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    log!("fatal: {}", log::chain(&error));
    power_off()
}

/// Ends the machine at once.
fn power_off() -> ! {
    rustix::fs::sync();
    let _ = reboot(RebootCommand::PowerOff);
    // The kernel refused, or has no power management: a process 1 that ends makes it panic, which ends the VMM too.
    std::process::abort()
}

/// Says what this guest was asked, and ends the machine.
fn answer(words: &str) -> ! {
    log!("{words}");
    let _ = reboot(RebootCommand::Restart);
    power_off()
}

fn boot() -> Result<Infallible, BootError> {
    let started = uptime_ms();
    filesystems::mount_kernel()?;
    let parameters = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let is_asked = |parameter| parameters.split_whitespace().any(|word| word == parameter);
    if is_asked(PROBE_PARAMETER) {
        answer(PROBE_WORDS);
    }
    if is_asked(INSPECT_PARAMETER) {
        answer(&inspection::words());
    }
    if is_asked(TRIM_PARAMETER) {
        answer(&trimming::words());
    }
    // In order, one after the other. Threads that let modules, mounts and network overlap were tried: under QEMU's
    // emulation, with one CPU, they made it slower (medians of 7 boots: 690 ms against 550 ms, on a busy host).
    modules::load_for_root()?;
    devices::wait_for(&devices::DRIVES)?;
    let raw_config = config::read()?;
    let config = config::parse(&raw_config)?;
    set_clock_if_behind(config.unix_time_ns);
    filesystems::mount_disks()?;
    let root = filesystems::mount_root()?;
    let changed = RootDirectory::open(filesystems::UPPER).ok();
    filesystems::mount_beneath(&root)?;
    etc::configure(&root, changed.as_ref(), &config);
    network::raise_loopback();
    if let Some(network) = &config.network {
        modules::load_all(ModulePurpose::Network)?;
        network::configure(network);
    }
    filesystems::publish(&root, &raw_config)?;

    let init = systemd::find(&root);
    if init.is_some() {
        systemd::write_units(&root, config.service).map_err(|source| BootError::File {
            action: "write units to",
            path: systemd::UNITS.into(),
            source,
        })?;
    }
    let private = filesystems::enter(root, init.is_some())?;
    let now = uptime_ms();
    log!("root is ready {now} ms after the kernel started, {} ms after init", now - started);
    match init {
        Some(path) => {
            let source = Command::new(path).env_clear().env("TERM", "linux").exec();
            Err(BootError::Exec { path: path.into(), source })
        }
        None => crate::init::run(private, config.service),
    }
}

/// Milliseconds since the kernel started.
fn uptime_ms() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

/// Sets the clock to the time of the configuration when it is before it, as on a machine without a clock of its own.
fn set_clock_if_behind(unix_time_ns: u64) {
    let Some(wanted) = timespec(unix_time_ns) else { return };
    if clock_gettime(ClockId::Realtime) < wanted
        && let Err(error) = clock_settime(ClockId::Realtime, wanted)
    {
        log!("cannot set the clock: {error}");
    }
}

/// Returns a time in nanoseconds since the epoch as the kernel takes it.
pub(crate) fn timespec(unix_time_ns: u64) -> Option<Timespec> {
    Some(Timespec {
        tv_sec: i64::try_from(unix_time_ns / 1_000_000_000).ok()?,
        tv_nsec: i64::try_from(unix_time_ns % 1_000_000_000).ok()?,
    })
}
