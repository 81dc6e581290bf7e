//! What the VMM is asked on a socket of its own.

use std::io::{self, Read as _, Write as _};

use banger_types::monitor::{SocketQuestion, SocketRequest};
use mio::net::UnixStream;

/// Most bytes of an answer that are looked at.
const ANSWER_LIMIT: usize = 16 << 10;

/// Connects to the VMM and writes the request. The connection has to be kept until it is done: a VMM may forget what
/// was asked by a client that has gone.
pub(crate) fn tell(request: &SocketRequest) -> io::Result<UnixStream> {
    let mut vmm = UnixStream::connect(&request.socket)?;
    vmm.write_all(request.request.as_bytes())?;
    Ok(vmm)
}

/// A question that was asked.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) vmm: UnixStream,
    pub(crate) readable: bool,
    terms: SocketQuestion,
    answer: String,
    /// No more will come.
    pub(crate) closed: bool,
}

impl Question {
    pub(crate) fn ask(terms: &SocketQuestion) -> io::Result<Self> {
        Ok(Self {
            vmm: tell(&terms.ask)?,
            readable: false,
            terms: terms.clone(),
            answer: String::new(),
            closed: false,
        })
    }

    /// Returns what the VMM has answered, once it is clear.
    pub(crate) fn answer(&mut self, buffer: &mut [u8]) -> Option<bool> {
        while std::mem::take(&mut self.readable) && self.answer.len() < ANSWER_LIMIT {
            match self.vmm.read(buffer) {
                Ok(count) if count > 0 => {
                    self.readable = true;
                    let text = buffer[..count].iter().filter(|byte| byte.is_ascii_graphic());
                    self.answer.extend(text.map(|byte| char::from(*byte)));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => self.readable = true,
                // What there is has been read.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => self.closed = true,
            }
        }
        let says = |texts: &[String]| texts.iter().any(|text| self.answer.contains(text.as_str()));
        says(&self.terms.yes).then_some(true).or_else(|| says(&self.terms.no).then_some(false))
    }
}
