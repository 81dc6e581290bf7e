//! Stands between a VMM and passt, and lets through what the network's plan has a place for.
//!
//! Started by the VM's monitor with one end of a socket pair to each. It parses what a hostile guest
//! sends, so it is a process of its own, which knows nothing and holds nothing else.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::FromRawFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use banger_net::{FILTER_GUEST_DESCRIPTOR, FILTER_WORLD_DESCRIPTOR, pass_frames};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the monitor keeps it in the engine's log")]
fn complain(error: &io::Error) {
    eprintln!("banger-filter: {error}");
}

fn run() -> io::Result<()> {
    let usage = || io::Error::new(io::ErrorKind::InvalidInput, "usage: banger-filter GUEST-ADDRESS");
    let guest: Ipv4Addr = std::env::args().nth(1).and_then(|text| text.parse().ok()).ok_or_else(usage)?;
    let (from_guest, from_world) = (inherited(FILTER_GUEST_DESCRIPTOR), inherited(FILTER_WORLD_DESCRIPTOR));
    let (to_guest, to_world) = (from_guest.try_clone()?, from_world.try_clone()?);
    std::thread::spawn(move || {
        let copied = io::copy(&mut &from_world, &mut &to_guest).map(drop);
        // passt has ended, or the VMM: there is nothing left to pass on, either way.
        end(&copied);
    });
    pass_frames(&from_guest, &to_world, guest)
}

/// Ends the process from the thread that saw the other end go.
#[expect(clippy::exit, reason = "the main thread waits in a read that may never return")]
fn end(result: &io::Result<()>) {
    if let Err(error) = result {
        complain(error);
    }
    std::process::exit(i32::from(result.is_err()));
}

/// Returns the socket that the monitor left open under this number.
fn inherited(number: i32) -> UnixStream {
    // SAFETY: this is the first that the process does with its descriptors, each number is taken
    // once, and whoever starts this program opens these two for it; otherwise the first use fails.
    #[expect(unsafe_code, reason = "a descriptor that is known by its number alone")]
    unsafe {
        UnixStream::from_raw_fd(number)
    }
}
