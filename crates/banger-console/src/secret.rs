//! Secrets: random, and compared in the same time whatever they are compared with.

use std::fmt;
use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// How many random bytes a secret has.
const LENGTH: usize = 24;

/// Something that nobody can guess, as hexadecimal digits.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// Returns a new one.
    pub(crate) fn new() -> io::Result<Self> {
        let mut bytes = [0_u8; LENGTH];
        let mut filled = 0;
        while filled < LENGTH {
            filled += rustix::io::retry_on_intr(|| getrandom(&mut bytes[filled..], GetRandomFlags::empty()))?;
        }
        let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        Ok(Self(digits.map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])).collect()))
    }

    /// Returns it, for those who are to have it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Returns whether somebody knows it. How much of it they know does not show in how long that takes.
    pub(crate) fn is(&self, guess: &str) -> bool {
        let (own, guess) = (self.0.as_bytes(), guess.as_bytes());
        if own.len() != guess.len() {
            return false;
        }
        let difference = own.iter().zip(guess).fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_whole_or_not_at_all() {
        let (one, other) = (Secret::new().unwrap(), Secret::new().unwrap());
        assert!(one.is(one.reveal()));
        assert_eq!(one.reveal().len(), 2 * LENGTH);
        assert!(!one.is(other.reveal()));
        assert!(!one.is(&one.reveal()[1..]));
        assert!(!one.is(""));
        let mut almost = one.reveal().to_owned();
        let last = if almost.pop() == Some('0') { '1' } else { '0' };
        almost.push(last);
        assert!(!one.is(&almost));
        assert!(!format!("{one:?}").contains(one.reveal()));
    }
}
