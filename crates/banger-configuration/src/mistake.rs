//! What is wrong with a file, where, and what was meant.

use std::ops::Range;

use toml_edit::{Document, Item, Table, TableLike};

use crate::configuration::Configuration;
use crate::key::{ANY, Key};

/// How alike a name has to be to one that there is, for that to be meant: 1 is the same.
const ALIKE: f64 = 0.75;

/// A mistake in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Mistake {
    /// The line that it is in, from 1.
    pub line: usize,
    /// What is wrong, as a clause.
    pub what: String,
    /// What is allowed there, in whole sentences, the likeliest first.
    pub allowed: Option<String>,
}

/// Reads a file's text.
pub fn parse(text: &str) -> Result<Configuration, Mistake> {
    toml::from_str(text).map_err(|error| Mistake::of(text, error.span(), error.message()))
}

impl Mistake {
    fn of(text: &str, span: Option<Range<usize>>, message: &str) -> Self {
        let at = span.map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let parts = match Document::parse(text) {
            Ok(document) => path_to(document.as_table(), at),
            // It is no TOML at all.
            Err(_) => Vec::new(),
        };
        if let Some(unknown) = Self::unknown(line, &parts) {
            return unknown;
        }
        let (what, allowed) = match Key::of(&parts) {
            Some(key) => {
                (format!("{}: {message}", written(&parts)), Some(format!("It takes {}.", key.takes.words())))
            }
            None => (message.trim_end().replace('\n', "; "), None),
        };
        Self { line, what, allowed }
    }

    /// Returns the mistake that there is no such name, if there is none.
    fn unknown(line: usize, parts: &[String]) -> Option<Self> {
        let known = (0..parts.len())
            .find(|&at| Key::after(&parts[..=at]).is_empty() && Key::of(&parts[..=at]).is_none())?;
        let (before, name) = (&parts[..known], &parts[known]);
        let there = Key::after(before);
        if there.is_empty() {
            return None;
        }
        let kind = if before.is_empty() { "table" } else { "setting" };
        let what = format!("there is no {kind} '{}'", written(&parts[..=known]));
        Some(Self { line, what, allowed: Some(suggestion(name, &there, before)) })
    }
}

/// Returns the error of a name that nobody knows: what was meant, and what there is.
pub(crate) fn suggestion(name: &str, there: &[&str], before: &[String]) -> String {
    let place = if before.is_empty() { "There are".to_owned() } else { format!("[{}] has", written(before)) };
    let list = format!("{place} {}.", there.join(", "));
    let alike = |known: &&&str| strsim::jaro_winkler(known, name);
    let nearest = there
        .iter()
        .filter(|known| **known != ANY)
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
        .filter(|known| alike(known) >= ALIKE);
    match nearest {
        Some(nearest) => format!("Did you mean '{nearest}'? {list}"),
        None => list,
    }
}

/// Returns a name as it is written.
pub(crate) fn written(parts: &[String]) -> String {
    parts.iter().map(|part| crate::key::quoted(part)).collect::<Vec<_>>().join(".")
}

/// Returns the name of what is at a byte of the text.
fn path_to(table: &Table, at: usize) -> Vec<String> {
    let mut path = Vec::new();
    search(table, at, &mut path);
    path
}

fn search(table: &dyn TableLike, at: usize, path: &mut Vec<String>) -> bool {
    let holds = |span: Option<Range<usize>>| span.is_some_and(|span| span.contains(&at));
    for (name, item) in table.iter() {
        path.push(name.to_owned());
        let within = match item {
            Item::ArrayOfTables(tables) => tables.iter().any(|table| search(table, at, path)),
            _ => item.as_table_like().is_some_and(|table| search(table, at, path)),
        };
        if within || holds(table.key(name).and_then(toml_edit::Key::span)) || holds(item.span()) {
            return true;
        }
        path.pop();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> (usize, String, String) {
        let Mistake { line, what, allowed } = parse(text).unwrap_err();
        (line, what, allowed.unwrap_or_default())
    }

    #[test]
    fn a_name_that_nobody_knows_is_told_with_the_nearest() {
        let (line, what, allowed) = mistake("# mine\n[vm]\nmemroy = \"1G\"\n");
        assert_eq!((line, what.as_str()), (3, "there is no setting 'vm.memroy'"));
        assert!(allowed.starts_with("Did you mean 'memory'? [vm] has boot_timeout, disk, "), "{allowed}");
        let (line, what, allowed) = mistake("[vms]\nmemory = \"1G\"\n");
        assert_eq!((line, what.as_str()), (1, "there is no table 'vms'"));
        assert!(allowed.starts_with("Did you mean 'vm'? There are catalog, debian, "), "{allowed}");
        let (_, what, allowed) = mistake("\n[registry.\"ghcr.io\"]\nmirror = [\"a\"]\n");
        assert_eq!(what, "there is no setting 'registry.\"ghcr.io\".mirror'");
        assert!(
            allowed.starts_with("Did you mean 'mirrors'? [registry.\"ghcr.io\"] has ca_file, "),
            "{allowed}"
        );
        let (_, what, allowed) = mistake("[vm]\nquota = 1\n");
        assert_eq!(what, "there is no setting 'vm.quota'");
        assert!(allowed.starts_with("[vm] has "), "{allowed}");
        let (line, what, _) = mistake("[[catalog]]\nurl = \"https://a\"\nsha = \"x\"\n");
        assert_eq!((line, what.as_str()), (3, "there is no setting 'catalog.sha'"));
    }

    #[test]
    fn a_value_of_another_kind_is_told_with_what_is_taken() {
        let (line, what, allowed) = mistake("[vm]\nvcpus = \"two\"\n");
        assert_eq!(line, 2);
        assert!(what.starts_with("vm.vcpus: invalid type: string"), "{what}");
        assert_eq!(allowed, "It takes a whole number, as 4.");
        let (line, what, allowed) = mistake("[vm]\nvcpus = 1\nmemory = 512\n");
        assert_eq!(line, 3);
        assert!(what.starts_with("vm.memory: this is not a size"), "{what}");
        assert!(allowed.contains("\"512M\""), "{allowed}");
        let (line, what, _) = mistake("web = { listen = \"0.0.0.0:80\" }\n");
        assert_eq!(line, 1);
        assert!(what.starts_with("web.listen: '0.0.0.0:80' is not a loopback address"), "{what}");
        let (line, what, allowed) = mistake("[vm]\nforwards = [\"80\"]\n");
        assert_eq!((line, what.starts_with("vm.forwards: ")), (2, true), "{what}");
        assert!(allowed.contains("8080:80"), "{allowed}");
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        let (line, what, allowed) = mistake("[vm]\nmemory = \n");
        assert_eq!((line, allowed.as_str()), (2, ""));
        assert!(!what.is_empty() && !what.contains('\n'), "{what}");
        let (line, what, _) = mistake("vm = 3\n");
        assert_eq!(line, 1);
        assert!(what.contains("invalid type: integer `3`"), "{what}");
        let (line, what, _) = mistake("\n[[catalog]]\nurl = \"https://a\"\n");
        assert_eq!(line, 2);
        assert!(what.contains("sha256"), "{what}");
    }
}
