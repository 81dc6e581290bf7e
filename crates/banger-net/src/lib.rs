//! Networks of VMs: address plans and the programs that carry them.

mod filter;
mod passt;
mod plan;
mod tap;

pub use filter::{deliver, pass_frames, pass_packets};
pub use passt::{FILTER_GUEST_DESCRIPTOR, FILTER_WORLD_DESCRIPTOR, Passt};
pub use plan::{AddressPlan, USER_NETWORK};
pub use tap::{
    TAP, TAP_CHECK, enter_namespaces, make_tap, packet_socket, receive_descriptor, send_descriptor,
};
