//! The [`Store`] port on one SQLite database.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use banger_core::journal::Step;
use banger_core::store::{Page, Store, StoreError, VmRecord};
use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::operation::{Operation, RequestKey};
use banger_types::{ImageId, KernelId, OperationId, VmId};
use rusqlite::{Connection, ErrorCode, MAIN_DB, Transaction, params};

use crate::artifacts;
use crate::look::look;
use crate::migrations::migrations;
use crate::operations;
use crate::rows::{VM_COLUMNS, from_json, parsed, sortable, to_json, vm};

/// Everything the daemon remembers, in one file.
#[derive(Debug)]
pub struct SqliteStore {
    /// What is written goes by this one.
    writer: Mutex<Connection>,
    /// What is read by this one: in WAL mode it waits for nobody who writes, and writing means waiting for the disk
    /// (SQLite's manual, "Write-Ahead Logging", section "Concurrency").
    reader: Mutex<Connection>,
}

/// How long a connection waits for another process that has the database.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn failed(action: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| {
        if is_for_want_of_room(&source) {
            StoreError::Full { action }
        } else {
            StoreError::Database { action, source: Box::new(source) }
        }
    }
}

fn is_for_want_of_room(error: &rusqlite::Error) -> bool {
    // The index of the log could not grow: not even reading goes without it.
    let index = |error: &rusqlite::ffi::Error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
    error.sqlite_error_code() == Some(ErrorCode::DiskFull) || error.sqlite_error().is_some_and(index)
}

impl SqliteStore {
    /// Opens the database at `path`, makes it when it is not there, and brings it up to date.
    ///
    /// # Errors
    /// [`StoreError::Newer`] when a later version of banger wrote it, and [`StoreError::Damaged`]: it is left as it
    /// is. [`StoreError::ReadOnly`] when it may only be read, [`StoreError::Full`] when there is no room for it, and
    /// [`StoreError::Database`] when it cannot be opened otherwise.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        look(path)?;
        let mut writer = Connection::open(path).map_err(failed("open the database"))?;
        // SQLite opens what may not be written for reading, and fails at the first write.
        if writer.is_readonly(MAIN_DB).map_err(failed("open the database"))? {
            return Err(StoreError::ReadOnly { path: PathBuf::from(path) });
        }
        prepare(&mut writer)?;
        let reader = Connection::open(path).map_err(failed("open the database"))?;
        let configured =
            reader.execute_batch("PRAGMA query_only = ON;").and_then(|()| reader.busy_timeout(PATIENCE));
        configured.map_err(failed("configure the database"))?;
        Ok(Self { writer: Mutex::new(writer), reader: Mutex::new(reader) })
    }

    fn write<T>(
        &self,
        action: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = locked(&self.writer);
        let transaction = connection.transaction().map_err(failed(action))?;
        let value = body(&transaction)?;
        transaction.commit().map_err(failed(action))?;
        Ok(value)
    }

    fn read<T>(
        &self,
        action: &'static str,
        query: &str,
        parameters: impl rusqlite::Params,
        row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        select(&locked(&self.reader), query, parameters, row).map_err(failed(action))
    }
}

/// A panic while the lock was held left no transaction open: it was rolled back on unwinding.
fn locked(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    // WAL with full synchronisation: what was answered for survives a power cut.
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .and_then(|()| connection.busy_timeout(PATIENCE))
        .map_err(failed("configure the database"))?;
    let action = "bring the database up to date";
    migrations().to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => failed(action)(err),
        other => StoreError::Database { action, source: Box::new(other) },
    })
}

fn select<T>(
    connection: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
    row: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(query)?.query_map(parameters, row)?.collect()
}

/// Tells a name that is taken from every other failure.
pub(crate) fn inserted(
    result: rusqlite::Result<usize>,
    name: &str,
    action: &'static str,
) -> Result<(), StoreError> {
    match result {
        Ok(_) => Ok(()),
        Err(error)
            if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
                && error.to_string().contains(".name") =>
        {
            Err(StoreError::NameTaken(name.to_owned()))
        }
        Err(error) => Err(failed(action)(error)),
    }
}

impl Store for SqliteStore {
    fn vms(&self) -> Result<Vec<VmRecord>, StoreError> {
        self.read("list VMs", &format!("SELECT {VM_COLUMNS} FROM vms ORDER BY name"), [], vm)
    }

