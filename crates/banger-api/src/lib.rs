//! The daemon's HTTP API: its routes, and a typed client over the daemon's unix socket.
//!
//! Bodies are JSON. A request that begins long work answers 202 with an
//! [`Operation`](banger_types::operation::Operation), its address in `Location`; a failure answers
//! with a [`Problem`](banger_types::problem::Problem). What changes is told by server-sent events.

mod client;
mod connect;
mod console;
#[cfg(feature = "schema")]
pub mod description;
pub mod endpoint;
mod events;
pub mod request;
pub mod route;

/// The API's description (OpenAPI 3.1), as the daemon serves it.
pub const OPENAPI: &str = include_str!("../openapi.json");

pub use client::{Chunks, Client, ClientError};
pub use connect::{connect, connect_path};
pub use events::{Events, Watch};
