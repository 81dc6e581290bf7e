//! What is typed on the guest's serial console: the way to the VMM's standard input.

use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use mio::unix::pipe::Sender;
use rustix::pipe::PipeFlags;

/// The monitor's end of a pipe. It holds what the guest has not read yet: 64 KiB (pipe(7)).
#[derive(Debug)]
pub(crate) struct Keyboard {
    pub(crate) sender: Sender,
    /// There may be room.
    pub(crate) writable: bool,
}

impl Keyboard {
    /// Returns the monitor's end, which has to be registered with the event loop, and the VMM's.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let sender = Sender::from(writer);
        sender.set_nonblocking(true)?;
        Ok((Self { sender, writable: true }, reader))
    }

    /// Types what there is room for. Returns how many bytes that were. A VMM that takes no input, or is gone, takes all.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> usize {
        while self.writable && !bytes.is_empty() {
            match self.sender.write(bytes) {
                Ok(length) => return length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(_) => return bytes.len(),
            }
        }
        0
    }
}
