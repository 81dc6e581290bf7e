//! Changes of a file's text that leave the rest as it was written.

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use crate::key::{Key, Takes};
use crate::mistake::{Mistake, parse, suggestion, written};

/// Why something cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is nothing of this name.
    #[error("there is no setting '{name}'")]
    Unknown {
        /// What was named.
        name: String,
        /// What there is, in whole sentences.
        there: String,
    },
    /// There may be several of it.
    #[error("'{0}' may stand in the file several times")]
    Several(String),
    /// It takes something else.
    #[error("{name} takes {takes}: {why}", takes = .takes.words())]
    Value {
        /// The setting.
        name: String,
        /// What it takes.
        takes: Takes,
        /// What is wrong with the value.
        why: String,
    },
    /// What is there already has a mistake.
    #[error(transparent)]
    Mistake(#[from] Mistake),
}

/// Returns the text with a setting set. `value` is as one types it: quotes are not needed, and several have commas between them.
pub fn set(text: &str, name: &str, value: &str) -> Result<String, EditError> {
    parse(text)?;
    let (key, parts) = only_one(name)?;
    let refused = |why: String| EditError::Value { name: name.to_owned(), takes: key.takes, why };
    let value = value_of(key.takes, value).map_err(refused)?;
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| refused(error.message().to_owned()))?;
    let (last, tables) = parts.split_last().unwrap_or((&parts[0], &[]));
    // What is written below everything stays above what comes to it.
    let below = document.trailing().as_str().unwrap_or_default().to_owned();
    let no_table = || refused("what is there is no table".to_owned());
    let mut item: &mut Item = document.as_item_mut();
    let mut is_new = false;
    for (depth, name) in tables.iter().enumerate() {
        let table = item.as_table_like_mut().ok_or_else(no_table)?;
        if !table.contains_key(name) {
            let mut new = Table::new();
            // One that only others stand in has no heading of its own.
            new.set_implicit(depth + 1 < tables.len());
            if depth + 1 == tables.len() && !below.is_empty() {
                new.decor_mut().set_prefix(below.clone());
            }
            table.insert(name, Item::Table(new));
            is_new = true;
        }
        item = table.get_mut(name).ok_or_else(no_table)?;
    }
    let table = item.as_table_like_mut().ok_or_else(no_table)?;
    match table.get_mut(last).and_then(Item::as_value_mut) {
        // What is written behind it stays.
        Some(before) => {
            let decor = before.decor().clone();
            *before = value;
            *before.decor_mut() = decor;
        }
        None => drop(table.insert(last, Item::Value(value))),
    }
    if is_new {
        document.set_trailing("");
    }
    let changed = document.to_string();
    // The name stands before it already.
    let named = format!("{}: ", written(&parts));
    parse(&changed).map_err(|mistake| refused(mistake.what.replacen(&named, "", 1)))?;
    Ok(changed)
}

/// Returns the text without a setting, and whether it was there.
pub fn unset(text: &str, name: &str) -> Result<(String, bool), EditError> {
    let (_, parts) = only_one(name)?;
    // What has a mistake may be mended by this, as long as it can be read at all.
    let mut document = match text.parse::<DocumentMut>() {
        Ok(document) => document,
        Err(_) => parse(text).map(|_| DocumentMut::new())?,
    };
    let mut item: &mut Item = document.as_item_mut();
    let (last, tables) = parts.split_last().unwrap_or((&parts[0], &[]));
    for table in tables {
        match item.as_table_like_mut().and_then(|it| it.get_mut(table)) {
            Some(within) => item = within,
            None => return Ok((text.to_owned(), false)),
        }
    }
    let removed = item.as_table_like_mut().and_then(|table| table.remove(last)).is_some();
    Ok((document.to_string(), removed))
}

/// Returns the key of this name, which the file has once.
fn only_one(name: &str) -> Result<(&'static Key, Vec<String>), EditError> {
    let (key, parts) = key_of(name)?;
    if key.name.starts_with("catalog.") { Err(EditError::Several(written(&parts))) } else { Ok((key, parts)) }
}

/// Returns the key of this name, and the parts of that.
pub(crate) fn key_of(name: &str) -> Result<(&'static Key, Vec<String>), EditError> {
    let unknown = |there| EditError::Unknown { name: name.to_owned(), there };
    let parts = toml_edit::Key::parse(name).map_err(|error| unknown(error.message().to_owned()))?;
    let parts: Vec<String> = parts.iter().map(|part| part.get().to_owned()).collect();
    match Key::of(&parts) {
        Some(key) => Ok((key, parts)),
        None if !Key::after(&parts).is_empty() => Err(unknown(suggestion("", &Key::after(&parts), &parts))),
        None => {
            let known = (0..parts.len()).rev().find(|&at| !Key::after(&parts[..at]).is_empty()).unwrap_or(0);
            let there = Key::after(&parts[..known]);
            let name = parts.get(known).map_or("", String::as_str);
            Err(unknown(suggestion(name, &there, &parts[..known])))
        }
    }
}

