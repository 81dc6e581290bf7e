//! The programs of a launch, started together.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use banger_types::monitor::{ChannelSource, LaunchSpec};

use super::process::{LaunchError, Pairs, Process};

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
}

/// Starts the helpers and the VMM. The VMM prints the guest's console to `console`; everything else goes to `errors`.
pub(crate) fn launch(spec: &LaunchSpec, console: OwnedFd, errors: OwnedFd) -> Result<Launched, LaunchError> {
    let mut pairs = Pairs::new(spec)?;
    let channel = match &spec.channel {
        ChannelSource::Pair(pair) => pairs.take(pair),
        ChannelSource::Dial(_) => None,
    };
    let another = |descriptor: &OwnedFd| -> Result<OwnedFd, LaunchError> {
        descriptor.try_clone().map_err(|source: io::Error| LaunchError::Logs { source })
    };
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
        helpers.push(Process::start(helper, &mut pairs, another(&errors)?, another(&errors)?)?);
    }
    let vmm = Process::start(&spec.vmm, &mut pairs, console, errors)?;
    Ok(Launched { programs: Programs { helpers, vmm }, channel })
}
