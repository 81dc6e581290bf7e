//! Networks of VMs: address plans and the programs that carry them.

mod filter;
mod passt;
mod plan;
mod tap;

pub use banger_names::CONFIGURATION as RESOLVER_CONFIGURATION;
pub use filter::{
    FilterOptions, HostRoutes, Names, Question, Reach, Rules, Verdict, deliver, may_come, pass_frames,
    pass_packets, write_frame,
};
pub use passt::{FILTER_GUEST_DESCRIPTOR, FILTER_WORLD_DESCRIPTOR, Passt};
pub use plan::{AddressPlan, PlanV6, USER_NETWORK};
pub use tap::{
    TAP, TAP_CHECK, enter_namespaces, make_tap, packet_socket, receive_descriptor, send_descriptor,
};
