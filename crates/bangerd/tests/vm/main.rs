//! Real VMs, driven as a user does: by `banger`, against a daemon of the test's own.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attacks;
mod console;
mod dockerfile;
mod durability;
mod ends;
mod first;
mod growth;
mod guest;
mod hosted;
mod images;
mod isolation;
mod kvm;
mod lifecycle;
mod login;
mod names;
mod nat;
mod nat_firewalls;
mod network;
mod openssh;
mod ports;
mod pulled;
mod registered;
mod run;
mod scopes;
mod service;
mod session;
mod space;
mod stats;
mod survival;
mod two_users;
mod verbs;
