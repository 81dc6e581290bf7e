//! The settings in force: the configuration file's, and what the environment says over it.

use std::time::Duration;

use banger_types::location::{Locations, variable};
use banger_types::setting::{Setting, SettingOrigin};
use banger_types::{ApiError, ErrorKind};

use crate::configuration::Configuration;

/// Variables that say something that no file does, and what for.
const VARIABLES: [(&str, &str); 5] = [
    (variable::SOCKET, "the daemon's socket"),
    (variable::DATA_DIRECTORY, "the data directory"),
    (variable::PROGRAM_DIRECTORY, "where banger's programs are"),
    (variable::FIRECRACKER, "the Firecracker that is run"),
    (variable::NO_KVM, "leave KVM alone"),
];

/// Returns the configuration in force, and each of its settings with where it is from.
pub(crate) fn read(locations: &Locations) -> Result<(Configuration, Vec<Setting>), ApiError> {
    let (mut configuration, table) = match &locations.configuration {
        Some(path) => Configuration::read(path)?,
        None => Default::default(),
    };
    let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let web_listen = environment(variable::WEB_LISTEN);
    if let Some(listen) = &web_listen {
        configuration.web.listen = listen.parse().map_err(|error| {
            ApiError::caused_by(ErrorKind::Usage, format!("cannot use {}", variable::WEB_LISTEN), &error)
                .fix(format!("correct {} or unset it", variable::WEB_LISTEN))
        })?;
    }
    let is_set = |name: &str| {
        let mut at = Some(&table);
        let (tables, key) = name.rsplit_once('.').unwrap_or(("", name));
        for part in tables.split('.').filter(|part| !part.is_empty()) {
            at = at.and_then(|table| table.get(part)?.as_table());
        }
        at.is_some_and(|table| table.contains_key(key))
    };
    let origin = |name: &str| match &locations.configuration {
        _ if name == "web.listen" && web_listen.is_some() => {
            SettingOrigin::Environment(variable::WEB_LISTEN.to_owned())
        }
        Some(path) if is_set(name) => SettingOrigin::File(path.clone()),
        _ => SettingOrigin::Default,
    };
    let mut settings: Vec<Setting> = effective(&configuration)
        .into_iter()
        .map(|(name, value, meaning)| Setting {
            origin: origin(name),
            name: name.to_owned(),
            value,
            meaning: meaning.to_owned(),
        })
        .collect();
    settings.extend(VARIABLES.iter().filter_map(|(name, meaning)| {
        environment(name).map(|value| Setting {
            name: (*name).to_owned(),
            value,
            meaning: (*meaning).to_owned(),
            origin: SettingOrigin::Environment((*name).to_owned()),
        })
    }));
    Ok((configuration, settings))
}

/// Returns the name, the value and the meaning of everything that can be set.
fn effective(configuration: &Configuration) -> Vec<(&'static str, String, &'static str)> {
    let Configuration { vm, image, registry, debian, operations, web, catalog } = configuration;
    let keyring = debian.keyring.as_ref().map(|path| path.display().to_string());
    let names = |names: Vec<&str>| names.join(", ");
    vec![
        ("web.listen", web.listen.to_string(), "where the web console listens"),
        ("vm.image", vm.image.clone(), "the image of a VM for which none is named"),
        ("vm.kernel", vm.kernel.clone(), "the kernel of a VM for which none is named"),
        ("vm.vcpus", vm.vcpus.to_string(), "virtual CPUs of a new VM"),
        ("vm.memory", vm.memory.to_string(), "memory of a new VM"),
        ("vm.disk", vm.disk.to_string(), "how large the disk of a new VM may become"),
        ("vm.boot_timeout", time(vm.boot_timeout), "how long a guest may take to its first session"),
        ("image.largest", image.largest.to_string(), "most that an image may unpack to"),
        ("image.most_entries", image.most_entries.to_string(), "most files that an image may have"),
        ("debian.mirror", debian.mirror.clone().unwrap_or_default(), "the mirror of Debian's archive"),
        (
            "debian.security_mirror",
            debian.security_mirror.clone().unwrap_or_default(),
            "the mirror of Debian's security updates",
        ),
        ("debian.keyring", keyring.unwrap_or_default(), "keys that Debian's archive is verified with"),
        ("operations.at_once", operations.at_once.to_string(), "how many operations make something at once"),
        ("operations.kept", time(operations.kept), "how long operations that have ended are remembered"),
        (
            "registry",
            names(registry.keys().map(String::as_str).collect()),
            "registries that are spoken to in a way of their own",
        ),
        ("catalog", names(catalog.iter().map(|list| list.url.as_str()).collect()), "catalogs from elsewhere"),
    ]
}

/// Returns a time as it is written in the configuration file.
fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_says_where_it_is_from() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        std::fs::write(&file, "[vm]\nmemory = \"1G\"\n[operations]\nkept = \"90m\"\n").unwrap();
        let locations = Locations {
            data: directory.path().to_owned(),
            configuration: Some(file.clone()),
            socket: directory.path().join("socket"),
        };
        let (_, settings) = read(&locations).unwrap();
        let of = |name: &str| {
            let found = settings.iter().find(|setting| setting.name == name).unwrap();
            (found.value.as_str(), found.origin.clone())
        };
        assert_eq!(of("vm.memory"), ("1G", SettingOrigin::File(file.clone())));
        assert_eq!(of("vm.vcpus"), ("2", SettingOrigin::Default));
        assert_eq!(of("operations.kept"), ("90m", SettingOrigin::File(file)));
        assert_eq!(of("vm.boot_timeout"), ("5m", SettingOrigin::Default));
    }
}
