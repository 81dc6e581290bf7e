//! The decisions of banger's daemon, without effects, and the ports through which effects happen.
//!
//! Nothing here starts a process, opens a file or a socket, or looks at a clock. Adapters
//! (`banger-image`, `banger-engine`, `banger-net`, `banger-host`, `banger-store`) implement the
//! traits; `bangerd` puts them together.

pub mod command;
pub mod engine;
pub mod helper;
pub mod journal;
pub mod kvm;
pub mod network;
pub mod process;
pub mod store;
pub mod vm;
pub mod work;
