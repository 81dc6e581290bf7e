//! The daemon's HTTP API: routes and their typed client over a unix socket.
