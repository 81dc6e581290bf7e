//! Values that are written as text, and what they mean.

use std::time::Duration;

use banger_types::forwards::read_forwards;
use banger_types::monitor::Forward;
use banger_types::size::Mebibytes;
use banger_types::source::is_secure_address;
use banger_types::vm::NetworkMode;
use banger_types::web::WebListen;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Longest time that makes sense for most, seconds.
const LONGEST_TIME: u64 = 24 * 3600;
/// The networks that there are.
pub(crate) const NETWORKS: [NetworkMode; 3] = [NetworkMode::User, NetworkMode::Nat, NetworkMode::None];

/// Reads where the web console listens.
pub(crate) fn web_listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<WebListen, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// Reads an address that nobody on the way can change what comes from.
pub(crate) fn secure_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let url = String::deserialize(deserializer)?;
    if is_secure_address(&url) {
        Ok(url)
    } else {
        Err(D::Error::custom(format!("the address '{url}' does not begin with https://")))
    }
}

/// Reads a network's name.
pub(crate) fn network<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NetworkMode>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let found = NETWORKS.into_iter().find(|network| network.to_string() == name);
    found.map(Some).ok_or_else(|| D::Error::custom(format!("there is no network '{name}'")))
}

/// Reads forwards as `-p` takes them: each of a port or of a range.
pub(crate) fn forwards<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Forward>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let read: Result<Vec<_>, _> = texts.iter().map(|text| read_forwards(text)).collect();
    Ok(read.map_err(D::Error::custom)?.into_iter().flatten().collect())
}

/// Reads a size, as `512M`.
pub(crate) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mebibytes, D::Error> {
    let Size::Text(text) = Size::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "this is not a size; write one in quotes, as in \"512M\" or \"2G\"")]
enum Size {
    Text(String),
}

/// Reads a time: a whole number of seconds, or one with its unit, as in `90s`, `5m` or `1h`.
pub(crate) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    time_to(deserializer, LONGEST_TIME)
}

/// Reads a time that may be as long as 30 days.
pub(crate) fn long_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    time_to(deserializer, 30 * LONGEST_TIME)
}

fn time_to<'de, D: Deserializer<'de>>(deserializer: D, longest: u64) -> Result<Duration, D::Error> {
    let text = match Time::deserialize(deserializer)? {
        Time::Seconds(seconds) => seconds.to_string(),
        Time::Text(text) => text,
    };
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let unit = match unit {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    match seconds {
        Some(seconds) if (1..=longest).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(D::Error::custom(format!(
            "'{text}' is not a time from 1s to {}h; write a whole number with s, m or h, as in 90s or 5m",
            longest / 3600
        ))),
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "this is not a time; write a whole number of seconds, or one with its unit in quotes, as in \"5m\""
)]
enum Time {
    Seconds(u64),
    Text(String),
}

/// Reads a number of virtual CPUs: one at least.
pub(crate) fn vcpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let vcpus = u32::deserialize(deserializer)?;
    if vcpus == 0 { Err(D::Error::custom("a VM has one virtual CPU at least")) } else { Ok(vcpus) }
}

/// Returns a time as it is written.
pub(crate) fn written_time(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use crate::Configuration;

    #[test]
    fn times_have_units_and_bounds() {
        let read = |value: &str| {
            let text = format!("[vm]\nboot_timeout = {value}\n");
            toml::from_str::<Configuration>(&text).map(|it| it.vm.boot_timeout.as_secs())
        };
        for (value, seconds) in [("7", 7), ("\"7\"", 7), ("\"90s\"", 90), ("\"5m\"", 300), ("\"1h\"", 3600)] {
            assert_eq!(read(value).unwrap(), seconds, "{value}");
        }
        for value in
            ["0", "\"\"", "\"m\"", "\"5 m\"", "\"-5m\"", "\"5d\"", "\"25h\"", "\"99999999999999999999s\""]
        {
            assert!(read(value).unwrap_err().message().contains("is not a time from 1s to 24h"), "{value}");
        }
        assert!(read("-1").unwrap_err().message().contains("this is not a time"));
        assert!(read("true").unwrap_err().message().contains("this is not a time"));
    }

    #[test]
    fn forwards_and_networks_are_read_as_the_command_line_takes_them() {
        let text = "[vm]\nforwards = [\"8080:80\", \"53:53/udp\", \"9000-9001:90-91\"]\nnetwork = \"none\"\n";
        let vm = toml::from_str::<Configuration>(text).unwrap().vm;
        let ports: Vec<_> = vm.forwards.iter().map(|it| (it.listen.to_string(), it.guest_port)).collect();
        let expected = [("8080", 80), ("53/udp", 53), ("9000", 90), ("9001", 91)];
        assert_eq!(ports, expected.map(|(port, guest)| (format!("127.0.0.1:{port}"), guest)));
        assert_eq!(vm.network.unwrap().to_string(), "none");
        let error = toml::from_str::<Configuration>("[vm]\nnetwork = \"bridge\"\n").unwrap_err();
        assert!(error.message().contains("there is no network 'bridge'"), "{error}");
    }
}
