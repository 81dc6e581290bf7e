//! The agent's side of a session that is open.

use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::process::Child;

use super::{ENDED, Request, START, STARTED};
use crate::async_file::AsyncFile;
use crate::init::signals::send_to_group;

/// A message from the session, or from what is about to become its program.
#[derive(Debug)]
pub(super) struct Message {
    /// Its first byte.
    pub(super) kind: u8,
    status: [u8; 4],
    /// Who sent it: the kernel's word, which a sender without rights cannot choose (unix(7), `SCM_CREDENTIALS`).
    sender: Option<Pid>,
}

/// A program in a login session.
#[derive(Debug)]
pub(crate) struct Process {
    /// Closes the session once its child has ended. Never waited for: tokio takes it in.
    _tool: Child,
    socket: AsyncFile,
    program: Option<Leader>,
    hung_up: bool,
}

/// The program's process, and a descriptor that tells whether its number is still its own: it is not our child, so that
/// the number may be another's once it has ended.
#[derive(Debug)]
struct Leader {
    pid: Pid,
    descriptor: OwnedFd,
}

impl Leader {
    fn find(pid: Pid) -> Option<Self> {
        Some(Self { pid, descriptor: pidfd_open(pid, PidfdFlags::empty()).ok()? })
    }

    fn signal(&self, number: i32) {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ended = poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&now));
        if ended == Ok(0) {
            let _ = send_to_group(self.pid, number);
        }
    }
}

impl Process {
    pub(super) fn new(tool: Child, socket: AsyncFile) -> Self {
        Self { _tool: tool, socket, program: None, hung_up: false }
    }

    /// Waits for the program's end. Nothing is lost when this is dropped and called again.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            match receive(&self.socket).await? {
                Some(message) if message.kind == ENDED => {
                    return Ok(ExitStatus::from_raw(i32::from_ne_bytes(message.status)));
                }
                Some(message) if message.kind == STARTED => self.started(message.sender),
                Some(_) => {}
                None => return Err(io::Error::other("its login session has ended before it")),
            }
        }
    }

    fn started(&mut self, sender: Option<Pid>) {
        self.program = sender.and_then(Leader::find);
        if self.hung_up {
            self.signal(Signal::HUP.as_raw());
            self.signal(Signal::CONT.as_raw());
        }
    }

    /// Sends a signal to the process group that the program was started in, while it lives.
    pub(crate) fn signal(&self, number: i32) {
        if let Some(program) = &self.program {
            program.signal(number);
        }
    }

    /// Notes that the client has gone. A program that starts only now is told at once.
    pub(crate) fn hang_up(&mut self) {
        self.hung_up = true;
    }
}

/// Receives a message; `None` when nobody is left to send one.
pub(super) async fn receive(socket: &AsyncFile) -> io::Result<Option<Message>> {
    socket.take(receive_now).await
}

fn receive_now(socket: &OwnedFd) -> rustix::io::Result<Option<Message>> {
    let mut bytes = [0u8; 5];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
    let sender = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid),
        _ => None,
    });
    let [kind, status @ ..] = bytes;
    Ok((received.bytes > 0).then_some(Message { kind, status, sender }))
}

/// Hands over a program and its streams.
pub(super) fn send_request(socket: &AsyncFile, request: &Request, streams: &[OwnedFd; 3]) -> io::Result<()> {
    // A command line may be longer than a message.
    let mut file = std::fs::File::from(rustix::fs::memfd_create(c"banger-program", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(request)?)?;
    let [input, output, errors] = streams;
    let descriptors = [file.as_fd(), input.as_fd(), output.as_fd(), errors.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(&[START])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}
