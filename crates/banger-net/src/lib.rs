//! Networks of VMs: address plans and the programs that carry them.

mod filter;
mod passt;
mod plan;

pub use filter::pass_frames;
pub use passt::{FILTER_GUEST_DESCRIPTOR, FILTER_WORLD_DESCRIPTOR, Passt};
pub use plan::{AddressPlan, USER_NETWORK};
