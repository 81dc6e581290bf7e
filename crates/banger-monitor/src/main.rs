//! The small process that owns one VM: its VMM, console, exit status, forwards and control socket.

fn main() {}