    fn insert_vm(&self, vm: &VmRecord) -> Result<(), StoreError> {
        let action = "remember a VM";
        self.write(action, |transaction| {
            let result = vm_parameters(vm).and_then(|values| {
                transaction.execute(
                    "INSERT INTO vms (id, name, spec, state, reason, generation, created_at, owner,
                                      host_public_key, wanted, image, kernel)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
                    params![
                        values.id,
                        values.name,
                        values.spec,
                        values.state,
                        values.reason,
                        values.generation,
                        values.created_at,
                        values.owner,
                        values.host_public_key,
                        values.wanted,
                        vm.spec.image.as_str(),
                        vm.spec.kernel.as_str()
                    ],
                )
            });
            inserted(result, vm.name.as_str(), action)
        })
    }

    fn update_vm(&self, vm: &VmRecord) -> Result<(), StoreError> {
        let action = "remember a VM's state";
        self.write(action, |transaction| {
            let result = vm_parameters(vm).and_then(|values| {
                transaction.execute(
                    "UPDATE vms SET name = ?2, spec = ?3, state = ?4, reason = ?5, generation = ?6,
                                        owner = ?7, host_public_key = ?8, wanted = ?9
                         WHERE id = ?1",
                    params![
                        values.id,
                        values.name,
                        values.spec,
                        values.state,
                        values.reason,
                        values.generation,
                        values.owner,
                        values.host_public_key,
                        values.wanted
                    ],
                )
            });
            inserted(result, vm.name.as_str(), action)
        })
    }

    fn delete_vm(&self, id: &VmId) -> Result<(), StoreError> {
        let action = "forget a VM";
        self.write(action, |transaction| {
            transaction
                .execute("DELETE FROM vms WHERE id = ?1", [id.as_str()])
                .map(drop)
                .map_err(failed(action))
        })
    }

    fn images(&self) -> Result<Vec<Image>, StoreError> {
        self.read("list images", "SELECT document FROM images ORDER BY name", [], |row| from_json(row, 0))
    }

    fn insert_image(
        &self,
        image: &Image,
        kernel: Option<&Kernel>,
        operation: &OperationId,
    ) -> Result<Option<Image>, StoreError> {
        self.write("remember an image", |transaction| {
            if let Some(kernel) = kernel {
                artifacts::insert_kernel(transaction, kernel)?;
            }
            let before = artifacts::insert_image(transaction, image)?;
            settle(transaction, operation)?;
            Ok(before)
        })
    }

    fn delete_image(&self, id: &ImageId) -> Result<Option<KernelId>, StoreError> {
        self.write("forget it", |transaction| artifacts::delete_image(transaction, id))
    }

    fn kernels(&self) -> Result<Vec<Kernel>, StoreError> {
        self.read("list kernels", "SELECT document FROM kernels ORDER BY name", [], |row| from_json(row, 0))
    }

    fn insert_kernel(&self, kernel: &Kernel, operation: &OperationId) -> Result<(), StoreError> {
        self.write("remember a kernel", |transaction| {
            artifacts::insert_kernel(transaction, kernel)?;
            settle(transaction, operation)
        })
    }

    fn update_kernel(&self, kernel: &Kernel) -> Result<(), StoreError> {
        let action = "remember what a kernel has become";
        self.write(action, |transaction| {
            let result = to_json(kernel).and_then(|document| {
                transaction.execute(
                    "UPDATE kernels SET document = ?2 WHERE id = ?1",
                    params![kernel.id.as_str(), document],
                )
            });
            inserted(result, &kernel.name, action)
        })
    }

    fn delete_kernel(&self, id: &KernelId) -> Result<(), StoreError> {
        self.write("forget it", |transaction| artifacts::delete_kernel(transaction, id))
    }

    fn operations(&self, page: &Page<OperationId>) -> Result<Vec<Operation>, StoreError> {
        let query = "SELECT document FROM operations
                     WHERE ?1 IS NULL
                        OR (created_at, id) < (SELECT created_at, id FROM operations WHERE id = ?1)
                     ORDER BY created_at DESC, id DESC LIMIT ?2";
        let after = page.after.as_ref().map(OperationId::as_str);
        self.read("list operations", query, params![after, page.limit], |row| from_json(row, 0))
    }

    fn unfinished_operations(&self) -> Result<Vec<Operation>, StoreError> {
        let query = "SELECT document FROM operations WHERE NOT is_final ORDER BY created_at DESC, id DESC";
        self.read("list operations", query, [], |row| from_json(row, 0))
    }

    fn operation(&self, id: &OperationId) -> Result<Option<Operation>, StoreError> {
        let query = "SELECT document FROM operations WHERE id = ?1";
        let found = self.read("look for an operation", query, [id.as_str()], |row| from_json(row, 0))?;
        Ok(found.into_iter().next())
    }

    fn request_keys(&self) -> Result<Vec<(RequestKey, OperationId)>, StoreError> {
        let query = "SELECT json_extract(document, '$.request'), id FROM operations
                     WHERE json_extract(document, '$.request') IS NOT NULL";
        self.read("list requests", query, [], |row| Ok((from_json(row, 0)?, parsed(row, 1)?)))
    }

    fn put_operation(&self, operation: &Operation) -> Result<(), StoreError> {
        self.write("remember an operation", |transaction| {
            operations::put(transaction, operation)?;
            if operation.status.is_final() {
                operations::unassign(transaction, &operation.id)
            } else {
                Ok(())
            }
        })
    }

    fn assign(&self, operation: &Operation, assignment: &str) -> Result<(), StoreError> {
        self.write("remember an operation", |transaction| {
            operations::put(transaction, operation)?;
            operations::assign(transaction, &operation.id, assignment)
        })
    }

    fn assignment(&self, operation: &OperationId) -> Result<Option<String>, StoreError> {
        let query = "SELECT document FROM assignments WHERE operation = ?1";
        let found =
            self.read("look for what is to be done", query, [operation.as_str()], |row| row.get(0))?;
        Ok(found.into_iter().next())
    }

    fn prune_operations(&self, before: jiff::Timestamp) -> Result<Vec<OperationId>, StoreError> {
        let action = "forget old operations";
        let query = "DELETE FROM operations WHERE is_final AND updated_at < ?1 RETURNING id";
        self.write(action, |transaction| {
            select(transaction, query, [sortable(before)], |row| parsed(row, 0)).map_err(failed(action))
        })
    }

    fn journal(&self, operation: &OperationId, step: &Step) -> Result<(), StoreError> {
        let action = "write the journal";
        self.write(action, |transaction| {
            to_json(step)
                .and_then(|step| {
                    transaction.execute(
                        "INSERT INTO journal (operation, step) VALUES (?1, ?2)",
                        params![operation.as_str(), step],
                    )
                })
                .map(drop)
                .map_err(failed(action))
        })
    }

    fn journaled(&self, operation: &OperationId) -> Result<Vec<Step>, StoreError> {
        let query = "SELECT step FROM journal WHERE operation = ?1 ORDER BY sequence DESC";
        self.read("read the journal", query, [operation.as_str()], |row| from_json(row, 0))
    }

    fn unsettled(&self) -> Result<Vec<OperationId>, StoreError> {
        let query = "SELECT DISTINCT operation FROM journal ORDER BY operation";
        let ids: Vec<String> = self.read("read the journal", query, [], |row| row.get(0))?;
        ids.iter()
            .map(|id| {
                id.parse().map_err(|error| StoreError::Database {
                    action: "read the journal",
                    source: Box::new(error),
                })
            })
            .collect()
    }

    fn settle(&self, operation: &OperationId) -> Result<(), StoreError> {
        self.write("settle the journal", |transaction| settle(transaction, operation))
    }

    fn consolidate(&self) -> Result<(), StoreError> {
        // SQLite's manual, "PRAGMA wal_checkpoint".
        locked(&self.writer)
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE);")
            .map_err(failed("bring the database into one file"))
    }
}

