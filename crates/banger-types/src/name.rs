//! Identifiers and names, valid by construction.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a name or an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a {what}: {rule}")]
pub struct NameError {
    /// The offending text, cut to 80 characters.
    pub text: String,
    /// What it should have been.
    pub what: &'static str,
    /// The rule it breaks.
    pub rule: &'static str,
}

fn name_error(text: &str, what: &'static str, rule: &'static str) -> NameError {
    NameError { text: text.chars().take(80).collect(), what, rule }
}

/// Length of every id: 12 lower-case hexadecimal digits, 48 random bits.
pub const ID_LENGTH: usize = 12;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// Twelve lower-case hexadecimal digits, so that it is safe in a path and short in a socket's.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[cfg_attr(feature = "schema", schemars(extend("pattern" = "^[0-9a-f]{12}$")))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the id made of the 48 low bits of `random`.
            pub fn from_random(random: u64) -> Self {
                Self(format!("{:012x}", random & 0xffff_ffff_ffff))
            }

            /// Returns the id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if text.len() == ID_LENGTH && text.bytes().all(hexadecimal) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(name_error(text, $what, "an id is 12 lower-case hexadecimal digits"))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier!(
    /// The id of a VM.
    VmId,
    "VM id"
);
identifier!(
    /// The id of an image.
    ImageId,
    "image id"
);
identifier!(
    /// The id of a kernel.
    KernelId,
    "kernel id"
);
identifier!(
    /// The id of an operation.
    OperationId,
    "operation id"
);

/// The name of a VM: a host name label (RFC 1123 section 2.1), for it becomes the guest's host name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("pattern" = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")))]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

impl VmName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VmName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        const RULE: &str =
            "use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends";
        let letter_or_digit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends = bytes.first().zip(bytes.last());
        let ends_are_good =
            ends.is_some_and(|(&first, &last)| letter_or_digit(first) && letter_or_digit(last));
        let all_are_good = bytes.iter().all(|&b| letter_or_digit(b) || b == b'-');
        if ends_are_good && all_are_good && bytes.len() <= 63 {
            Ok(Self(text.to_owned()))
        } else {
            Err(name_error(text, "VM name", RULE))
        }
    }
}

impl TryFrom<String> for VmName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<VmName> for String {
    fn from(name: VmName) -> Self {
        name.0
    }
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_name_is_a_host_name_label() {
        for good in ["a", "web-1", "0x", &"a".repeat(63)] {
            assert!(good.parse::<VmName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a/b", "a.b", "ä", "..", &"a".repeat(64), &"a".repeat(300)] {
            assert!(bad.parse::<VmName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_is_twelve_hexadecimal_digits() {
        assert_eq!(VmId::from_random(u64::MAX).as_str(), "ffffffffffff");
        assert_eq!(VmId::from_random(0x1f).as_str(), "00000000001f");
        for bad in ["", "../../../etc", "00000000001F", "0000000000100"] {
            assert!(bad.parse::<VmId>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<VmId>("\"../../../etc\"").is_err());
    }
}
