//! `banger-guest session FD`: the user's shell, as far as PAM is concerned.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ExitCode, ExitStatus, Stdio};

use rustix::io::FdFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};

use super::{ENDED, HELLO, Request, STARTED};
use crate::log;
use crate::process::{Failure, Identity, Program, begin_session};

/// Serves the agent at the other end of the socket `descriptor`.
pub fn run(descriptor: Option<&OsStr>) -> ExitCode {
    let number = descriptor.and_then(OsStr::to_str).and_then(|text| text.parse::<RawFd>().ok());
    let Some(number) = number.filter(|number| *number > 2) else {
        log!("a session is for the agent to start");
        return ExitCode::from(2);
    };
    // SAFETY: the starter has left this descriptor open for us, and nothing else in this program has it.
    #[expect(unsafe_code, reason = "an inherited descriptor has no owner yet")]
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    match serve(&socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log!("session: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(socket: &OwnedFd) -> io::Result<()> {
    rustix::io::fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    ignore_requests_to_end();
    send(socket, &[HELLO], SendFlags::NOSIGNAL)?;
    let Some([file, input, output, errors]) = receive_descriptors(socket)? else { return Ok(()) };
    let request = read_request(file)?;
    let terminal = request.terminal;
    let mut program = request.into_program();
    complete_environment(&mut program);
    // Kept for what there is to say in the program's place, and closed before the wait: a reader waits for its end.
    let complaints = errors.try_clone()?;
    let status = match start(&program, terminal, [input, output, errors], socket) {
        Ok(mut child) => {
            drop(complaints);
            child.wait()?
        }
        Err(failure) => {
            let _ = File::from(complaints).write_all(failure.message.as_bytes());
            // As wait(2) has it: the exit status is the second byte.
            ExitStatus::from_raw(i32::try_from(failure.status << 8).unwrap_or(1 << 8))
        }
    };
    let mut message = [ENDED, 0, 0, 0, 0];
    message[1..].copy_from_slice(&status.into_raw().to_ne_bytes());
    // Without a reader, nobody wants to know.
    let _ = send(socket, &message, SendFlags::NOSIGNAL);
    Ok(())
}

/// Whoever ends a session ends its program, too: that is what this process waits for, to say how it came.
#[expect(unsafe_code, reason = "no safe wrapper sets a disposition")]
fn ignore_requests_to_end() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: SIG_IGN is no address of a handler. The program gets the defaults back (`begin_session`).
        unsafe {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
}

/// Receives the request's file and the streams; `None` when the agent has gone.
fn receive_descriptors(socket: &OwnedFd) -> io::Result<Option<[OwnedFd; 4]>> {
    let mut kind = [0u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut kind)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let rights = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights.collect::<Vec<_>>()),
        _ => None,
    });
    let descriptors = rights.unwrap_or_default().try_into();
    descriptors.map(Some).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the agent sent no streams"))
}

fn read_request(file: OwnedFd) -> io::Result<Request> {
    let mut file = File::from(file);
    // The position is the writer's: both ends share it.
    file.rewind()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// Adds what PAM has set, as far as the session does not have it already.
fn complete_environment(program: &mut Program) {
    for (name, value) in std::env::vars_os() {
        program.environment.set_if_missing(name, value);
    }
}

fn start(
    program: &Program,
    terminal: bool,
    streams: [OwnedFd; 3],
    socket: &OwnedFd,
) -> Result<std::process::Child, Failure> {
    let mut command = program.command();
    let [input, output, errors] = streams.map(Stdio::from);
    command.stdin(input).stdout(output).stderr(errors);
    let identity = Identity::own(&program.directory);
    let socket = socket.as_fd().try_clone_to_owned();
    let socket = socket.map_err(|error| Failure::new(&format!("no socket: {error}")))?;
    #[expect(
        unsafe_code,
        reason = "the kernel names the sender of a message: that has to be the program itself"
    )]
    // SAFETY: the closure makes system calls only, on memory that was allocated before the fork.
    unsafe {
        command.pre_exec(move || {
            begin_session(terminal)?;
            send(&socket, &[STARTED], SendFlags::NOSIGNAL)?;
            identity.assume()
        });
    }
    command.spawn().map_err(|error| Failure::of_start(&program.path, &error))
}
