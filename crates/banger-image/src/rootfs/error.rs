//! Why an entry could not be written.

use std::io;

/// Why an entry, or the whole file system, could not be written. Paths are printable text.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something on the way is there and is not a directory.
    #[error("cannot make '{path}': '{parent}' is not a directory")]
    ParentIsNoDirectory {
        /// The entry.
        path: String,
        /// What is in the way.
        parent: String,
    },
    /// Symbolic links on the way lead round and round.
    #[error("cannot make '{path}': more than 40 symbolic links are on the way")]
    LinkLoop {
        /// The entry.
        path: String,
    },
    /// More entries than a file system may have.
    #[error("cannot add '{path}': more than {limit} entries")]
    TooManyEntries {
        /// The entry.
        path: String,
        /// Most entries.
        limit: usize,
    },
    /// More layers than there may be.
    #[error("more than {limit} layers")]
    TooManyLayers {
        /// Most layers.
        limit: u16,
    },
    /// The root can be nothing but a directory.
    #[error("the root of the file system can only be a directory")]
    RootIsDirectory,
    /// A hard link to something that is not there.
    #[error("cannot make the hard link '{path}': there is no '{target}'")]
    LinkTargetMissing {
        /// The entry.
        path: String,
        /// Its target.
        target: String,
    },
    /// A hard link to a directory.
    #[error("cannot make the hard link '{path}': '{target}' is a directory")]
    LinkToDirectory {
        /// The entry.
        path: String,
        /// Its target.
        target: String,
    },
    /// A symbolic link's target is empty, too long, or has a NUL in it.
    #[error("the target of the symbolic link '{path}' {rule}")]
    LinkTarget {
        /// The entry.
        path: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A device number that does not fit.
    #[error("the device number {major}:{minor} of '{path}' is too large")]
    DeviceNumber {
        /// The entry.
        path: String,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// An extended attribute that the file system cannot hold.
    #[error("the extended attribute '{name}' of '{path}' {rule}")]
    Attribute {
        /// The entry.
        path: String,
        /// The attribute, printable.
        name: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The attributes of one entry are too large together.
    #[error("the extended attributes of '{path}' take more than {limit} bytes")]
    AttributesTooLarge {
        /// The entry.
        path: String,
        /// Most bytes, about.
        limit: usize,
    },
    /// The content ended too soon.
    #[error("the content of '{path}' ends {missing} bytes too soon")]
    ContentEnds {
        /// The entry.
        path: String,
        /// Bytes that did not come.
        missing: u64,
    },
    /// The content could not be read.
    #[error("cannot read the content of '{path}'")]
    Content {
        /// The entry.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A bound of the file system or of the writer.
    #[error("cannot add '{path}': {limit}")]
    Limit {
        /// The entry.
        path: String,
        /// The bound, as a clause.
        limit: &'static str,
    },
    /// The file system as a whole is too large.
    #[error("the file system would have more than {limit_gib} GiB")]
    TooLarge {
        /// Most GiB.
        limit_gib: u64,
    },
    /// The image file could not be written.
    #[error("cannot write the image")]
    Image(#[source] io::Error),
}
