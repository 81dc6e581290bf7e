//! The daemon's HTTP API: its routes, and a typed client over the daemon's unix socket.
//!
//! Bodies are JSON. A request that begins long work answers 202 with an
//! [`Operation`](banger_types::operation::Operation), its address in `Location`; a failure answers
//! with an [`ApiError`](banger_types::ApiError). What changes is told by server-sent events.

mod client;
mod connect;
mod events;
pub mod request;
pub mod route;

pub use client::{Chunks, Client, ClientError};
pub use connect::{connect, connect_path};
pub use events::{Events, Watch};
