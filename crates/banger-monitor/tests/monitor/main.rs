//! The real monitor with a VMM that is none: the test program itself, started by the monitor, plays
//! VMM and guest (see `fake_vmm`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod console;
mod datagrams;
mod ends;
mod fake_vmm;
mod idle;
mod isolation;
mod life;
mod reboot;
mod requests;
mod streams;
mod support;
