//! The control channel between host and guest: streams multiplexed over one byte stream; a pure state machine.
