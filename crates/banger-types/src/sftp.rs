//! The numbers of SFTP, version 3 (draft-ietf-secsh-filexfer-02), which the guest's server and the command line's client share.
#![expect(missing_docs, reason = "the draft's own names, and nothing to add")]

/// The one version that there is in practice.
pub const VERSION: u32 = 3;

/// Types of packets that a client sends: section 3 of the draft.
pub mod request {
    pub const INIT: u8 = 1;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const EXTENDED: u8 = 200;
}

/// Types of packets that a server sends: section 3 of the draft.
pub mod reply {
    pub const VERSION: u8 = 2;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED_REPLY: u8 = 201;
}

/// How a file is to be opened: section 6.3 of the draft.
pub mod open_flag {
    pub const READ: u32 = 0x01;
    pub const WRITE: u32 = 0x02;
    pub const APPEND: u32 = 0x04;
    pub const CREATE: u32 = 0x08;
    pub const TRUNCATE: u32 = 0x10;
    pub const EXCLUSIVE: u32 = 0x20;
}

/// Codes of [`reply::STATUS`]: section 7 of the draft.
pub mod status {
    pub const OK: u32 = 0;
    pub const END_OF_FILE: u32 = 1;
    pub const NO_SUCH_FILE: u32 = 2;
    pub const PERMISSION_DENIED: u32 = 3;
    pub const FAILURE: u32 = 4;
    pub const BAD_MESSAGE: u32 = 5;
    pub const OPERATION_UNSUPPORTED: u32 = 8;
}

/// Which attributes there are: section 5 of the draft.
pub mod attribute_flag {
    pub const SIZE: u32 = 0x1;
    pub const OWNER: u32 = 0x2;
    pub const PERMISSIONS: u32 = 0x4;
    pub const TIMES: u32 = 0x8;
    pub const EXTENDED: u32 = 0x8000_0000;
}
