//! The schema, step by step. A migration that was released is never changed: a new one is added.

use rusqlite_migration::{M, Migrations};

const INITIAL: &str = "
CREATE TABLE images (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL
) STRICT;

CREATE TABLE kernels (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL
) STRICT;

CREATE TABLE vms (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    image TEXT NOT NULL REFERENCES images (id),
    kernel TEXT NOT NULL REFERENCES kernels (id),
    spec TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    generation INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    owner TEXT,
    host_public_key TEXT NOT NULL
) STRICT;

CREATE TABLE operations (
    id TEXT PRIMARY KEY NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    is_final INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;

-- No reference to operations: a journal must be settled even when its operation is forgotten.
CREATE TABLE journal (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    operation TEXT NOT NULL,
    step TEXT NOT NULL
) STRICT;
";

const WANTED: &str = "
ALTER TABLE vms ADD COLUMN wanted TEXT NOT NULL DEFAULT '\"stopped\"';
";

const OPERATIONS_IN_ORDER: &str = "
CREATE INDEX operations_by_time ON operations (created_at DESC, id DESC);
CREATE INDEX unfinished_operations ON operations (created_at DESC, id DESC) WHERE NOT is_final;
";

const ASSIGNMENTS: &str = "
CREATE TABLE assignments (
    operation TEXT PRIMARY KEY NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
    document TEXT NOT NULL
) STRICT;
";

/// Every step, in order. Their number is the `user_version` of a database that is up to date.
pub(crate) const MIGRATIONS: &[&str] = &[INITIAL, WANTED, OPERATIONS_IN_ORDER, ASSIGNMENTS];

pub(crate) fn migrations() -> Migrations<'static> {
    Migrations::new(MIGRATIONS.iter().copied().map(M::up).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_migrations_apply_to_an_empty_database() {
        super::migrations().validate().unwrap();
    }
}
