//! What stands between a guest and the network that its host's user has.
//!
//! ```text
//!   guest ──frames──▶ rules ──▶ world        routes: what the host's kernel says of an address
//!     ▲                  └─────▶ names       names: the host's name servers of the moment
//!     └──────────────────frames──────────────────┘
//! ```

mod frames;
mod names;
mod options;
mod routes;
mod rules;

pub use frames::{deliver, pass_frames, pass_packets, write_frame};
pub use names::{Names, Question};
pub use options::FilterOptions;
pub use routes::HostRoutes;
pub use rules::{Reach, Rules, Verdict, may_come};
