//! The configuration file: what can be set, what it is, and changing it without losing what its owner wrote.
//!
//! The daemon reads it, the command line reads and changes it, and both say the same about a mistake. Everything that can be set is in
//! one table, [`KEYS`], which the settings that are shown, the reference and the words about mistakes are made of.

mod configuration;
mod edit;
mod file;
mod key;
mod mistake;
mod reference;
mod setting;
mod value;

pub use configuration::{
    CatalogList, Configuration, DEFAULT_IMAGE, DEFAULT_KERNEL, Debian, ImageLimits, OperationSettings,
    RegistrySettings, VmDefaults, WebSettings,
};
pub use edit::{EditError, set, unset};
pub use file::{ConfigurationError, ConfigurationFile};
pub use key::{Applies, KEYS, Key, Takes};
pub use mistake::{Mistake, parse};
pub use reference::reference;
pub use setting::{Effective, VARIABLES, Variable};
