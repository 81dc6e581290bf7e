//! Values that need more than their type's own parser.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use banger_types::bytes::ByteString;
use banger_types::event::EventKind;
use banger_types::forwards::read_forwards;
use banger_types::monitor::Forward;
use banger_types::vm::{EngineKind, check_label};

/// Returns the engine of this name.
pub(super) fn engine_kind(text: &str) -> Result<EngineKind, String> {
    let kinds = [EngineKind::Firecracker, EngineKind::Qemu];
    let names = kinds.map(|kind| format!("'{kind}'")).join(" and ");
    kinds.into_iter().find(|kind| kind.to_string() == text).ok_or_else(|| format!("there are {names}"))
}

/// Returns the kind of event of this name.
pub(super) fn event_kind(text: &str) -> Result<EventKind, String> {
    let names = EventKind::ALL.map(|kind| format!("'{kind}'")).join(", ");
    EventKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| format!("there are {names}"))
}

/// Forwards that were written as one: of a port, or of as many as a range has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwards(pub Vec<Forward>);

/// Returns the forwards that `text` says: see [`read_forwards`].
pub(super) fn forwards(text: &str) -> Result<Forwards, String> {
    read_forwards(text).map(Forwards).map_err(|error| error.to_string())
}

/// Returns the variables that `-e` options mean: `NAME=VALUE`, or `NAME` alone for the value that
/// it has here; a name that has none here is left out, as Docker does.
pub(super) fn environment(
    options: &[OsString],
    here: impl Fn(&OsString) -> Option<OsString>,
) -> Vec<(ByteString, ByteString)> {
    let pair = |option: &OsString| {
        let bytes = option.as_bytes();
        match bytes.iter().position(|&byte| byte == b'=') {
            Some(at) => Some((bytes[..at].to_vec().into(), bytes[at + 1..].to_vec().into())),
            None => here(option).map(|value| (bytes.to_vec().into(), value.into_vec().into())),
        }
    };
    options.iter().filter_map(pair).collect()
}

/// Refuses a variable without a name.
pub(super) fn variable(text: &std::ffi::OsStr) -> Result<(), &'static str> {
    match text.as_bytes().first() {
        None | Some(b'=') => Err("a variable needs a name: NAME=VALUE, or NAME for the value it has here"),
        Some(_) => Ok(()),
    }
}

/// Returns the label that `text` says: `NAME=VALUE`, or `NAME` alone for one without a value.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    check_label(name, value).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Returns the label's name that `text` is.
pub(super) fn label_name(text: &str) -> Result<String, String> {
    check_label(text, "").map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_as_docker_writes_them() {
        for (text, listen) in [
            ("8080:80", "127.0.0.1:8080"),
            ("0:80", "127.0.0.1:0"),
            ("0.0.0.0:8080:80", "0.0.0.0:8080"),
            ("[::1]:8080:80", "[::1]:8080"),
            ("8080:80/tcp", "127.0.0.1:8080"),
            ("8080:80/udp", "127.0.0.1:8080/udp"),
        ] {
            let Forwards(found) = forwards(text).unwrap();
            let found: Vec<_> = found.iter().map(|it| (it.listen.to_string(), it.guest_port)).collect();
            assert_eq!(found, [(listen.to_owned(), 80)], "{text}");
        }
    }

    #[test]
    fn a_range_is_as_many_forwards() {
        for (text, expected) in [
            (
                "8000-8002:80-82",
                &[("127.0.0.1:8000", 80), ("127.0.0.1:8001", 81), ("127.0.0.1:8002", 82)][..],
            ),
            ("65535-65535:65535-65535/udp", &[("127.0.0.1:65535/udp", 65535)]),
            ("[::1]:0:80-81/udp", &[("[::1]:0/udp", 80), ("[::1]:0/udp", 81)]),
        ] {
            let Forwards(found) = forwards(text).unwrap();
            let found: Vec<_> = found.iter().map(|it| (it.listen.to_string(), it.guest_port)).collect();
            let expected: Vec<_> =
                expected.iter().map(|(listen, port)| ((*listen).to_owned(), *port)).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn ranges_fit_each_other_and_a_vm() {
        let refused = |text: &str| forwards(text).unwrap_err();
        assert_eq!(refused("1-3:1-2"), "'1-3:1-2' has 3 ports of the host for 2 of the guest");
        assert_eq!(refused("1-3:80"), "'1-3:80' has 3 ports of the host for 1 of the guest");
        assert_eq!(refused("1-999:1-999"), "'1-999:1-999' has 999 ports, and a VM may have 256 forwards");
        for text in ["2-1:2-1", "0:0-3", "1-2-3:1-3", "-1:80", "1-:1-", "1-70000:1-70000"] {
            assert!(refused(text).contains("is not [ADDRESS:]HOST_PORT:GUEST_PORT"), "{text}");
        }
    }

    #[test]
    fn what_is_no_forward_is_refused() {
        for text in [
            "",
            "80",
            ":",
            "80:",
            ":80",
            "8080:0",
            "8080:70000",
            "::1:80:80",
            "host:1:2",
            "[1.1.1.1]:1:2",
            "1:2/sctp",
            "1:2/",
        ] {
            assert!(forwards(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_variable_may_come_from_here() {
        let options: Vec<OsString> = ["A=1=2", "B", "C", "D="].map(OsString::from).into();
        let here = |name: &OsString| (name == "B").then(|| OsString::from_vec(b"\xff".to_vec()));
        let expected = [("A", b"1=2".to_vec()), ("B", b"\xff".to_vec()), ("D", Vec::new())]
            .map(|(name, value)| (ByteString::from(name), ByteString::from(value)));
        assert_eq!(environment(&options, here), expected);
    }

    #[test]
    fn a_label_may_have_no_value() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(label("team=a=b"), pair("team", "a=b"));
        assert_eq!(label("team="), pair("team", ""));
        assert_eq!(label("team"), pair("team", ""));
        for text in ["", "=x", "a b", "a=\n"] {
            assert!(label(text).is_err(), "{text}");
        }
        assert!(label_name("a=b").is_err());
    }
}
