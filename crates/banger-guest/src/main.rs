//! Init, agent and SSH server of a banger guest: one static binary, put beside the image, not in it.

fn main() {}
