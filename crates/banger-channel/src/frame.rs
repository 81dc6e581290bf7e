//! Frames and their bytes.

use crate::error::ProtocolError;
use crate::stream::StreamId;

/// Version of the channel's protocol.
pub const VERSION: u32 = 1;
/// Longest payload of a frame, bytes.
pub const MAX_PAYLOAD: usize = 16 << 10;
/// Longest service name or reason, bytes.
pub const MAX_TEXT: usize = 256;

/// Bytes before the payload.
pub(crate) const HEADER: usize = 8;
/// The byte after the payload. A frame that ends with NUL instead was cut off by its sender's end
/// and filled up by the padding of its successor.
pub(crate) const END_MARK: u8 = 0x7e;
/// NULs that complete any frame of which at least one byte was sent.
pub(crate) const PADDING: usize = HEADER + MAX_PAYLOAD;
/// Length of a session's name, bytes.
pub(crate) const SESSION: usize = 16;
/// Length of a whole HELLO frame, bytes.
pub(crate) const HELLO_FRAME: usize = HEADER + 4 + SESSION + 1;
/// Length of a whole `HELLO_ACK` frame, bytes.
pub(crate) const ACKNOWLEDGE_FRAME: usize = HEADER + SESSION + 1;

/// What a frame is. The numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 1,
    Acknowledge = 2,
    Open = 3,
    Opened = 4,
    Refused = 5,
    Data = 6,
    Credit = 7,
    Finish = 8,
    Reset = 9,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Hello,
        Self::Acknowledge,
        Self::Open,
        Self::Opened,
        Self::Refused,
        Self::Data,
        Self::Credit,
        Self::Finish,
        Self::Reset,
    ];

    fn from_wire(byte: u8) -> Result<Self, ProtocolError> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte).ok_or(ProtocolError::UnknownKind(byte))
    }

    /// Returns the name that errors use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Acknowledge => "HELLO_ACK",
            Self::Open => "OPEN",
            Self::Opened => "OPENED",
            Self::Refused => "REFUSED",
            Self::Data => "DATA",
            Self::Credit => "CREDIT",
            Self::Finish => "FINISH",
            Self::Reset => "RESET",
        }
    }
}

/// A whole frame, still in the reader's buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) stream: StreamId,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    /// Fails unless the payload is empty.
    pub(crate) fn empty(&self) -> Result<(), ProtocolError> {
        if self.payload.is_empty() { Ok(()) } else { Err(self.malformed()) }
    }

    /// Returns the payload as a service or a reason.
    pub(crate) fn text(&self) -> Result<String, ProtocolError> {
        if self.payload.len() > MAX_TEXT {
            return Err(self.malformed());
        }
        std::str::from_utf8(self.payload).map(str::to_owned).map_err(|_| self.malformed())
    }

    /// Returns the payload as a number.
    pub(crate) fn number(&self) -> Result<u32, ProtocolError> {
        self.payload.try_into().map(u32::from_le_bytes).map_err(|_| self.malformed())
    }

    /// Returns version and session of a HELLO.
    pub(crate) fn hello(&self) -> Result<(u32, [u8; SESSION]), ProtocolError> {
        let (version, session) = self.payload.split_first_chunk().ok_or_else(|| self.malformed())?;
        let session = session.try_into().map_err(|_| self.malformed())?;
        Ok((u32::from_le_bytes(*version), session))
    }

    pub(crate) fn malformed(&self) -> ProtocolError {
        ProtocolError::Malformed(self.kind.name())
    }

    pub(crate) fn unexpected(&self) -> ProtocolError {
        ProtocolError::Unexpected(self.kind.name())
    }
}

/// What the beginning of a buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded<'a> {
    /// NULs between frames, this many.
    Padding(usize),
    /// The beginning of a frame, or nothing.
    Incomplete,
    /// A frame of this many bytes that its sender never finished.
    Abandoned(usize),
    /// A frame of this many bytes.
    Frame(Frame<'a>, usize),
}

/// Takes one frame from the beginning of `bytes`.
pub(crate) fn decode(bytes: &[u8]) -> Result<Decoded<'_>, ProtocolError> {
    let padding = bytes.iter().take_while(|byte| **byte == 0).count();
    if padding > 0 {
        return Ok(Decoded::Padding(padding));
    }
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        // A wrong first byte is told at once, not when a whole header has come.
        return match bytes.first() {
            Some(kind) => Kind::from_wire(*kind).map(|_| Decoded::Incomplete),
            None => Ok(Decoded::Incomplete),
        };
    };
    let [kind, reserved, length_low, length_high, stream @ ..] = *header;
    let kind = Kind::from_wire(kind)?;
    let length = usize::from(u16::from_le_bytes([length_low, length_high]));
    if reserved != 0 || length > MAX_PAYLOAD {
        return Err(ProtocolError::Malformed(kind.name()));
    }
    let Some(end_mark) = rest.get(length) else { return Ok(Decoded::Incomplete) };
    let whole = HEADER + length + 1;
    match *end_mark {
        END_MARK => {
            let stream = StreamId::from_wire(u32::from_le_bytes(stream));
            Ok(Decoded::Frame(Frame { kind, stream, payload: &rest[..length] }, whole))
        }
        0 => Ok(Decoded::Abandoned(whole)),
        _ => Err(ProtocolError::Malformed(kind.name())),
    }
}

/// Appends a frame to `output`. The payload is cut at [`MAX_PAYLOAD`].
pub(crate) fn encode(output: &mut Vec<u8>, kind: Kind, stream: u32, payload: &[u8]) {
    let payload = &payload[..payload.len().min(MAX_PAYLOAD)];
    #[expect(clippy::cast_possible_truncation, reason = "MAX_PAYLOAD is less than 2^16")]
    let length = payload.len() as u16;
    output.reserve(HEADER + payload.len() + 1);
    output.extend_from_slice(&[kind as u8, 0]);
    output.extend_from_slice(&length.to_le_bytes());
    output.extend_from_slice(&stream.to_le_bytes());
    output.extend_from_slice(payload);
    output.push(END_MARK);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_back() {
        for kind in Kind::ALL {
            let mut bytes = Vec::new();
            encode(&mut bytes, kind, 7, b"abc");
            let frame = Frame { kind, stream: StreamId::from_wire(7), payload: b"abc" };
            assert_eq!(decode(&bytes), Ok(Decoded::Frame(frame, bytes.len())));
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), Ok(Decoded::Incomplete));
            }
        }
    }

    #[test]
    fn padding_abandons_any_half_frame() {
        let mut whole = Vec::new();
        encode(&mut whole, Kind::Data, 0x0102_0304, &[0xff; MAX_PAYLOAD]);
        for cut in 1..whole.len() {
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(cut + PADDING, 0);
            let Ok(Decoded::Abandoned(length)) = decode(&bytes) else { panic!("cut at {cut}") };
            assert!(bytes[length..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn headers_out_of_bounds_are_errors() {
        assert_eq!(decode(&[10]), Err(ProtocolError::UnknownKind(10)));
        assert_eq!(decode(&[6, 1, 0, 0, 0, 0, 0, 0]), Err(ProtocolError::Malformed("DATA")));
        assert_eq!(decode(&[6, 0, 1, 0x40, 0, 0, 0, 0]), Err(ProtocolError::Malformed("DATA")));
        assert_eq!(decode(&[8, 0, 0, 0, 0, 0, 0, 0, 1]), Err(ProtocolError::Malformed("FINISH")));
    }
}
