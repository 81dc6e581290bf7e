//! Real virtual machines for developers, in about the time a container takes.

fn main() {}
