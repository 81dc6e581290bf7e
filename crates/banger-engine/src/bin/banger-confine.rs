//! Becomes a VMM that can do little more on the host than it needs: `banger-confine [--read PATH]… [--write FILE]… [--sockets DIRECTORY]…
//! [--network] [--connect] -- PROGRAM ARGUMENT…`. For somebody who gets out of a guest, and has the VMM's process.
//!
//! By Landlock (the kernel's `userspace-api/landlock`), which takes no privilege, and a filter of system calls (`seccomp(2)`) for
//! what Landlock has no word in: owners, modes, attributes, truncating by a path, sockets of the network, and with a VMM that
//! connects to nobody, connecting. `--check` says whether this kernel has Landlock.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use banger_engine::{
    CONFINE_CHECK, CONFINE_CONNECT, CONFINE_NETWORK, CONFINE_READ, CONFINE_SOCKETS, CONFINE_WRITE,
};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set, remove_capability_from_bounding_set};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// The newest version of Landlock that is asked for; an older kernel does what it can of it.
const VERSION: ABI = ABI::V6;
/// System calls of which no VMM has need: whose files are, and who may what with them; truncating what is not open; asking by a ring
/// for what a filter would not see.
const ALWAYS: [i64; 24] = [
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    libc::SYS_truncate,
    libc::SYS_io_uring_setup,
    libc::SYS_ptrace,
    libc::SYS_process_vm_writev,
];
/// Newer than the C library's list (the kernel's `asm-generic/unistd.h`).
const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
/// What programs of a distribution need to be loaded and to find out about their processors. Other processes' secrets in `/proc` are
/// out of reach: Landlock lets nobody look into those outside.
const SYSTEM: [&str; 8] = [
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/proc",
    "/sys/devices/system",
    "/nix/store",
    "/gnu/store",
];
/// Devices that VMMs use.
const DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/kvm", "/dev/net/tun"];

fn main() -> ExitCode {
    let error = match Request::parse(std::env::args_os().skip(1)) {
        Some(Request::Check) => match Confines::default().apply() {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => error,
        },
        Some(Request::Run(confines, program, arguments)) => match confines.apply() {
            Ok(()) => Command::new(program).args(arguments).exec(),
            Err(error) => error,
        },
        None => io::Error::new(
            io::ErrorKind::InvalidInput,
            "usage: banger-confine [--read PATH]... [--write FILE]... [--sockets DIRECTORY]... [--network] [--connect] -- PROGRAM ARGUMENT...",
        ),
    };
    complain(&error);
    ExitCode::FAILURE
}

#[expect(clippy::print_stderr, reason = "the monitor keeps it in the engine's log")]
fn complain(error: &io::Error) {
    eprintln!("banger-confine: {error}");
}

/// What is asked.
enum Request {
    Check,
    Run(Confines, OsString, Vec<OsString>),
}

impl Request {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut confines = Confines::default();
        loop {
            let argument = arguments.next()?;
            match argument.to_str() {
                Some(CONFINE_CHECK) => return Some(Self::Check),
                Some(CONFINE_READ) => confines.reads.push(arguments.next()?.into()),
                Some(CONFINE_WRITE) => confines.writes.push(arguments.next()?.into()),
                Some(CONFINE_SOCKETS) => confines.sockets.push(arguments.next()?.into()),
                Some(CONFINE_NETWORK) => confines.network = true,
                Some(CONFINE_CONNECT) => confines.connects = true,
                Some("--") => return Some(Self::Run(confines, arguments.next()?, arguments.collect())),
                _ => return None,
            }
        }
    }
}

/// Fails system calls with EPERM: those that change what Landlock lets be, and those that reach what is no file.
fn filter(network: bool, connects: bool) -> Result<(), seccompiler::Error> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    if !network {
        let of = |family: i32| {
            let argument = SeccompCmpArgLen::Dword;
            let family = u64::from(family.unsigned_abs());
            let condition = SeccompCondition::new(0, argument, SeccompCmpOp::Eq, family)?;
            SeccompRule::new(vec![condition])
        };
        let families = [libc::AF_INET, libc::AF_INET6, libc::AF_PACKET, libc::AF_NETLINK, libc::AF_VSOCK];
        let rules: Result<Vec<SeccompRule>, _> = families.into_iter().map(of).collect();
        calls.insert(libc::SYS_socket, rules?);
    }
    if !network && !connects {
        calls.insert(libc::SYS_connect, Vec::new());
    }
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into()?;
    let program: BpfProgram =
        SeccompFilter::new(calls, SeccompAction::Allow, refused, architecture)?.try_into()?;
    seccompiler::apply_filter(&program)
}

/// Of what root may do, a program that root runs keeps what lets it open its files, whoever they belong to (`capabilities(7)`): by others
/// it could look into other processes, load modules, and so undo the rest.
fn give_up_privileges() -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let kept = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    for capability in CapabilitySet::all().difference(kept).iter() {
        // A kernel may know fewer.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

/// What a program may do.
#[derive(Default)]
struct Confines {
    reads: Vec<PathBuf>,
    writes: Vec<PathBuf>,
    /// Directories in which it may make sockets, and nothing else.
    sockets: Vec<PathBuf>,
    /// Whether it opens sockets of the network.
    network: bool,
    /// Whether it connects sockets to others.
    connects: bool,
}

impl Confines {
    /// Holds this process to it, and whatever it becomes.
    fn apply(self) -> io::Result<()> {
        give_up_privileges()?;
        filter(self.network, self.connects).map_err(io::Error::other)?;
        match self.restrict().map_err(io::Error::other)? {
            RulesetStatus::NotEnforced => Err(io::Error::other("this kernel has no Landlock")),
            _ => Ok(()),
        }
    }

    fn restrict(self) -> Result<RulesetStatus, RulesetError> {
        let (all, read) = (AccessFs::from_all(VERSION), AccessFs::from_read(VERSION));
        let mut ruleset = Ruleset::default().handle_access(all)?.scope(Scope::from_all(VERSION))?;
        if !self.network {
            ruleset = ruleset.handle_access(AccessNet::from_all(VERSION))?;
        }
        let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        let file = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate;
        let status = ruleset
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules(DEVICES, device))?
            .add_rules(path_beneath_rules(&self.reads, read))?
            .add_rules(path_beneath_rules(&self.writes, file))?
            .add_rules(path_beneath_rules(&self.sockets, AccessFs::MakeSock))?
            .restrict_self()?;
        Ok(status.ruleset)
    }
}
