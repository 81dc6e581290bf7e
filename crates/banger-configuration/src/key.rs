//! The table of everything that can be set.

use banger_types::location::variable;

use crate::configuration::Configuration;
use crate::value::written_time;

/// Something that can be set.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name: the tables and the key, as `vm.memory`. `HOST` stands for the name of any registry.
    pub name: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// What it is for, on one line.
    pub meaning: &'static str,
    /// When a change of it is in force.
    pub applies: Applies,
    /// The variable of the daemon's environment that says it over the file.
    pub variable: Option<&'static str>,
    /// Returns the names and the values that a configuration has of it: one, or one for each registry.
    pub(crate) values: fn(&Configuration) -> Vec<(String, String)>,
}

/// When a change is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// With the next thing that is done.
    AtOnce,
    /// With the daemon's next start.
    AtRestart,
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A name.
    Name,
    /// The path of a file.
    File,
    /// An address of the web.
    Address,
    /// A whole number.
    Number,
    /// An amount of memory or disk.
    Size,
    /// How long something takes.
    Time,
    /// Yes or no.
    Flag,
    /// Names, in an order.
    Names,
    /// Forwards.
    Forwards,
    /// A network.
    Network,
    /// Where the web console listens.
    Listen,
    /// A digest.
    Digest,
}

impl Takes {
    /// Returns what that is, with an example, as it is written in the file.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Name => "a name in quotes",
            Self::File => "the absolute path of a file, in quotes",
            Self::Address => "an address in quotes, as \"https://mirror.example/debian\"",
            Self::Number => "a whole number, as 4",
            Self::Size => "a size in quotes, as \"512M\" or \"2G\"",
            Self::Time => "a time in quotes, as \"90s\", \"5m\" or \"1h\"",
            Self::Flag => "true or false",
            Self::Names => "names in quotes and brackets, as [\"mirror.example:5000\"]",
            Self::Forwards => "forwards in quotes and brackets, as [\"8080:80\", \"5353:53/udp\"]",
            Self::Network => "\"user\", \"nat\" or \"none\"",
            Self::Listen => "an address of loopback with a port, as \"127.0.0.1:7777\", or \"off\"",
            Self::Digest => "a digest in quotes, as \"sha256:…\"",
        }
    }
}

/// Everything that can be set.
pub const KEYS: &[Key] = &[
    Key {
        variable: Some(variable::WEB_LISTEN),
        applies: Applies::AtRestart,
        ..key("web.listen", Takes::Listen, "where the web console listens", |it| {
            one("web.listen", &it.web.listen)
        })
    },
    key("vm.image", Takes::Name, "the image of a VM for which none is named", |it| {
        one("vm.image", &it.vm.image)
    }),
    key("vm.kernel", Takes::Name, "the kernel of a VM for which none is named", |it| {
        one("vm.kernel", &it.vm.kernel)
    }),
    key("vm.vcpus", Takes::Number, "virtual CPUs of a new VM", |it| one("vm.vcpus", &it.vm.vcpus)),
    key("vm.memory", Takes::Size, "memory of a new VM", |it| one("vm.memory", &it.vm.memory)),
    key("vm.disk", Takes::Size, "how large the disk of a new VM may become", |it| {
        one("vm.disk", &it.vm.disk)
    }),
    key(
        "vm.network",
        Takes::Network,
        "the network of a new VM; the best that the host is ready for, if unset",
        |it| one("vm.network", &it.vm.network.map(|network| network.to_string()).unwrap_or_default()),
    ),
    key("vm.forwards", Takes::Forwards, "ports of the host that lead into every new VM", |it| {
        one("vm.forwards", &it.vm.forwards.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }),
    key("vm.boot_timeout", Takes::Time, "how long a guest may take to its first session", |it| {
        one("vm.boot_timeout", &written_time(it.vm.boot_timeout))
    }),
    key("image.largest", Takes::Size, "most that an image may unpack to", |it| {
        one("image.largest", &it.image.largest)
    }),
    key("image.most_entries", Takes::Number, "most files that an image may have", |it| {
        one("image.most_entries", &it.image.most_entries)
    }),
    key("debian.mirror", Takes::Address, "the mirror of Debian's archive; apt's, if unset", |it| {
        one("debian.mirror", &it.debian.mirror.as_deref().unwrap_or_default())
    }),
    key("debian.security_mirror", Takes::Address, "the mirror of Debian's security updates", |it| {
        one("debian.security_mirror", &it.debian.security_mirror.as_deref().unwrap_or_default())
    }),
    key("debian.keyring", Takes::File, "keys that Debian's archive is verified with", |it| {
        let keyring = it.debian.keyring.as_ref().map(|path| path.display().to_string());
        one("debian.keyring", &keyring.unwrap_or_default())
    }),
    Key {
        applies: Applies::AtRestart,
        ..key("operations.at_once", Takes::Number, "how many operations make something at once", |it| {
            one("operations.at_once", &it.operations.at_once)
        })
    },
    Key {
        applies: Applies::AtRestart,
        ..key("operations.kept", Takes::Time, "how long operations that have ended are remembered", |it| {
            one("operations.kept", &written_time(it.operations.kept))
        })
    },
    key("registry.HOST.mirrors", Takes::Names, "registries that have the same, asked first", |it| {
        of_registries(it, "mirrors", |registry| registry.mirrors.join(", "))
    }),
    key("registry.HOST.plain_http", Takes::Flag, "whether this registry has no TLS", |it| {
        of_registries(it, "plain_http", |registry| registry.plain_http.to_string())
    }),
    key(
        "registry.HOST.ca_file",
        Takes::File,
        "certificates that are trusted for this registry, in PEM",
        |it| {
            let shown = |path: &std::path::PathBuf| path.display().to_string();
            of_registries(it, "ca_file", |registry| registry.ca_file.as_ref().map(shown).unwrap_or_default())
        },
    ),
    Key {
        applies: Applies::AtRestart,
        ..key("catalog.url", Takes::Address, "where a catalog is, of `[[catalog]]`", |it| {
            it.catalog.iter().map(|list| ("catalog.url".to_owned(), list.url.clone())).collect()
        })
    },
    Key {
        applies: Applies::AtRestart,
        ..key("catalog.sha256", Takes::Digest, "the digest of what is there", |it| {
            it.catalog.iter().map(|list| ("catalog.sha256".to_owned(), list.sha256.to_string())).collect()
        })
    },
];

/// The part of a key's name that stands for any.
pub(crate) const ANY: &str = "HOST";

const fn key(
    name: &'static str,
    takes: Takes,
    meaning: &'static str,
    values: fn(&Configuration) -> Vec<(String, String)>,
) -> Key {
    Key { name, takes, meaning, applies: Applies::AtOnce, variable: None, values }
}

fn one(name: &str, value: &impl std::fmt::Display) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_string())]
}

