//! The configuration drive.

use std::fs::File;
use std::io::{self, Read as _};

use banger_types::guest::{CONFIG_VERSION, GuestConfig, drive};

/// Most bytes that are read from the drive.
const LIMIT: u64 = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The drive or file could not be read.
    #[error("cannot read it")]
    Io(#[from] io::Error),
    /// It is too long.
    #[error("it is longer than {LIMIT} bytes")]
    TooLong,
    /// It is no configuration.
    #[error("it is not a guest configuration")]
    Syntax(#[from] serde_json::Error),
    /// It is for another build.
    #[error("it has version {0}, and this build knows {CONFIG_VERSION}")]
    Version(u32),
}

/// Returns the drive's contents without the padding.
pub(super) fn read() -> Result<Vec<u8>, ConfigError> {
    let mut bytes = Vec::new();
    File::open(drive::CONFIG)?.take(LIMIT + 1).read_to_end(&mut bytes)?;
    // The drive itself may be larger than what is on it: it ends with the first NUL, which JSON never has.
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    if end as u64 > LIMIT {
        return Err(ConfigError::TooLong);
    }
    bytes.truncate(end);
    Ok(bytes)
}

/// Returns the configuration that `bytes` are.
pub fn parse(bytes: &[u8]) -> Result<GuestConfig, ConfigError> {
    let config: GuestConfig = serde_json::from_slice(bytes)?;
    if config.version == CONFIG_VERSION { Ok(config) } else { Err(ConfigError::Version(config.version)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_refused_by_number() {
        let text = r#"{"version":7,"hostname":"a","ssh":{"host_private_key":"","authorized_keys":[]},
            "network":null,"image":{},"unix_time_ns":0}"#;
        assert!(matches!(parse(text.as_bytes()), Err(ConfigError::Version(7))));
        assert!(parse(text.replace("7,", "1,").as_bytes()).is_ok());
        assert!(matches!(parse(b"\0\0"), Err(ConfigError::Syntax(_))));
    }
}