/// Returns what somebody typed as it is written in the file.
fn value_of(takes: Takes, typed: &str) -> Result<Value, String> {
    let plain = without_quotes(typed);
    match takes {
        Takes::Number => plain.parse::<i64>().map(Value::from).map_err(|_| format!("'{typed}' is none")),
        Takes::Flag => plain.parse::<bool>().map(Value::from).map_err(|_| format!("'{typed}' is neither")),
        Takes::Names | Takes::Forwards => Ok(names(typed)?.into()),
        _ if plain.is_empty() => Err("there is nothing".to_owned()),
        _ => Ok(Value::from(plain)),
    }
}

/// Quotes that somebody has typed as in the file are not part of what is in them.
fn without_quotes(typed: &str) -> &str {
    typed.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(typed)
}

fn names(typed: &str) -> Result<Array, String> {
    if typed.trim_start().starts_with('[') {
        let value: Value = typed.parse().map_err(|error: toml_edit::TomlError| error.message().to_owned())?;
        return value.as_array().cloned().ok_or_else(|| format!("'{typed}' is no list"));
    }
    Ok(typed.split(',').map(|name| without_quotes(name.trim())).filter(|name| !name.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# what I like\n[vm]\nmemory = \"1G\" # enough\n\n# the office's\n[registry.\"ghcr.io\"]\nmirrors = [\"a:5000\"]\n";

    #[test]
    fn what_is_set_changes_and_all_else_stays() {
        let changed = set(FILE, "vm.memory", "4G").unwrap();
        assert_eq!(changed, FILE.replace("1G", "4G"));
        let changed = set(FILE, "vm.vcpus", "4").unwrap();
        assert_eq!(changed, FILE.replace("# enough\n", "# enough\nvcpus = 4\n"));
        assert_eq!(set("", "web.listen", "off").unwrap(), "[web]\nlisten = \"off\"\n");
        let changed = set("", "registry.\"docker.io\".mirrors", "a:1, b:2").unwrap();
        assert_eq!(changed, "[registry.\"docker.io\"]\nmirrors = [\"a:1\", \"b:2\"]\n");
        let changed = set("", "vm.forwards", "[\"8080:80\"]").unwrap();
        assert_eq!(changed, "[vm]\nforwards = [\"8080:80\"]\n");
        assert_eq!(set("", "vm.memory", "\"2G\"").unwrap(), "[vm]\nmemory = \"2G\"\n");
        let quoted = set("", "registry.x.mirrors", "\"a:1\", \"b:2\"").unwrap();
        assert_eq!(quoted, "[registry.x]\nmirrors = [\"a:1\", \"b:2\"]\n");
        // Comments stay where they are, be there nothing else.
        assert_eq!(set("# mine\n", "vm.vcpus", "4").unwrap(), "# mine\n[vm]\nvcpus = 4\n");
        let below = "[web]\nlisten = \"off\"\n# below\n";
        assert_eq!(set(below, "vm.vcpus", "4").unwrap(), format!("{below}[vm]\nvcpus = 4\n"));
    }

    #[test]
    fn what_cannot_be_is_refused_and_says_what_can() {
        let refused = |name: &str, value: &str| set(FILE, name, value).unwrap_err().to_string();
        assert_eq!(refused("vm.memroy", "4G"), "there is no setting 'vm.memroy'");
        let Err(EditError::Unknown { there, .. }) = set(FILE, "vm.memroy", "4G") else { panic!() };
        assert!(there.starts_with("Did you mean 'memory'?"), "{there}");
        let Err(EditError::Unknown { there, .. }) = set(FILE, "vm", "4G") else { panic!() };
        assert!(there.starts_with("[vm] has "), "{there}");
        assert!(refused("vm.memory", "much").starts_with("vm.memory takes a size in quotes"));
        assert!(refused("vm.vcpus", "two").contains("'two' is none"));
        assert!(refused("vm.network", "bridge").contains("there is no network 'bridge'"));
        assert!(refused("web.listen", "0.0.0.0:80").contains("is not a loopback address"));
        assert!(refused("catalog.url", "https://x").contains("several times"));
        assert!(matches!(set("[vm]\nx = 1\n", "vm.vcpus", "2"), Err(EditError::Mistake(_))));
    }

    #[test]
    fn what_is_unset_is_gone_and_all_else_stays() {
        let (changed, was_there) = unset(FILE, "registry.\"ghcr.io\".mirrors").unwrap();
        assert!(was_there);
        assert_eq!(changed, FILE.replace("mirrors = [\"a:5000\"]\n", ""));
        assert_eq!(unset(FILE, "vm.vcpus").unwrap(), (FILE.to_owned(), false));
        assert_eq!(unset("", "vm.vcpus").unwrap(), (String::new(), false));
        assert!(matches!(unset(FILE, "vm.cpus"), Err(EditError::Unknown { .. })));
        assert!(matches!(unset("[vm", "vm.vcpus"), Err(EditError::Mistake(_))));
    }
}
