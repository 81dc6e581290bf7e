//! Stands between a VMM and passt, and lets through what the network's plan has a place for.
//!
//! Started by the VM's monitor with one end of a socket pair to each. It parses what a hostile guest
//! sends, so it is a process of its own, which knows nothing and holds nothing else.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::FromRawFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use banger_net::{
    FILTER_GUEST_DESCRIPTOR, FILTER_WORLD_DESCRIPTOR, deliver, pass_frames, pass_packets, receive_descriptor,
};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

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
    let usage =
        || io::Error::new(io::ErrorKind::InvalidInput, "usage: banger-filter GUEST-ADDRESS [--packets]");
    let mut arguments = std::env::args().skip(1);
    let guest = arguments.next().and_then(|text| text.parse().ok()).ok_or_else(usage)?;
    let (guests_end, worlds_end) = (inherited(FILTER_GUEST_DESCRIPTOR), inherited(FILTER_WORLD_DESCRIPTOR));
    match arguments.next().as_deref() {
        None => between_streams(guest, &guests_end, worlds_end),
        Some("--packets") => between_packets_and_stream(guest, guests_end, worlds_end),
        Some(_) => Err(usage()),
    }
}

/// The guest's frames come as packets, through a socket that comes first.
fn between_packets_and_stream(
    guest: Ipv4Addr,
    guests_end: UnixStream,
    from_world: UnixStream,
) -> io::Result<()> {
    let packets = receive_descriptor(&guests_end)?;
    // The VMM holds its other end, and has nothing more to say on it.
    std::thread::spawn(move || end(&io::copy(&mut &guests_end, &mut io::sink()).map(drop)));
    let (to_guest, to_world) = (packets.try_clone()?, from_world.try_clone()?);
    std::thread::spawn(move || {
        // As on a real network, what cannot be sent is lost.
        let send = |frame: &[u8]| {
            rustix::net::send(&to_guest, frame, SendFlags::empty()).ok();
        };
        end(&deliver(&from_world, send));
    });
    let receive = |buffer: &mut [u8]| loop {
        match rustix::net::recv(&packets, &mut *buffer, RecvFlags::empty()) {
            Ok((_, length)) => return Ok(length),
            // The VMM has the device not yet, or no more.
            Err(Errno::NETDOWN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    pass_packets(receive, &to_world, guest)
}

fn between_streams(guest: Ipv4Addr, from_guest: &UnixStream, from_world: UnixStream) -> io::Result<()> {
    let (to_guest, to_world) = (from_guest.try_clone()?, from_world.try_clone()?);
    std::thread::spawn(move || {
        let copied = io::copy(&mut &from_world, &mut &to_guest).map(drop);
        // passt has ended, or the VMM: there is nothing left to pass on, either way.
        end(&copied);
    });
    pass_frames(from_guest, &to_world, guest)
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
