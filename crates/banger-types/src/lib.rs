//! The words of banger, as data: what users ask for, what the daemon answers, and what the
//! daemon, a VM's monitor and its guest say to each other. Nothing here reads a file, opens a
//! socket or looks at a clock.

pub mod address;
pub mod bytes;
pub mod catalog;
pub mod digest;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod event;
pub mod forwards;
pub mod guest;
pub mod helper;
pub mod image;
pub mod kernel;
pub mod location;
pub mod monitor;
pub mod name;
pub mod operation;
pub mod port;
pub mod problem;
pub mod reference;
pub mod setting;
pub mod sftp;
pub mod shell;
pub mod size;
pub mod source;
pub mod space;
pub mod stats;
pub mod system;
pub mod time;
pub mod vm;
pub mod web;

pub use error::{ApiError, ErrorKind, Refusal};
pub use name::{ImageId, KernelId, OperationId, VmId, VmName};
