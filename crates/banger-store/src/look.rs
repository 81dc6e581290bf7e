//! A look at a database before anything is written to it: one that cannot be used stays as it is, byte for byte.

use std::path::{Path, PathBuf};

use banger_core::store::StoreError;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::migrations::MIGRATIONS;
use crate::sqlite::failed;

/// Refuses a database that a later version of banger wrote, and a damaged one. One that is not there, or is empty, is
/// new and has nothing to be looked at.
pub(crate) fn look(path: &Path) -> Result<(), StoreError> {
    if std::fs::metadata(path).map_or(true, |file| file.len() == 0) {
        return Ok(());
    }
    // What is opened for reading alone does not even take in what a crash left in the log beside it.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed("open the database"))?;
    let read = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, error.to_string()),
        _ => failed("read the database")(error),
    };
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(read)?;
    // First: what this version would take for damage may be the later one's way.
    if usize::try_from(version).map_or(true, |version| version > MIGRATIONS.len()) {
        return Err(StoreError::Newer { path: PathBuf::from(path) });
    }
    // SQLite's manual, "PRAGMA quick_check": every page but the indices' contents, a few milliseconds for thousands
    // of rows. "ok", or what is wrong.
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(read)?;
    if found == "ok" { Ok(()) } else { Err(damaged(path, found)) }
}

fn damaged(path: &Path, damage: String) -> StoreError {
    StoreError::Damaged { path: PathBuf::from(path), damage }
}
