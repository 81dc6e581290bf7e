//! One stream as one side sees it.

use std::fmt;

/// Bytes that either side of a stream may have under way.
pub const WINDOW: usize = 256 << 10;

/// Credit is given back in pieces of at least this many bytes.
const CREDIT_BATCH: usize = WINDOW / 4;

/// Names a stream. The host chooses; a host's [`crate::Endpoint`] never uses one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    pub(crate) fn from_wire(number: u32) -> Self {
        Self(number)
    }

    pub(crate) fn wire(self) -> u32 {
        self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// State of a stream that is not gone.
#[derive(Debug)]
pub(crate) struct Stream {
    /// OPENED was sent or received.
    pub(crate) opened: bool,
    /// We sent FINISH.
    pub(crate) finish_sent: bool,
    /// We received FINISH.
    pub(crate) finish_received: bool,
    /// Bytes that we may still send.
    send_credit: usize,
    /// Bytes that the peer may still send.
    receive_credit: usize,
    /// Bytes that our reader has passed on and that the peer has not heard of.
    unreported: usize,
}

impl Stream {
    pub(crate) fn new() -> Self {
        Self {
            opened: false,
            finish_sent: false,
            finish_received: false,
            send_credit: WINDOW,
            receive_credit: WINDOW,
            unreported: 0,
        }
    }

    /// Returns how many bytes may be sent now.
    pub(crate) fn send_capacity(&self) -> usize {
        if self.opened && !self.finish_sent { self.send_credit } else { 0 }
    }

    /// Takes credit for `bytes` that are sent.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.send_credit = self.send_credit.saturating_sub(bytes);
    }

    /// Adds credit from the peer; returns false when it is more than the window.
    pub(crate) fn credited(&mut self, bytes: usize) -> bool {
        self.send_credit = self.send_credit.saturating_add(bytes);
        self.send_credit <= WINDOW
    }

    /// Accounts for received bytes; returns false when there was no credit for them.
    pub(crate) fn received(&mut self, bytes: usize) -> bool {
        match self.receive_credit.checked_sub(bytes) {
            Some(left) => {
                self.receive_credit = left;
                true
            }
            None => false,
        }
    }

    /// Accounts for bytes that the reader passed on; returns the credit to send now, if any.
    pub(crate) fn consumed(&mut self, bytes: usize) -> Option<u32> {
        // A driver that counts twice must not give more credit than there is window.
        let held = WINDOW - self.receive_credit - self.unreported;
        self.unreported += bytes.min(held);
        if self.unreported < CREDIT_BATCH || self.finish_received {
            return None;
        }
        let credit = std::mem::take(&mut self.unreported);
        self.receive_credit += credit;
        u32::try_from(credit).ok()
    }

    /// Whether neither side has anything more to say.
    pub(crate) fn is_over(&self) -> bool {
        self.finish_sent && self.finish_received
    }
}
