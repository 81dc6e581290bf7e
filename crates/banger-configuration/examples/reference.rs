//! Prints the reference of what can be set, for `cargo xtask reference`.

#![expect(clippy::print_stdout, reason = "that is what it is for")]

fn main() {
    print!("{}", banger_configuration::reference());
}
