//! The real helper, as root, on a host of its own: in namespaces of network and mounts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod firewalls;
mod host;
mod jail;
mod killed;
mod requests;
mod traffic;
