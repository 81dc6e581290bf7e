//! The daemon and its monitors with fake VMMs: everything is real but the machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod boots;
mod cancels;
mod catalog;
mod console;
mod contention;
mod debian;
mod disk;
mod dockerfile;
mod edits;
mod ends;
mod engines;
mod events;
mod faults;
mod forwards;
mod host;
mod hosted;
mod hostile;
mod input;
mod installs;
mod interrupted;
mod kernels;
mod life;
mod load;
mod nat;
mod operations;
mod ports;
mod register;
mod registry;
mod schema;
mod space;
mod state;
mod stats;
mod support;
mod web;
mod web_attacks;
mod web_browser;
