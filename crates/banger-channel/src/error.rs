//! What a peer can do wrong.

use crate::stream::StreamId;

/// The peer broke the protocol. Nothing that it sends afterwards can be trusted to be in step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A frame begins with a kind that does not exist.
    #[error("there is no frame of kind {0}")]
    UnknownKind(u8),
    /// A frame's header or payload is not what its kind asks for.
    #[error("a {0} frame is malformed")]
    Malformed(&'static str),
    /// A frame that may not come from this side, or not now.
    #[error("a {0} frame came where none may come")]
    Unexpected(&'static str),
    /// A frame names a stream that was never opened.
    #[error("a {kind} frame names stream {stream}, which was never opened")]
    UnknownStream {
        /// The frame.
        kind: &'static str,
        /// The stream.
        stream: StreamId,
    },
    /// More data than credit was given for.
    #[error("stream {0} got more data than it gave credit for")]
    CreditOverrun(StreamId),
    /// More credit than there is window.
    #[error("stream {0} was given more credit than its window holds")]
    CreditOverflow(StreamId),
    /// More streams than [`crate::MAX_STREAMS`].
    #[error("more than {limit} streams were opened", limit = crate::MAX_STREAMS)]
    TooManyStreams,
    /// The guest speaks another version of the channel's protocol.
    #[error("the guest speaks version {0} of the channel protocol, this host version {version}", version = crate::VERSION)]
    UnsupportedVersion(u32),
}
