//! The environment of a session.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use super::Login;
use crate::init::DEFAULT_PATH;

/// Variables of a session, without doubles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Returns what a user's session begins with: a default `PATH`, the image's variables, and who the user is.
    ///
    /// The image's `HOME` counts for a user without an entry in `/etc/passwd` only: for others it would be the home of
    /// whoever the image thought of.
    pub fn of_session(image: &[String], login: &Login) -> Self {
        let mut environment = Self::default();
        environment.set("PATH", DEFAULT_PATH);
        let mut home_of_image = false;
        for entry in image {
            if let Some((name, value)) = entry.split_once('=') {
                home_of_image |= environment.set(name, value) && name == "HOME";
            }
        }
        if login.has_entry || !home_of_image {
            environment.set("HOME", &login.home);
        }
        environment.set("USER", &login.name);
        environment.set("LOGNAME", &login.name);
        environment.set("SHELL", &login.shell);
        environment
    }

    /// Sets a variable. Returns false, and does nothing, when the kernel could not pass it on: an empty name, `=` in a name,
    /// NUL anywhere.
    pub fn set(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> bool {
        let (name, value) = (name.as_ref(), value.as_ref());
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.contains(&b'=') || bytes.contains(&0) || value.as_bytes().contains(&0) {
            return false;
        }
        self.0.insert(name.to_owned(), value.to_owned());
        true
    }

    /// Sets a variable of bytes; see [`Environment::set`].
    pub fn set_bytes(&mut self, name: Vec<u8>, value: Vec<u8>) -> bool {
        self.set(OsString::from_vec(name), OsString::from_vec(value))
    }

    /// Sets a variable that is not set yet; see [`Environment::set`].
    pub fn set_if_missing(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        if !self.0.contains_key(name.as_ref()) {
            self.set(name, value);
        }
    }

    /// Returns a variable's value.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// Returns all variables.
    pub fn iter(&self) -> impl Iterator<Item = (&OsString, &OsString)> {
        self.0.iter()
    }
}

/// Returns whether an SSH client may set this variable (RFC 4254 section 6.4).
///
/// The client is the guest's owner, and what it sets takes effect only after the user was changed: any identifier will do,
/// but for the dynamic linker's, which would break every program of a session at once and which nobody sends on purpose.
pub fn is_settable_by_client(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    first && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.starts_with("LD_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::find;

    fn login(user: &str) -> Login {
        let etc = tempfile::tempdir().unwrap();
        std::fs::write(etc.path().join("passwd"), "dev:x:1000:1000::/home/dev:/bin/zsh\n").unwrap();
        find(etc.path(), user).unwrap()
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_session_knows_its_user_and_the_images_variables() {
        let image = strings(&["PATH=/app/bin", "HOME=/root", "EMPTY=", "A=b=c", "broken", "=x"]);
        let environment = Environment::of_session(&image, &login("dev"));
        for (name, value) in [
            ("PATH", "/app/bin"),
            ("HOME", "/home/dev"),
            ("USER", "dev"),
            ("LOGNAME", "dev"),
            ("SHELL", "/bin/zsh"),
            ("EMPTY", ""),
            ("A", "b=c"),
        ] {
            assert_eq!(environment.get(name), Some(OsStr::new(value)), "{name}");
        }
        assert_eq!(environment.iter().count(), 7);
    }

    #[test]
    fn the_images_home_is_that_of_users_without_an_entry() {
        let image = strings(&["HOME=/app"]);
        assert_eq!(Environment::of_session(&image, &login("4711")).get("HOME"), Some(OsStr::new("/app")));
        assert_eq!(Environment::of_session(&[], &login("4711")).get("HOME"), Some(OsStr::new("/")));
        let path = Environment::of_session(&[], &login("dev")).get("PATH").map(OsStr::to_owned);
        assert_eq!(path, Some(OsString::from(DEFAULT_PATH)));
    }

    #[test]
    fn what_the_kernel_cannot_pass_on_is_left_out() {
        let mut environment = Environment::default();
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
            assert!(!environment.set(name, value));
        }
        assert!(environment.set_bytes(b"ODD\xff".to_vec(), vec![0xfe]));
        assert_eq!(environment.iter().count(), 1);
    }

    #[test]
    fn clients_set_identifiers_but_not_the_linkers() {
        for name in ["LANG", "LC_ALL", "_x", "A1", "PATH"] {
            assert!(is_settable_by_client(name), "{name}");
        }
        for name in ["", "1A", "A-B", "LD_PRELOAD", "A=B", "Ä", "A B"] {
            assert!(!is_settable_by_client(name), "{name}");
        }
    }
}
