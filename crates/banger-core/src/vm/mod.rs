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
//! Three types keep three things apart: what a client wants ([`Request`]), what was seen
//! ([`Observation`]), and what is shown ([`Published`]). [`RequestQueue`] decides which requests are
//! let through; [`Published::observe`] folds what was seen into what is shown.

mod published;
mod queue;

pub use published::{Observation, Published};
pub use queue::{Admission, DenyReason, Request, RequestQueue};
