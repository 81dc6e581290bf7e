//! What is written of operations.

use banger_core::store::StoreError;
use banger_types::OperationId;
use banger_types::operation::Operation;
use rusqlite::{Transaction, params};

use crate::rows::{sortable, to_json};
use crate::sqlite::failed;

/// Remembers an operation as it stands.
pub(crate) fn put(transaction: &Transaction<'_>, operation: &Operation) -> Result<(), StoreError> {
    let write = |document: String| {
        transaction.execute(
            "INSERT INTO operations (id, created_at, updated_at, is_final, document)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET
                 updated_at = excluded.updated_at, is_final = excluded.is_final,
                 document = excluded.document",
            params![
                operation.id.as_str(),
                sortable(operation.created_at),
                sortable(operation.updated_at),
                operation.status.is_final(),
                document
            ],
        )
    };
    to_json(operation).and_then(write).map(drop).map_err(failed("remember an operation"))
}

/// Remembers what an operation is to do.
pub(crate) fn assign(
    transaction: &Transaction<'_>,
    id: &OperationId,
    assignment: &str,
) -> Result<(), StoreError> {
    let result = transaction.execute(
        "INSERT INTO assignments (operation, document) VALUES (?1, ?2)
         ON CONFLICT (operation) DO UPDATE SET document = excluded.document",
        [id.as_str(), assignment],
    );
    result.map(drop).map_err(failed("remember what is to be done"))
}

/// Forgets what an operation was to do.
pub(crate) fn unassign(transaction: &Transaction<'_>, id: &OperationId) -> Result<(), StoreError> {
    let result = transaction.execute("DELETE FROM assignments WHERE operation = ?1", [id.as_str()]);
    result.map(drop).map_err(failed("forget what was to be done"))
}
