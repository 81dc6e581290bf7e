//! The control channel between host and guest: streams multiplexed over one byte stream; a pure state machine.
//!
//! [`Endpoint`] does no I/O. A driver reads bytes from wherever they come (a virtio-serial port, a
//! vsock connection, a socket pair), hands them to [`Endpoint::receive`], takes the [`Event`]s, and
//! writes what [`Endpoint::output`] holds. The byte stream has to be reliable and ordered; it need
//! not have a beginning: either side's program may be replaced in the middle of a frame.
//!
//! # Frames
//!
//! | bytes | field |
//! |---|---|
//! | 1 | kind |
//! | 1 | reserved, 0 |
//! | 2 | length of the payload, little-endian, at most [`MAX_PAYLOAD`] |
//! | 4 | stream, little-endian; 0 where there is none |
//! | length | payload |
//! | 1 | end mark, never 0 |
//!
//! A NUL between frames is no frame and means nothing.
//!
//! | kind | from | payload |
//! |---|---|---|
//! | HELLO | guest | version (4, little-endian), session (16) |
//! | `HELLO_ACK` | host | session (16) |
//! | OPEN | host | service, UTF-8, at most [`MAX_TEXT`] bytes |
//! | OPENED | guest | none |
//! | REFUSED | guest | reason, UTF-8, at most [`MAX_TEXT`] bytes |
//! | DATA | both | 1 to [`MAX_PAYLOAD`] bytes |
//! | CREDIT | both | how many more bytes may be sent (4, little-endian) |
//! | FINISH | both | none; the sender sends no more data |
//! | RESET | both | none; the stream is gone, both ways |
//!
//! # Flow control
//!
//! Each side of each stream may send [`WINDOW`] bytes before it hears of credit; so one stream whose
//! reader stands still costs its peer at most that much memory and never holds up the others.
//!
//! # Connecting, and connecting again
//!
//! A guest's program begins with as many NULs as the longest frame has bytes after its first, and
//! then HELLO with a session that it drew at random. If a predecessor died in the middle of a
//! frame, the NULs fill that frame up, *including its end mark*: the host sees a frame that nobody
//! finished, drops it whole and knows that its sender is gone. On HELLO the host forgets all
//! streams and all output and answers `HELLO_ACK` with the session. The guest ignores every byte
//! until it has seen exactly that frame; what was on its way to its predecessor cannot contain it.
//! A host that is not connected likewise ignores everything that is not a HELLO.
//!
//! The numbers of streams only grow, across the guest's sessions and the host's endpoints too
//! ([`Endpoint::host_after`]): what is left of an old stream never meets a new one of its number.

mod backlog;
mod datagram;
mod endpoint;
mod error;
mod frame;
mod scan;
mod stream;

pub use backlog::Backlog;
pub use datagram::{Datagrams, Framed, LONGEST_DATAGRAM};
pub use endpoint::{Endpoint, Event, NotConnected};
pub use error::ProtocolError;
pub use frame::{MAX_PAYLOAD, MAX_TEXT, VERSION};
pub use stream::{StreamId, WINDOW};

/// Most streams that are open at the same time.
pub const MAX_STREAMS: usize = 1024;
