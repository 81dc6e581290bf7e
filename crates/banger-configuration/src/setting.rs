//! The settings in force: the file's, and what the environment says over it.

use banger_types::location::{Locations, variable};
use banger_types::setting::{Setting, SettingOrigin};
use banger_types::{ApiError, ErrorKind};
use toml_edit::{Document, TableLike};

use crate::configuration::Configuration;
use crate::file::ConfigurationFile;
use crate::key::{ANY, KEYS, Key};

/// A variable of the environment that says what no file does.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it says, on one line.
    pub meaning: &'static str,
}

/// Variables that say something that no file does.
pub const VARIABLES: [Variable; 5] = [
    Variable { name: variable::SOCKET, meaning: "the daemon's socket" },
    Variable { name: variable::DATA_DIRECTORY, meaning: "the data directory" },
    Variable { name: variable::PROGRAM_DIRECTORY, meaning: "where banger's programs are" },
    Variable { name: variable::FIRECRACKER, meaning: "the Firecracker that is run" },
    Variable { name: variable::NO_KVM, meaning: "leave KVM alone" },
];

/// What is in force.
#[derive(Debug, Clone)]
pub struct Effective {
    /// All of it.
    pub configuration: Configuration,
    /// Each setting, with where it is from.
    pub settings: Vec<Setting>,
}

impl Effective {
    /// Reads it, with `environment` for variables that are set and not empty.
    pub fn read(
        locations: &Locations,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ApiError> {
        let file = locations.configuration.clone().map(ConfigurationFile::new);
        let (mut configuration, text) =
            file.as_ref().map_or_else(|| Ok(Default::default()), ConfigurationFile::read)?;
        if let Some(listen) = environment(variable::WEB_LISTEN) {
            configuration.web.listen = listen.parse().map_err(|error| {
                ApiError::caused_by(ErrorKind::Usage, format!("cannot use {}", variable::WEB_LISTEN), &error)
                    .fix(format!("correct {} or unset it", variable::WEB_LISTEN))
            })?;
        }
        let document = Document::parse(text).ok();
        let origin = |key: &Key, name: &str| {
            if let Some(variable) = key.variable.filter(|variable| environment(variable).is_some()) {
                return SettingOrigin::Environment(variable.to_owned());
            }
            let is_set = document.as_ref().is_some_and(|document| is_set(document.as_table(), name));
            match &file {
                Some(file) if is_set => SettingOrigin::File(file.path().to_owned()),
                _ => SettingOrigin::Default,
            }
        };
        let of_key = |key: &'static Key| {
            let values = (key.values)(&configuration).into_iter();
            let setting = |(name, value): (String, String)| Setting {
                origin: origin(key, &name),
                name,
                value,
                meaning: key.meaning.to_owned(),
                at_restart: None,
            };
            // What stands in the file for each registry or catalog is there only if somebody has set it.
            values
                .map(setting)
                .filter(|setting| !key.name.contains(ANY) || setting.origin != SettingOrigin::Default)
                .collect::<Vec<_>>()
        };
        let mut settings: Vec<Setting> = KEYS.iter().flat_map(of_key).collect();
        settings.extend(VARIABLES.iter().filter_map(|variable| {
            environment(variable.name).map(|value| Setting {
                name: variable.name.to_owned(),
                value,
                meaning: variable.meaning.to_owned(),
                origin: SettingOrigin::Environment(variable.name.to_owned()),
                at_restart: None,
            })
        }));
        Ok(Self { configuration, settings })
    }
}

/// Whether a file's text sets what has this name.
fn is_set(table: &dyn TableLike, name: &str) -> bool {
    let Ok(parts) = toml_edit::Key::parse(name) else { return false };
    let Some((last, tables)) = parts.split_last() else { return false };
    let mut at = Some(table);
    for part in tables {
        let item = at.and_then(|table| table.get(part.get()));
        // There may be several of it.
        if item.is_some_and(toml_edit::Item::is_array_of_tables) {
            return true;
        }
        at = item.and_then(toml_edit::Item::as_table_like);
    }
    at.is_some_and(|table| table.contains_key(last.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_says_where_it_is_from() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        let text =
            "[vm]\nmemory = \"1G\"\n[operations]\nkept = \"90m\"\n[registry.\"a:1\"]\nplain_http = true\n";
        std::fs::write(&file, text).unwrap();
        let locations = Locations {
            data: directory.path().to_owned(),
            configuration: Some(file.clone()),
            socket: directory.path().join("socket"),
        };
        let environment = |name: &str| match name {
            variable::WEB_LISTEN => Some("off".to_owned()),
            variable::NO_KVM => Some("1".to_owned()),
            _ => None,
        };
        let settings = Effective::read(&locations, environment).unwrap().settings;
        let of = |name: &str| {
            let found = settings.iter().find(|setting| setting.name == name);
            let found = found.unwrap_or_else(|| panic!("no {name}"));
            (found.value.as_str(), found.origin.clone())
        };
        assert_eq!(of("vm.memory"), ("1G", SettingOrigin::File(file.clone())));
        assert_eq!(of("vm.vcpus"), ("2", SettingOrigin::Default));
        assert_eq!(of("operations.kept"), ("90m", SettingOrigin::File(file.clone())));
        assert_eq!(of("vm.boot_timeout"), ("5m", SettingOrigin::Default));
        assert_eq!(of("registry.\"a:1\".plain_http"), ("true", SettingOrigin::File(file)));
        assert_eq!(of("web.listen"), ("off", SettingOrigin::Environment(variable::WEB_LISTEN.to_owned())));
        assert_eq!(of(variable::NO_KVM).0, "1");
        assert!(!settings.iter().any(|setting| setting.name.ends_with("ca_file")));
    }
}
