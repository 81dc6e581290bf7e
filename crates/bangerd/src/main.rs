//! The daemon that owns a user's virtual machines and their images.

fn main() {}