fn settle(transaction: &Transaction<'_>, operation: &OperationId) -> Result<(), StoreError> {
    let result = transaction.execute("DELETE FROM journal WHERE operation = ?1", [operation.as_str()]);
    result.map(drop).map_err(failed("settle the journal"))
}

struct VmParameters<'a> {
    id: &'a str,
    name: &'a str,
    spec: String,
    state: String,
    reason: Option<&'a str>,
    generation: i64,
    created_at: String,
    owner: Option<String>,
    host_public_key: &'a str,
    wanted: String,
}

fn vm_parameters(vm: &VmRecord) -> rusqlite::Result<VmParameters<'_>> {
    Ok(VmParameters {
        id: vm.id.as_str(),
        name: vm.name.as_str(),
        spec: to_json(&vm.spec)?,
        state: to_json(&vm.published.state)?,
        reason: vm.published.reason.as_deref(),
        generation: i64::try_from(vm.published.generation).unwrap_or(i64::MAX),
        created_at: vm.created_at.to_string(),
        owner: vm.owner.as_ref().map(to_json).transpose()?,
        host_public_key: &vm.host_public_key,
        wanted: to_json(&vm.wanted)?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_reads_does_not_wait_for_who_writes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&directory.path().join("banger.db")).unwrap());
        let mut writer = locked(&store.writer);
        let transaction = writer.transaction().unwrap();
        let begun = "INSERT INTO journal (operation, step) VALUES ('228d29cba384', '{}')";
        transaction.execute_batch(begun).unwrap();
        let (answer, answered) = std::sync::mpsc::channel();
        let reader = Arc::clone(&store);
        std::thread::spawn(move || answer.send(reader.unsettled()).unwrap());
        let unsettled = answered.recv_timeout(Duration::from_secs(10)).expect("an answer meanwhile");
        assert!(unsettled.unwrap().is_empty(), "what is not done yet is read");
    }
}
