//! Networks of VMs: address plans and the programs that carry them.

mod passt;
mod plan;

pub use passt::Passt;
pub use plan::{AddressPlan, USER_NETWORK};
