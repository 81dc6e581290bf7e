//! From the helper to the VMM, and who watches over it.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode};

use banger_process::Program;
use banger_types::VmId;
use banger_types::error::chain;
use banger_types::helper::{JAIL, RUN_VMM_CHECK, jail_file};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pivot_root};
use rustix::thread::{
    Gid, Uid, UnshareFlags, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::files::{HOLD, Owner, Shown, Use, as_owner, hold, identities, is_owners_directory};
use super::group;
use crate::caller::Caller;
use crate::error::Refusal;
use crate::state::StateFile;

/// Where the root directory of a jail is made: a place that there is, in a view of the host's files that nobody else has.
const PLACE: &str = "/run/banger";
/// Where the VMM logs, and how much: not each request.
const LOG: &str = "dev/log";
const LEVEL: &str = "Warn";
/// Devices that a VMM opens (the kernel's `devices.txt`), by their names, numbers, and whether every kernel has them.
const DEVICES: [(&str, u32, u32); 4] =
    [("dev/kvm", 10, 232), ("dev/net/tun", 10, 200), ("dev/urandom", 1, 9), ("dev/null", 1, 3)];

/// Becomes a VM's VMM, which these arguments name. Returns what is to be the end of this process when it cannot.
pub(crate) fn run(arguments: &[OsString]) -> ExitCode {
    if arguments.first().is_some_and(|argument| argument == HOLD) {
        return if hold().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    run_vmm(arguments).unwrap_or_else(|refusal| {
        // Where a VMM says why it does not run.
        let _ = writeln!(io::stderr(), "banger-helper: {}", chain(&refusal));
        ExitCode::FAILURE
    })
}

fn run_vmm(arguments: &[OsString]) -> Result<ExitCode, Refusal> {
    let (id, is_check) = match arguments {
        [id, check] if check == RUN_VMM_CHECK => (std::slice::from_ref(id), true),
        other => (other, false),
    };
    let id = match id {
        [id] => id.to_str().and_then(|id| id.parse::<VmId>().ok()),
        _ => None,
    };
    let id = id.ok_or_else(|| Refusal::NotPermitted("it is the VMM of one VM, by its id".to_owned()))?;
    let caller = Caller::of_this_process()?;
    let state = StateFile::look()?.load()?;
    let vm = state.users.get(&caller.uid).and_then(|user| user.vms.get(&id));
    let jail = vm.and_then(|vm| vm.jail);
    let jail = jail.ok_or_else(|| Refusal::Missing(format!("VM {id} has no jail of this user's")))?;
    let owner = Owner { uid: caller.uid, gid: caller.gid };
    let failed = |what: &'static str| move |error: io::Error| Refusal::file(what, PLACE)(error);
    // While it can be looked for. Without it the guard is larger, and no worse.
    let program = Program::find().ok();
    leave().map_err(failed("cannot leave the host's view of"))?;
    let shown = open_all(owner)?;
    let identities = identities(owner, jail).map_err(failed("cannot make identities for"))?;
    group::enter(caller.uid, &id)?;
    make_root(jail).map_err(failed("cannot make a root directory at"))?;
    shown.iter().try_for_each(|file| file.mount(Path::new(PLACE), &identities))?;
    drop((shown, identities));
    enter_root().map_err(failed("cannot enter"))?;
    become_user(jail).map_err(failed("cannot leave root's rights in"))?;
    if is_check {
        return Ok(ExitCode::SUCCESS);
    }
    let mut vmm = Command::new(format!("/{}", jail_file::VMM));
    vmm.args(["--id", id.as_str()]);
    vmm.args(["--api-sock", &format!("/{}", jail_file::API_SOCKET)]);
    vmm.args(["--config-file", &format!("/{}", jail_file::MACHINE)]);
    vmm.args(["--log-path", &format!("/{LOG}"), "--level", LEVEL]);
    let log = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = rustix::fs::open(format!("/{LOG}"), log, Mode::empty());
    let log = log.map_err(|error| Refusal::file("cannot open", LOG)(error.into()))?;
    let vmm = vmm.env_clear().spawn().map_err(Refusal::file("cannot run", jail_file::VMM))?;
    if let Some(program) = &program {
        program.forget();
    }
    guard(vmm, &log).map_err(failed("cannot watch over what runs in"))
}

/// Watches over the VMM: as its user, and with no more rights. It does not outlive who has started this, which is known by the end of
/// standard input: sudo(8) in between takes every other news of a death away. Returns how it ended.
fn guard(mut vmm: Child, log: &OwnedFd) -> io::Result<ExitCode> {
    let pid = i32::try_from(vmm.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let input = io::stdin();
    let mut buffer = [0; 4096];
    loop {
        // Of its input only the end is this program's business, which is told unasked.
        let mut seen = [
            PollFd::new(&process, PollFlags::IN),
            PollFd::new(log, PollFlags::IN),
            PollFd::new(&input, PollFlags::empty()),
        ];
        poll(&mut seen, None)?;
        let [ended, logged, left] = seen.map(|seen| !seen.revents().is_empty());
        if logged && let Ok(length) = rustix::io::read(log, &mut buffer) {
            // Who does not read it misses it.
            let _ = io::stderr().write_all(&buffer[..length]);
        }
        if left {
            vmm.kill()?;
        }
        if (ended && !logged) || left {
            let status = vmm.wait()?;
            let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            return Ok(ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)));
        }
    }
}

/// Opens everything that is to be seen in the jail, as the caller may.
fn open_all(owner: Owner) -> Result<Vec<Shown>, Refusal> {
    let open = || {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory: OwnedFd = rustix::fs::openat(CWD, JAIL, flags, Mode::empty())
            .map_err(|error| Refusal::file("cannot open", JAIL)(error.into()))?;
        if !is_owners_directory(&directory, owner) {
            return Err(Refusal::Planted { path: JAIL.into(), why: "is not its caller's alone" });
        }
        let always =
            [(jail_file::VMM, Use::Run), (jail_file::MACHINE, Use::Read), (jail_file::DISK, Use::Write)];
        let mut shown = Vec::new();
        for (name, usage) in always.into_iter().chain([(jail_file::RUN, Use::Fill)]) {
            shown.push(Shown::open(&directory, name, usage)?);
        }
        for name in jail_file::READ {
            match Shown::open(&directory, name, Use::Read) {
                Err(Refusal::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                other => shown.push(other?),
            }
        }
        Ok(shown)
    };
    as_owner(owner, open).map_err(Refusal::file("cannot become its caller for", JAIL))?
}

/// Has a view of the host's files of this process's own from now on: what is opened in another cannot be shown in it.
fn leave() -> io::Result<()> {
    // SAFETY: this process has one thread, and shares its descriptors with nobody.
    #[expect(unsafe_code, reason = "unsharing is unsafe for programs that go on as they were")]
    unsafe {
        rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWIPC)?;
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(())
}

/// Makes a root directory with nothing in it but devices.
fn make_root(jail: u32) -> io::Result<()> {
    mount("banger", PLACE, "tmpfs", MountFlags::NOSUID, c"mode=755,size=80m")?;
    let place = Path::new(PLACE);
    for directory in ["dev", "dev/net"] {
        std::fs::create_dir(place.join(directory))?;
        std::fs::set_permissions(place.join(directory), std::fs::Permissions::from_mode(0o755))?;
    }
    // What is said there is passed on: a pipe of the host's cannot be opened from here.
    mknodat(CWD, place.join(LOG), FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    std::os::unix::fs::chown(place.join(LOG), Some(jail), Some(jail))?;
    for (name, major, minor) in DEVICES {
        let path = place.join(name);
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(major, minor))?;
        std::os::unix::fs::chown(&path, Some(jail), Some(jail))?;
    }
    Ok(())
}

/// Makes it the root, and leaves the host's behind for good (`pivot_root(2)`, "NOTES").
fn enter_root() -> io::Result<()> {
    rustix::process::chdir(PLACE)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Gives up all that is root's, for good.
fn become_user(jail: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(jail), Gid::from_raw(jail));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    set_no_new_privs(true)?;
    Ok(())
}
