//! Stands between a VMM and what opens the host's sockets for its guest, and lets through what the network has a place for.
//!
//! Started by the VM's monitor with one end of a socket pair to each. It parses what a hostile guest sends, so it is a process
//! of its own, which knows nothing and holds nothing else.

use std::io::{self, Write};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use banger_net::{
    FILTER_GUEST_DESCRIPTOR, FILTER_WORLD_DESCRIPTOR, FilterOptions, HostRoutes, Names,
    RESOLVER_CONFIGURATION, Verdict, deliver, may_come, pass_frames, pass_packets, receive_descriptor,
    write_frame,
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
    let options = FilterOptions::parse(std::env::args().skip(1))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, FilterOptions::USAGE))?;
    let (guests_end, worlds_end) = (inherited(FILTER_GUEST_DESCRIPTOR), inherited(FILTER_WORLD_DESCRIPTOR));
    let guest = if options.packets { Guest::of_packets(guests_end)? } else { Guest::of_stream(guests_end) };
    let (to_guest, from_world) = (guest.clone(), worlds_end.try_clone()?);
    std::thread::spawn(move || {
        end(&match &to_guest {
            // Neighbours together.
            Guest::Stream(stream) => pass_frames(&from_world, &**stream, may_come),
            Guest::Packets(_) => deliver(&from_world, |frame| {
                if may_come(frame) {
                    to_guest.send(frame);
                }
            }),
        });
    });
    pass_on(&guest, &worlds_end, &options)
}

/// Passes on what the guest sends, until it sends no more.
fn pass_on(guest: &Guest, world: &UnixStream, options: &FilterOptions) -> io::Result<()> {
    let (mut routes, names) = (HostRoutes::open()?, Names::new(RESOLVER_CONFIGURATION));
    let leaves = |frame: &[u8]| match options.rules.judge(frame, &mut routes) {
        Verdict::Leaves => true,
        Verdict::Stays => false,
        Verdict::Asks(question) => {
            let guest = guest.clone();
            names.ask(question, options.mtu, move |answer| guest.send(answer));
            false
        }
    };
    match guest {
        Guest::Stream(stream) => pass_frames(&stream.socket, world, leaves),
        Guest::Packets(packets) => pass_packets(|buffer| receive(packets, buffer), world, leaves),
    }
}

/// The guest's side.
#[derive(Debug, Clone)]
enum Guest {
    /// A stream.
    Stream(Arc<Stream>),
    /// A socket of packets.
    Packets(Arc<OwnedFd>),
}

impl Guest {
    fn of_stream(end: UnixStream) -> Self {
        Self::Stream(Arc::new(Stream { socket: end, turn: Mutex::default() }))
    }

    /// The guest's frames come as packets, through a socket that comes first.
    fn of_packets(guests_end: UnixStream) -> io::Result<Self> {
        let packets = receive_descriptor(&guests_end)?;
        // The VMM holds its other end, and has nothing more to say on it.
        std::thread::spawn(move || end(&io::copy(&mut &guests_end, &mut io::sink()).map(drop)));
        Ok(Self::Packets(Arc::new(packets)))
    }

    /// Sends a frame. As on a real network, what cannot be sent is lost.
    fn send(&self, frame: &[u8]) {
        match self {
            Self::Stream(stream) => {
                if let Err(error) = write_frame(&**stream, frame) {
                    end(&Err(error));
                }
            }
            Self::Packets(packets) => {
                rustix::net::send(packets, frame, SendFlags::empty()).ok();
            }
        }
    }
}

/// A stream to which several write: each its frames as a whole.
#[derive(Debug)]
struct Stream {
    socket: UnixStream,
    turn: Mutex<()>,
}

impl Write for &Stream {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.socket).write_all(frames)?;
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn receive(packets: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::net::recv(packets, &mut *buffer, RecvFlags::empty()) {
            Ok((_, length)) => return Ok(length),
            // The VMM has the device not yet, or no more.
            Err(Errno::NETDOWN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
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
