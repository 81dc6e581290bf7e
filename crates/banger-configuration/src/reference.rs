//! The reference of what can be set, made of the table of it.

use std::fmt::Write as _;

use crate::configuration::Configuration;
use crate::key::{ANY, Applies, KEYS, Key};
use crate::setting::VARIABLES;

/// What comes before the tables.
const BEGIN: &str = "\
# Configuration

What can be set is set in `~/.config/banger/config.toml` (`$XDG_CONFIG_HOME/banger/config.toml` where that is set), which need not exist.

- `banger config set vm.memory 4G` changes it, and leaves the rest of it as it is; `banger config unset vm.memory` takes it out again.
- `banger config edit` opens it in your editor, and takes what you wrote once it has no mistake.
- `banger config show --origin` shows what is in force, and where each setting is from; `banger config get vm.memory` prints one.
- `banger config validate` looks for mistakes, and says the line, what is allowed there, and what you may have meant.

A change is in force with the next thing that is made, but for those of which it says otherwise. While the file has a mistake, nothing
is made by it; VMs that there are go on.
";

/// Returns the reference, as Markdown.
pub fn reference() -> String {
    let mut text = BEGIN.to_owned();
    let mut table = "";
    for key in KEYS {
        let (of, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        if of != table {
            table = of;
            text.push_str(&heading(table));
        }
        let _ = writeln!(text, "| `{name}` | {} | {} | {} |", key.takes.words(), default(key), meaning(key));
    }
    text.push_str("\n## Variables of the environment\n\nThey count over the file, for the daemon that has them.\n\n| variable | says |\n|---|---|\n");
    for (name, meaning) in KEYS
        .iter()
        .filter_map(|key| Some((key.variable?, key.meaning)))
        .chain(VARIABLES.iter().map(|variable| (variable.name, variable.meaning)))
    {
        let _ = writeln!(text, "| `{name}` | {meaning} |");
    }
    text
}

fn heading(table: &str) -> String {
    let written = match table {
        "catalog" => "[[catalog]]".to_owned(),
        table => format!("[{}]", table.replace(ANY, "\"HOST\"")),
    };
    format!("\n## `{written}`\n\n| key | takes | unless set | is |\n|---|---|---|---|\n")
}

fn default(key: &Key) -> String {
    let values = (key.values)(&Configuration::default());
    match values.first() {
        Some((_, value)) if !value.is_empty() => format!("`{value}`"),
        _ => String::new(),
    }
}

fn meaning(key: &Key) -> String {
    match key.applies {
        Applies::AtOnce => key.meaning.to_owned(),
        Applies::AtRestart => format!("{}; in force after `banger daemon restart`", key.meaning),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_can_be_set_is_in_it() {
        let text = reference();
        for key in KEYS {
            let name = key.name.rsplit('.').next().unwrap();
            assert!(text.contains(&format!("| `{name}` | {} |", key.takes.words())), "{}", key.name);
        }
        assert!(text.contains("\n## `[registry.\"HOST\"]`\n") && text.contains("\n## `[[catalog]]`\n"));
        assert!(
            text.contains(
                "| `memory` | a size in quotes, as \"512M\" or \"2G\" | `2G` | memory of a new VM |"
            )
        );
        assert!(text.contains("| `BANGER_NO_KVM` | leave KVM alone |"));
    }
}
