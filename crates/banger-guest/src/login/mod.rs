//! Login sessions: PAM's, and so logind's, with `XDG_RUNTIME_DIR` and the user's own systemd.
//!
//! A static binary can load no PAM modules, so the image's runuser(1) opens the session. It starts what it takes for the
//! user's shell: this program again, as `banger-guest session`. To that the agent hands the streams and the program:
//!
//! ```text
//! agent ──▶ runuser -l -s banger-guest -- USER session FD   (root; opens the session, and closes it at the end)
//!   ▲            └─▶ banger-guest session FD                (the user, in the session's scope, with PAM's variables)
//!   └── socket ──────┘    └─▶ the program                   (in a process session of its own, on the streams)
//! ```
//!
//! Why not let runuser start the program itself: of a program's end by a signal it reports only a number, it prints what
//! it thinks of that on the program's terminal, and it stops when its child is stopped. This way it has
//! neither the program's streams nor its process group, and the program cannot tell that it is there. The other ways were
//! systemd-run(1) with `PAMName=`, which puts systemd between the streams and needs a unit for each session, and
//! logind's `CreateSession` over D-Bus, which is no PAM and so without limits.conf(5) and the image's other modules.
//!
//! The socket keeps messages apart (`SOCK_SEQPACKET`); the first byte says which it is:
//!
//! | from | first byte | what follows |
//! |---|---|---|
//! | session | [`HELLO`] | nothing: the session is open |
//! | agent | [`START`] | descriptors: the [`Request`] in a memory file, input, output, errors |
//! | program to be | [`STARTED`] | nothing, but the kernel says who sent it |
//! | session | [`ENDED`] | the status as wait(2) has it, 4 bytes |

mod logind;
mod opener;
mod running;
mod session;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use banger_types::bytes::ByteString;
use serde::{Deserialize, Serialize};

pub(crate) use self::opener::Logins;
pub use self::opener::Opener;
pub(crate) use self::running::Process;
pub use self::session::run;
use crate::process::{Directory, Program};
use crate::user::Environment;

const HELLO: u8 = b'h';
const START: u8 = b's';
const STARTED: u8 = b'p';
const ENDED: u8 = b'e';

/// The program to start, as it travels.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    path: ByteString,
    name: Option<ByteString>,
    arguments: Vec<ByteString>,
    environment: Vec<(ByteString, ByteString)>,
    directories: Vec<ByteString>,
    exactly: bool,
    terminal: bool,
}

impl Request {
    fn new(program: &Program, terminal: bool) -> Self {
        let bytes = |text: &OsString| ByteString(text.as_bytes().to_vec());
        let (paths, exactly) = match &program.directory {
            Directory::Exactly(path) => (std::slice::from_ref(path), true),
            Directory::FirstOf(paths) => (paths.as_slice(), false),
        };
        Self {
            path: bytes(&program.path),
            name: program.name.as_ref().map(bytes),
            arguments: program.arguments.iter().map(bytes).collect(),
            environment: program
                .environment
                .iter()
                .map(|(name, value)| (bytes(name), bytes(value)))
                .collect(),
            directories: paths.iter().map(|path| ByteString(path.as_os_str().as_bytes().to_vec())).collect(),
            exactly,
            terminal,
        }
    }

    fn into_program(self) -> Program {
        let text = |bytes: ByteString| OsString::from_vec(bytes.0);
        let mut environment = Environment::default();
        for (name, value) in self.environment {
            environment.set_bytes(name.0, value.0);
        }
        let mut paths = self.directories.into_iter().map(|path| PathBuf::from(text(path)));
        let directory = match paths.next() {
            Some(path) if self.exactly => Directory::Exactly(path),
            first => Directory::FirstOf(first.into_iter().chain(paths).collect()),
        };
        Program {
            path: text(self.path),
            name: self.name.map(text),
            arguments: self.arguments.into_iter().map(text).collect(),
            environment,
            directory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_survives_the_way_byte_by_byte() {
        let mut environment = Environment::default();
        environment.set_bytes(b"A".to_vec(), vec![0xff, b'\n']);
        for directory in [
            Directory::Exactly("/a".into()),
            Directory::FirstOf(vec!["/a".into(), "/b".into()]),
            Directory::FirstOf(vec![]),
        ] {
            let program = Program {
                path: "/bin/sh".into(),
                name: Some("-sh".into()),
                arguments: vec![OsString::from_vec(vec![0xfe]), OsString::new()],
                environment: environment.clone(),
                directory,
            };
            let text = serde_json::to_vec(&Request::new(&program, true)).unwrap();
            let request: Request = serde_json::from_slice(&text).unwrap();
            assert!(request.terminal);
            assert_eq!(request.into_program(), program);
        }
    }
}
