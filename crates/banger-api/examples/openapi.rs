//! Prints the API's description, made anew: `cargo xtask openapi` puts it where it is kept.
#![expect(clippy::print_stdout, reason = "a program that speaks to whoever runs it")]

fn main() {
    println!("{:#}", banger_api::description::description());
}
