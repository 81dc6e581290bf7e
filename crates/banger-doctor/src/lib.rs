//! Is this host ready? What was found of it, judged.
//!
//! A check has two halves. The daemon does the thing (opens KVM and boots a kernel, makes a device and takes it away, asks sudo) and
//! says what it saw, as facts; here it is decided what that means, how bad it is, and what to do about it. So every case is tried in a
//! test, the rarest too, and what a person reads about it stands in one place.

mod check;
mod data;
mod host;
mod network;
mod packages;
mod programs;

pub use check::{CHECKS, Check};
pub use data::{
    DataFacts, DatabaseFacts, DefaultImageFacts, FileSystemKind, LeftoverFacts, data, database,
    default_image, leftovers,
};
pub use host::{
    ClockFacts, KvmDevice, KvmFacts, KvmProbe, LogoutFacts, MemoryFacts, NamespaceFacts, clock, kvm, logout,
    memory, user_namespaces,
};
pub use network::{HelperFacts, NamesFacts, NatFacts, PortFacts, helper, names, nat, passt, ports};
pub use packages::{Package, PackageManager};
pub use programs::{
    ConsoleFacts, DaemonFacts, EngineFacts, SourceFacts, Tool, console, daemon, engines, sources, tools,
};
