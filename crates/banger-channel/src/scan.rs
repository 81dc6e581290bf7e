//! Looking for one frame in bytes that may be anything.

use crate::frame::{ACKNOWLEDGE_FRAME, Decoded, Frame, HEADER, HELLO_FRAME, Kind, SESSION, decode, encode};

/// What is looked for.
#[derive(Debug, Clone)]
enum Wanted {
    /// Any HELLO.
    Hello,
    /// Exactly these bytes.
    Acknowledge([u8; ACKNOWLEDGE_FRAME]),
}

/// The last bytes seen, as many as the wanted frame has.
#[derive(Debug)]
pub(crate) struct Scan {
    wanted: Wanted,
    window: Vec<u8>,
}

impl Scan {
    /// Looks for any HELLO.
    pub(crate) fn for_hello() -> Self {
        Self { wanted: Wanted::Hello, window: Vec::with_capacity(HELLO_FRAME) }
    }

    /// Looks for the `HELLO_ACK` of `session`.
    pub(crate) fn for_acknowledge(session: &[u8; SESSION]) -> Self {
        let mut bytes = Vec::with_capacity(ACKNOWLEDGE_FRAME);
        encode(&mut bytes, Kind::Acknowledge, 0, session);
        let mut exact = [0; ACKNOWLEDGE_FRAME];
        exact.copy_from_slice(&bytes);
        Self { wanted: Wanted::Acknowledge(exact), window: Vec::with_capacity(ACKNOWLEDGE_FRAME) }
    }

    /// Looks at `bytes` and returns how many of them end with the wanted frame, if they have it.
    pub(crate) fn look(&mut self, bytes: &[u8]) -> Option<usize> {
        let length = match self.wanted {
            Wanted::Hello => HELLO_FRAME,
            Wanted::Acknowledge(_) => ACKNOWLEDGE_FRAME,
        };
        bytes.iter().enumerate().find_map(|(index, byte)| {
            if self.window.len() == length {
                self.window.remove(0);
            }
            self.window.push(*byte);
            self.found().then_some(index + 1)
        })
    }

    /// Returns the frame that was found last.
    pub(crate) fn frame(&self) -> Option<Frame<'_>> {
        match decode(&self.window) {
            Ok(Decoded::Frame(frame, _)) => Some(frame),
            _ => None,
        }
    }

    fn found(&self) -> bool {
        match &self.wanted {
            Wanted::Hello => {
                let mut header = [0; HEADER];
                header[0] = Kind::Hello as u8;
                #[expect(clippy::cast_possible_truncation, reason = "a HELLO has 20 bytes of payload")]
                {
                    header[2] = (HELLO_FRAME - HEADER - 1) as u8;
                }
                self.window.len() == HELLO_FRAME && self.window.starts_with(&header) && self.frame().is_some()
            }
            Wanted::Acknowledge(exact) => self.window == exact,
        }
    }
}
