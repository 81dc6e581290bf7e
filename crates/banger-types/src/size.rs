//! Sizes as people write them: `512M`, `2G`, `1.5GiB`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bytes in one MiB.
pub const MIB: u64 = 1 << 20;

/// A size in whole MiB. A number in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Mebibytes(pub u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number, or an unknown unit.
    #[error("'{0}' is not a size; write a number with M, G or T, as in 512M or 2G")]
    Syntax(String),
    /// Not a whole number of MiB, zero, or beyond 64 bits.
    #[error("'{0}' is not a whole, positive number of MiB")]
    Range(String),
}

impl Mebibytes {
    /// Returns the size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 * MIB
    }

    /// Returns it as a person reads it: `512 MiB`, `2 GiB`.
    pub fn binary(self) -> String {
        let typed = self.to_string();
        let (number, unit) = typed.split_at(typed.len() - 1);
        format!("{number} {unit}iB")
    }
}

impl FromStr for Mebibytes {
    type Err = SizeError;

    /// Reads a size. Units are powers of 1024, with or without `iB` or `B`; a bare number is MiB.
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let syntax = || SizeError::Syntax(text.to_owned());
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(split);
        let bytes_per_unit: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "m" | "mb" | "mib" => MIB,
            "g" | "gb" | "gib" => MIB << 10,
            "t" | "tb" | "tib" => MIB << 20,
            _ => return Err(syntax()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let whole: u64 = whole.parse().map_err(|_| syntax())?;
        let range = || SizeError::Range(text.to_owned());
        let mut bytes = whole.checked_mul(bytes_per_unit).ok_or_else(range)?;
        if !fraction.is_empty() {
            let scale =
                10u64.checked_pow(u32::try_from(fraction.len()).map_err(|_| range())?).ok_or_else(range)?;
            let part: u64 = fraction.parse().map_err(|_| syntax())?;
            bytes = part
                .checked_mul(bytes_per_unit)
                .and_then(|p| bytes.checked_add(p / scale))
                .ok_or_else(range)?;
        }
        if bytes == 0 || bytes % MIB != 0 {
            return Err(range());
        }
        Ok(Self(bytes / MIB))
    }
}

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= 1 << 20 && n % (1 << 20) == 0 => write!(f, "{}T", n >> 20),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => write!(f, "{}G", n >> 10),
            n => write!(f, "{n}M"),
        }
    }
}

/// Returns `bytes` as a person reads it: `3.2 MB`, in powers of 1000.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut divisor = 1u64;
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes / divisor >= 1000 {
        divisor *= 1000;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    let tenths = u128::from(bytes) * 10 / u128::from(divisor);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Returns `bytes` as a person reads it: `3.2 MiB`, in powers of 1024.
pub fn binary_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut divisor = 1u64;
    let mut unit = 0;
    while unit + 1 < UNITS.len() && bytes / divisor >= 1024 {
        divisor *= 1024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    let tenths = u128::from(bytes) * 10 / u128::from(divisor);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, mebibytes) in
            [("512M", 512), ("512", 512), ("2G", 2048), ("1.5GiB", 1536), ("1t", 1 << 20), ("20gb", 20480)]
        {
            assert_eq!(text.parse(), Ok(Mebibytes(mebibytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "G", "-1G", "0", "1.3M", "9999999999999999T", "2 monkeys", "1.1.1G", "1k"] {
            assert!(text.parse::<Mebibytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_size_prints_in_its_largest_whole_unit() {
        assert_eq!(Mebibytes(2048).to_string(), "2G");
        assert_eq!(Mebibytes(1536).to_string(), "1536M");
        assert_eq!(
            [1536, 2048, 3 << 20].map(|size| Mebibytes(size).binary()),
            ["1536 MiB", "2 GiB", "3 TiB"]
        );
        assert_eq!(human_bytes(999), "999 B");
        assert_eq!(human_bytes(26_713_492), "26.7 MB");
        assert_eq!(binary_bytes(1023), "1023 B");
        assert_eq!(binary_bytes(1536), "1.5 KiB");
        assert_eq!(binary_bytes(5 << 50), "5120.0 TiB");
    }
}