fn of_registries(
    configuration: &Configuration,
    key: &str,
    value: impl Fn(&crate::RegistrySettings) -> String,
) -> Vec<(String, String)> {
    let of = |(host, registry): (&String, _)| (format!("registry.{}.{key}", quoted(host)), value(registry));
    configuration.registry.iter().map(of).collect()
}

/// Returns a part of a name as it is written: in quotes where it has to be.
pub(crate) fn quoted(part: &str) -> String {
    toml_edit::Key::new(part).display_repr().into_owned()
}

impl Key {
    /// Returns the name of a setting as it is written, whatever quotes somebody typed it with.
    pub fn normal_name(typed: &str) -> Result<String, crate::EditError> {
        crate::edit::key_of(typed).map(|(_, parts)| crate::mistake::written(&parts))
    }

    /// Returns the key that this name, part by part, is of.
    pub(crate) fn of<T: AsRef<str>>(parts: &[T]) -> Option<&'static Self> {
        let is_it = |key: &&Self| {
            let known: Vec<_> = key.name.split('.').collect();
            known.len() == parts.len() && begins(&known, parts)
        };
        KEYS.iter().find(is_it)
    }

    /// Returns what may come next after these parts of a name; nothing after what nobody knows.
    pub(crate) fn after<T: AsRef<str>>(parts: &[T]) -> Vec<&'static str> {
        let mut next: Vec<_> = KEYS
            .iter()
            .filter_map(|key| {
                let known: Vec<_> = key.name.split('.').collect();
                (known.len() > parts.len() && begins(&known, parts)).then(|| known[parts.len()])
            })
            .collect();
        next.sort_unstable();
        next.dedup();
        next
    }
}

fn begins<T: AsRef<str>>(known: &[&str], parts: &[T]) -> bool {
    known.iter().zip(parts).all(|(known, part)| *known == ANY || *known == part.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_part_by_part() {
        assert_eq!(Key::of(&["vm", "memory"]).unwrap().name, "vm.memory");
        assert_eq!(Key::of(&["registry", "ghcr.io", "mirrors"]).unwrap().name, "registry.HOST.mirrors");
        for parts in [&["vm"][..], &["vm", "memroy"], &["vm", "memory", "x"], &[]] {
            assert!(Key::of(parts).is_none(), "{parts:?}");
        }
        assert_eq!(Key::after(&["registry", "ghcr.io"]), ["ca_file", "mirrors", "plain_http"]);
        assert_eq!(
            Key::after::<&str>(&[]),
            ["catalog", "debian", "image", "operations", "registry", "vm", "web"]
        );
        assert!(Key::after(&["nothing"]).is_empty());
    }

    #[test]
    fn every_key_is_one_of_the_files_and_says_its_default() {
        let configuration = Configuration::default();
        for key in KEYS.iter().filter(|key| !key.name.contains(ANY) && !key.name.starts_with("catalog.")) {
            let values = (key.values)(&configuration);
            assert_eq!(values.iter().map(|(name, _)| name).collect::<Vec<_>>(), [key.name]);
        }
    }
}
