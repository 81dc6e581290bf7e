//! The port to what is remembered across the daemon's ends.

use std::path::PathBuf;

use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::operation::{Operation, RequestKey};
use banger_types::vm::VmSpec;
use banger_types::{ImageId, KernelId, OperationId, VmId, VmName};

use crate::journal::Step;
use crate::process::ProcessIdentity;
use crate::vm::{Published, Wanted};

/// A VM as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmRecord {
    /// Its id.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// What was wanted of it.
    pub spec: VmSpec,
    /// What is shown of it.
    pub published: Published,
    /// Whether it is to run.
    pub wanted: Wanted,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// The process whose end is its end, if there is one.
    pub owner: Option<ProcessIdentity>,
    /// Public key of its SSH server, as in `known_hosts`; empty until its directory is made.
    pub host_public_key: String,
}

impl VmRecord {
    /// Returns whether its spec says that it goes when it ends.
    pub const fn is_removed_at_end(&self) -> bool {
        self.spec.remove
    }

    /// Returns whether it was alive when it was last written down.
    pub const fn was_alive(&self) -> bool {
        self.published.state.is_alive()
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<Id> {
    /// Most that it has.
    pub limit: u32,
    /// What it comes after, in the list's order; the list's beginning when there is nothing.
    pub after: Option<Id>,
}

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The name is taken.
    #[error("the name '{0}' is taken")]
    NameTaken(String),
    /// Something refers to it.
    #[error("it is in use by {}", .0.join(", "))]
    InUse(Vec<String>),
    /// The database is from a later version of banger.
    #[error("the database {} was written by a newer version of banger", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
    },
    /// The database makes no sense.
    #[error("the database {} is damaged: {damage}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found first, in the database's own words.
        damage: String,
    },
    /// Nobody may write to the database, or this user may not.
    #[error("the database {} may not be written by this user", path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// The database cannot grow.
    #[error("the file system is full: there is no room to {action}")]
    Full {
        /// What was tried.
        action: &'static str,
    },
    /// The database failed.
    #[error("the database failed while trying to {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What the daemon remembers. Every call is one transaction.
pub trait Store: Send + Sync {
    /// Returns all VMs, ordered by name.
    fn vms(&self) -> Result<Vec<VmRecord>, StoreError>;
    /// Remembers a new VM; fails with [`StoreError::NameTaken`].
    fn insert_vm(&self, vm: &VmRecord) -> Result<(), StoreError>;
    /// Remembers a VM's present name, state, spec, owner and key; fails with [`StoreError::NameTaken`].
    fn update_vm(&self, vm: &VmRecord) -> Result<(), StoreError>;
    /// Forgets a VM, if it is there.
    fn delete_vm(&self, id: &VmId) -> Result<(), StoreError>;

    /// Returns all images, ordered by name.
    fn images(&self) -> Result<Vec<Image>, StoreError>;
    /// Remembers an image, with the kernel that was registered with it, if any, and settles the operation that made them:
    /// all at once. If its name is another's, it is a new version of that, which is called by [`Image::version_name`]
    /// from now on and returned; the same holds of a registered kernel. Fails with [`StoreError::NameTaken`] if the
    /// kernel's name is one's that was not registered.
    fn insert_image(
        &self,
        image: &Image,
        kernel: Option<&Kernel>,
        operation: &OperationId,
    ) -> Result<Option<Image>, StoreError>;
    /// Forgets an image; fails with [`StoreError::InUse`]. The kernel that was registered with it goes, too, unless it is
    /// in use; it is returned then.
    fn delete_image(&self, id: &ImageId) -> Result<Option<KernelId>, StoreError>;

    /// Returns all kernels, ordered by name.
    fn kernels(&self) -> Result<Vec<Kernel>, StoreError>;
    /// Remembers a kernel, and settles the operation that made it, at once; fails with [`StoreError::NameTaken`]. A registered
    /// one may have the name of another registered one, and is a new version of it.
    fn insert_kernel(&self, kernel: &Kernel, operation: &OperationId) -> Result<(), StoreError>;
    /// Remembers what a kernel has become, under its id and name.
    fn update_kernel(&self, kernel: &Kernel) -> Result<(), StoreError>;
    /// Forgets a kernel; fails with [`StoreError::InUse`] if a VM or a registered image uses it.
    fn delete_kernel(&self, id: &KernelId) -> Result<(), StoreError>;

    /// Returns operations, newest first. After one that is not known comes nothing.
    fn operations(&self, page: &Page<OperationId>) -> Result<Vec<Operation>, StoreError>;
    /// Returns the operations that have not ended, newest first.
    fn unfinished_operations(&self) -> Result<Vec<Operation>, StoreError>;
    /// Returns an operation, if it is there.
    fn operation(&self, id: &OperationId) -> Result<Option<Operation>, StoreError>;
    /// Returns the keys that operations were asked for with.
    fn request_keys(&self) -> Result<Vec<(RequestKey, OperationId)>, StoreError>;
    /// Remembers an operation as it stands. With its end, what it was assigned is forgotten.
    fn put_operation(&self, operation: &Operation) -> Result<(), StoreError>;
    /// Remembers an operation as it stands, and, in the caller's own words, what another daemon needs to know to do it.
    fn assign(&self, operation: &Operation, assignment: &str) -> Result<(), StoreError>;
    /// Returns what an operation was assigned, if that is remembered.
    fn assignment(&self, operation: &OperationId) -> Result<Option<String>, StoreError>;
    /// Forgets operations that ended before `before`. Returns their ids.
    fn prune_operations(&self, before: jiff::Timestamp) -> Result<Vec<OperationId>, StoreError>;

    /// Writes down a step that is about to be done.
    fn journal(&self, operation: &OperationId, step: &Step) -> Result<(), StoreError>;
    /// Returns the steps of an operation, the last first.
    fn journaled(&self, operation: &OperationId) -> Result<Vec<Step>, StoreError>;
    /// Returns the operations that have steps in the journal.
    fn unsettled(&self) -> Result<Vec<OperationId>, StoreError>;
    /// Forgets an operation's steps: they are all done for good, or undone.
    fn settle(&self, operation: &OperationId) -> Result<(), StoreError>;

    /// Brings everything into the one file that people copy. To be called before the daemon ends.
    fn consolidate(&self) -> Result<(), StoreError>;
}
