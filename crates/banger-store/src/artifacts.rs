//! What is written of images and kernels, each within one transaction.

use banger_core::store::StoreError;
use banger_types::image::Image;
use banger_types::kernel::Kernel;
use banger_types::{ImageId, KernelId};
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::rows::{from_json, to_json};
use crate::sqlite::{failed, inserted};

const FORGET: &str = "forget it";

/// Inserts an image. One that has its name is called by its version from now on, and returned.
pub(crate) fn insert_image(
    transaction: &Transaction<'_>,
    image: &Image,
) -> Result<Option<Image>, StoreError> {
    let before = named::<Image>(transaction, "images", &image.name)?;
    let before = before.map(|before| Image { name: before.version_name(), ..before });
    if let Some(before) = &before {
        rename(transaction, "images", before.id.as_str(), &before.name, before)?;
    }
    insert(transaction, "images", image.id.as_str(), &image.name, image)?;
    Ok(before)
}

/// Inserts a kernel. If it was registered, an earlier one of its name that was registered, too, is called by its version from
/// now on.
pub(crate) fn insert_kernel(transaction: &Transaction<'_>, kernel: &Kernel) -> Result<(), StoreError> {
    let before = match &kernel.registered {
        Some(_) => named::<Kernel>(transaction, "kernels", &kernel.name)?,
        None => None,
    };
    if let Some(before) = before.filter(|before| before.registered.is_some()) {
        let before = Kernel { name: before.version_name(), ..before };
        rename(transaction, "kernels", before.id.as_str(), &before.name, &before)?;
    }
    insert(transaction, "kernels", kernel.id.as_str(), &kernel.name, kernel)
}

/// Deletes an image that nobody uses, and the kernel that was registered with it if nobody uses that, which is returned.
pub(crate) fn delete_image(
    transaction: &Transaction<'_>,
    id: &ImageId,
) -> Result<Option<KernelId>, StoreError> {
    unused(vms_with(transaction, "image", id.as_str())?)?;
    let query = "SELECT document FROM images WHERE id = ?1";
    let image: Option<Image> = transaction
        .query_row(query, [id.as_str()], |row| from_json(row, 0))
        .optional()
        .map_err(failed(FORGET))?;
    delete(transaction, "images", id.as_str())?;
    let kernel = image.and_then(|image| image.registered).and_then(|registered| registered.kernel);
    let Some(kernel) = kernel else { return Ok(None) };
    match delete_kernel(transaction, &kernel) {
        Ok(()) => Ok(Some(kernel)),
        Err(StoreError::InUse(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes a kernel that neither a VM nor an image uses.
pub(crate) fn delete_kernel(transaction: &Transaction<'_>, id: &KernelId) -> Result<(), StoreError> {
    unused(vms_with(transaction, "kernel", id.as_str())?)?;
    let query =
        "SELECT name FROM images WHERE json_extract(document, '$.registered.kernel') = ?1 ORDER BY name";
    unused(names(transaction, query, id.as_str())?)?;
    delete(transaction, "kernels", id.as_str())
}

fn unused(users: Vec<String>) -> Result<(), StoreError> {
    if users.is_empty() { Ok(()) } else { Err(StoreError::InUse(users)) }
}

fn vms_with(
    transaction: &Transaction<'_>,
    column: &'static str,
    id: &str,
) -> Result<Vec<String>, StoreError> {
    names(transaction, &format!("SELECT name FROM vms WHERE {column} = ?1 ORDER BY name"), id)
}

fn names(transaction: &Transaction<'_>, query: &str, id: &str) -> Result<Vec<String>, StoreError> {
    let action = "see who uses it";
    let mut statement = transaction.prepare(query).map_err(failed(action))?;
    let rows = statement.query_map([id], |row| row.get(0)).map_err(failed(action))?;
    rows.collect::<rusqlite::Result<Vec<String>>>().map_err(failed(action))
}

fn named<T: serde::de::DeserializeOwned>(
    transaction: &Transaction<'_>,
    table: &'static str,
    name: &str,
) -> Result<Option<T>, StoreError> {
    let query = format!("SELECT document FROM {table} WHERE name = ?1");
    let found = transaction.query_row(&query, [name], |row| from_json(row, 0)).optional();
    found.map_err(failed("look for its name"))
}

fn insert(
    transaction: &Transaction<'_>,
    table: &'static str,
    id: &str,
    name: &str,
    value: &impl serde::Serialize,
) -> Result<(), StoreError> {
    let query = format!("INSERT INTO {table} (id, name, document) VALUES (?1, ?2, ?3)");
    inserted(put(transaction, &query, id, name, value), name, "remember it")
}

fn rename(
    transaction: &Transaction<'_>,
    table: &'static str,
    id: &str,
    name: &str,
    value: &impl serde::Serialize,
) -> Result<(), StoreError> {
    let query = format!("UPDATE {table} SET name = ?2, document = ?3 WHERE id = ?1");
    put(transaction, &query, id, name, value).map(drop).map_err(failed("give an earlier version its name"))
}

fn put(
    transaction: &Transaction<'_>,
    query: &str,
    id: &str,
    name: &str,
    value: &impl serde::Serialize,
) -> rusqlite::Result<usize> {
    transaction.execute(query, params![id, name, to_json(value)?])
}

fn delete(transaction: &Transaction<'_>, table: &'static str, id: &str) -> Result<(), StoreError> {
    let result = transaction.execute(&format!("DELETE FROM {table} WHERE id = ?1"), [id]);
    result.map(drop).map_err(failed(FORGET))
}
