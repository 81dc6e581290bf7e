//! One VM's life, as pure decisions.
//!
//! ```text
//!                create                 start                      guest says it is ready
//!   (nothing) ──────────▶ creating ─────▶ stopped ─────▶ starting ─────────────────────▶ running
//!                            │              ▲  ▲            │  │                        │   │ │
//!                 failed:    │              │  │   stop,    │  │ VMM ends unasked       │   │ │
//!                 undone     ▼              │  └── kill ────┘  └──────▶ failed ◀────────┘   │ │
//!                        (nothing)          │                            │  VMM ends unasked │ │
//!                                           │       VMM ends             │                   │ │
//!                                           ├──────────────── stopping ◀─┼── stop, or the ───┘ │
//!                                           │                            │   guest goes down   │
//!                                           └────────────── kill ────────┼─────────────────────┘
//!                                                                        │ start: starting
//!   (nothing) ◀──── deleting ◀──── delete (forced while anything runs) ──┘ from every state
//! ```
//!
//! Two edges are left out of the picture: a running VM can be paused and resumed (and is `paused` in between, which
//! ends like `running`), and a guest that reboots goes from `running` to `starting`.
//!
//! Three types keep three things apart: what a client wants ([`Request`]), what was seen
//! ([`Observation`]), and what is shown ([`Published`]). [`RequestQueue`] decides which requests are
//! let through; [`Published::observe`] folds what was seen into what is shown; [`Restarts`] says what a restart policy makes of an end.

mod forwards;
mod published;
mod queue;
mod restart;

pub use forwards::{ConfirmedForwards, ForwardChanges};
pub use published::{Observation, Published};
pub use queue::{Admission, DenyReason, Request, RequestQueue};
pub use restart::{Restarts, Wanted, starts_with_the_daemon, wanted_after};
