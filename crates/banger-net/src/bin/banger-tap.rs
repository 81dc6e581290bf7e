//! Starts a VMM that knows nothing but TAP devices, in namespaces of its own that have one.
//!
//! `banger-tap PROGRAM ARGUMENT…` makes the device, hands its other side to the filter, and becomes the program;
//! `banger-tap --check` makes it, to see whether it can.

use std::ffi::OsString;
use std::io;
use std::os::fd::{FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use banger_net::{
    FILTER_GUEST_DESCRIPTOR, TAP_CHECK, enter_namespaces, make_tap, packet_socket, send_descriptor,
};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

fn main() -> ExitCode {
    let is_check = std::env::args_os().nth(1).is_some_and(|argument| argument == TAP_CHECK);
    let error = if is_check { make_device().err() } else { Some(become_program()) };
    match error {
        None => ExitCode::SUCCESS,
        Some(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the monitor keeps it in the engine's log")]
fn complain(error: &io::Error) {
    eprintln!("banger-tap: {error}");
}

/// Returns only when that fails.
fn become_program() -> io::Error {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "usage: banger-tap PROGRAM ARGUMENT...");
    };
    match prepare() {
        Ok(()) => run(program, arguments.collect()),
        Err(error) => error,
    }
}

fn run(program: OsString, arguments: Vec<OsString>) -> io::Error {
    Command::new(program).args(arguments).exec()
}

fn prepare() -> io::Result<()> {
    // SAFETY: the monitor opens it for this program, which takes it once; otherwise the first use fails.
    #[expect(unsafe_code, reason = "a descriptor that is known by its number alone")]
    let filter = unsafe { UnixStream::from_raw_fd(FILTER_GUEST_DESCRIPTOR) };
    let packets = make_device()?;
    send_descriptor(&filter, &packets).map_err(named("cannot hand it to the filter"))?;
    // The program inherits it, for the filter to see when that ends: the device stays for as long as somebody listens to it.
    let _inherited = filter.into_raw_fd();
    Ok(())
}

fn named(what: &'static str) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Makes the device in namespaces of its own, and returns a socket for its other side.
fn make_device() -> io::Result<OwnedFd> {
    let parent = getppid();
    enter_namespaces().map_err(named("cannot make namespaces"))?;
    // New credentials have cost the process its signal.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != parent {
        return Err(io::Error::other("whoever has started it is gone"));
    }
    make_tap().map_err(named("cannot make a TAP device"))?;
    packet_socket().map_err(named("cannot listen to the TAP device"))
}
