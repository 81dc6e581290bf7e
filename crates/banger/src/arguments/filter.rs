//! `--filter KEY=VALUE` of `vm ls`.

use std::str::FromStr;

use banger_types::vm::{Vm, VmState};

/// What VMs are to be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Its name matches this pattern of `*` and `?`, or contains this text when it has neither.
    Name(String),
    /// It is in this state.
    State(VmState),
    /// It has this label, with this value if there is one here.
    Label(String, Option<String>),
    /// It was made from the image of this name or id.
    Image(String),
}

/// Every state that a VM can be listed in.
const STATES: [VmState; 8] = [
    VmState::Creating,
    VmState::Stopped,
    VmState::Starting,
    VmState::Running,
    VmState::Paused,
    VmState::Stopping,
    VmState::Failed,
    VmState::Deleting,
];

impl Filter {
    /// Returns whether `vm` is to be listed.
    pub fn matches(&self, vm: &Vm) -> bool {
        match self {
            Self::Name(pattern) if pattern.contains(['*', '?']) => {
                glob(pattern.as_bytes(), vm.name.as_str().as_bytes())
            }
            Self::Name(part) => vm.name.as_str().contains(part.as_str()),
            Self::State(state) => vm.state == *state,
            Self::Label(name, value) => {
                vm.spec.labels.get(name).is_some_and(|it| value.as_ref().is_none_or(|value| value == it))
            }
            Self::Image(image) => vm.spec.image_name == *image || vm.spec.image.as_str() == image,
        }
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        match key {
            "name" | "state" | "label" | "image" if value.is_empty() => {
                Err(format!("'{key}' needs a value, as in {key}=VALUE"))
            }
            "name" => Ok(Self::Name(value.to_owned())),
            "state" => match STATES.into_iter().find(|state| state.to_string() == value) {
                Some(state) => Ok(Self::State(state)),
                None => Err(format!(
                    "there is no state '{value}'; there are {}",
                    STATES.map(|s| s.to_string()).join(", ")
                )),
            },
            "label" => Ok(match value.split_once('=') {
                Some((name, value)) => Self::Label(name.to_owned(), Some(value.to_owned())),
                None => Self::Label(value.to_owned(), None),
            }),
            "image" => Ok(Self::Image(value.to_owned())),
            _ => Err(format!("there is no filter '{key}'; there are name, state, label and image")),
        }
    }
}

/// Returns whether the whole of `text` matches `pattern`: `*` is any number of bytes, `?` is one.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern_at, mut text_at) = (0, 0);
    // Where to go on when what follows the last star does not match here.
    let mut retry = None;
    while text_at < text.len() {
        match pattern.get(pattern_at) {
            Some(b'*') => {
                pattern_at += 1;
                retry = Some((pattern_at, text_at));
            }
            Some(&byte) if byte == b'?' || byte == text[text_at] => {
                pattern_at += 1;
                text_at += 1;
            }
            _ => {
                let Some((after_star, began)) = retry else { return false };
                (pattern_at, text_at) = (after_star, began + 1);
                retry = Some((after_star, began + 1));
            }
        }
    }
    pattern[pattern_at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_matches_the_whole_name() {
        for (pattern, text, expected) in [
            ("web-*", "web-1", true),
            ("web-*", "my-web-1", false),
            ("*-1", "web-1-1", true),
            ("w?b", "web", true),
            ("w?b", "wb", false),
            ("*", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("", "x", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = "*a".repeat(60);
        assert!(!glob(pattern.as_bytes(), "a".repeat(59).as_bytes()));
        assert!(glob(pattern.as_bytes(), "a".repeat(63).as_bytes()));
    }

    #[test]
    fn filters_are_keys_and_values() {
        let label =
            |name: &str, value: Option<&str>| Filter::Label(name.to_owned(), value.map(str::to_owned));
        for (text, filter) in [
            ("name=web-*", Filter::Name("web-*".to_owned())),
            ("state=paused", Filter::State(VmState::Paused)),
            ("label=team", label("team", None)),
            ("label=team=a=b", label("team", Some("a=b"))),
            ("label=team=", label("team", Some(""))),
            ("image=debian:bookworm", Filter::Image("debian:bookworm".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(filter), "{text}");
        }
        for text in ["", "web", "state", "state=", "state=asleep", "colour=red", "label="] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}
