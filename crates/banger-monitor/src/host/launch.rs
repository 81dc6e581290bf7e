//! The programs of a launch, started together.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use banger_types::monitor::{ChannelSource, LaunchSpec, Program};

use super::keyboard::Keyboard;
use super::process::{Process, Streams};

/// Largest number under which a program can find a descriptor. Few programs need more than three.
pub(super) const LARGEST_NUMBER: i32 = 255;

/// Why the programs of a launch could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("the program '{name}' has the path '{path}', which is not absolute")]
    RelativePath { name: String, path: String },
    #[error(
        "the program '{name}' wants a descriptor as number {number}; 3 to {LARGEST_NUMBER} are possible, each once"
    )]
    Number { name: String, number: i32 },
    #[error("the pair '{pair}' has {users} users, not two")]
    Pair { pair: String, users: usize },
    #[error("cannot make the socket pair '{pair}'")]
    MakePair {
        pair: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot give the programs their standard streams")]
    Streams {
        #[source]
        source: io::Error,
    },
    #[error("cannot remove what is in the place of the VMM's socket {path}", path = path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot start '{name}' ({path})")]
    Start {
        name: String,
        path: String,
        #[source]
        source: io::Error,
    },
}

/// The ends of the launch's socket pairs that nobody has taken yet.
#[derive(Debug)]
pub(crate) struct Pairs(BTreeMap<String, Vec<UnixStream>>);

impl Pairs {
    /// Checks the launch and makes its pairs.
    pub(crate) fn new(spec: &LaunchSpec) -> Result<Self, LaunchError> {
        let mut users: BTreeMap<&str, usize> = BTreeMap::new();
        for program in spec.helpers.iter().chain([&spec.vmm]) {
            check(program)?;
            for descriptor in &program.descriptors {
                *users.entry(&descriptor.pair).or_default() += 1;
            }
        }
        if let ChannelSource::Pair(pair) = &spec.channel {
            *users.entry(pair).or_default() += 1;
        }
        let mut pairs = BTreeMap::new();
        for (pair, users) in users {
            if users != 2 {
                return Err(LaunchError::Pair { pair: pair.to_owned(), users });
            }
            let (one, other) = UnixStream::pair()
                .map_err(|source| LaunchError::MakePair { pair: pair.to_owned(), source })?;
            pairs.insert(pair.to_owned(), vec![one, other]);
        }
        Ok(Self(pairs))
    }

    /// Takes one end.
    pub(crate) fn take(&mut self, pair: &str) -> Option<UnixStream> {
        self.0.get_mut(pair).and_then(Vec::pop)
    }
}

fn check(program: &Program) -> Result<(), LaunchError> {
    if !program.path.is_absolute() {
        let path = program.path.display().to_string();
        return Err(LaunchError::RelativePath { name: program.name.clone(), path });
    }
    for (index, descriptor) in program.descriptors.iter().enumerate() {
        let number = descriptor.number;
        let again = program.descriptors[..index].iter().any(|other| other.number == number);
        if again || !(3..=LARGEST_NUMBER).contains(&number) {
            return Err(LaunchError::Number { name: program.name.clone(), number });
        }
    }
    Ok(())
}

/// The programs that a monitor owns.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) helpers: Vec<Process>,
    pub(crate) vmm: Process,
}

impl Programs {
    /// Returns all of them, the VMM last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.helpers.iter().chain([&self.vmm])
    }
}

/// What a start of the VM's programs has made.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) programs: Programs,
    /// The monitor's end of the control channel, if the VMM has inherited the other.
    pub(crate) channel: Option<UnixStream>,
    /// What is typed on the guest's serial console.
    pub(crate) keyboard: Keyboard,
}

/// Starts the helpers and the VMM. The VMM prints the guest's serial console to `console`; everything else goes to `errors`.
pub(crate) fn launch(spec: &LaunchSpec, console: OwnedFd, errors: OwnedFd) -> Result<Launched, LaunchError> {
    let mut pairs = Pairs::new(spec)?;
    let channel = match &spec.channel {
        ChannelSource::Pair(pair) => pairs.take(pair),
        ChannelSource::Dial(_) => None,
    };
    let failed = |source: io::Error| LaunchError::Streams { source };
    let another = |descriptor: &OwnedFd| descriptor.try_clone().map_err(failed);
    for socket in &spec.sockets {
        match fs_err::remove_file(socket) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(LaunchError::Socket { path: socket.clone(), source });
            }
            _ => {}
        }
    }
    let mut helpers = Vec::with_capacity(spec.helpers.len());
    for helper in &spec.helpers {
        let streams = Streams { input: Stdio::null(), output: another(&errors)?, errors: another(&errors)? };
        helpers.push(Process::start(helper, &mut pairs, streams, None)?);
    }
    let (keyboard, input) = Keyboard::new().map_err(failed)?;
    let streams = Streams { input: input.into(), output: console, errors };
    let vmm = Process::start(&spec.vmm, &mut pairs, streams, spec.control_group.clone())?;
    Ok(Launched { programs: Programs { helpers, vmm }, channel, keyboard })
}
