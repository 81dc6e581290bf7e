//! Rows to values and back.

use banger_core::store::VmRecord;
use banger_core::vm::Published;
use rusqlite::Row;
use rusqlite::types::Type;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

pub(crate) fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(column, error))
}

pub(crate) fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| unreadable(column, error))
}

/// Times as text that sorts as the times do: all digits, always the same number of them.
pub(crate) fn sortable(time: jiff::Timestamp) -> String {
    format!("{time:.9}")
}

/// The columns that [`vm`] reads, in order.
pub(crate) const VM_COLUMNS: &str =
    "id, name, spec, state, reason, generation, created_at, owner, host_public_key, wanted";

pub(crate) fn vm(row: &Row<'_>) -> rusqlite::Result<VmRecord> {
    let owner: Option<String> = row.get(7)?;
    Ok(VmRecord {
        id: parsed(row, 0)?,
        name: parsed(row, 1)?,
        spec: from_json(row, 2)?,
        published: Published {
            state: from_json(row, 3)?,
            reason: row.get(4)?,
            generation: row.get::<_, i64>(5)?.unsigned_abs(),
        },
        created_at: parsed(row, 6)?,
        owner: owner
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| unreadable(7, error))?,
        host_public_key: row.get(8)?,
        wanted: from_json(row, 9)?,
    })
}
