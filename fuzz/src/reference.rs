//! The grammar of image names, said once more: as regular expressions, the way the project `distribution/reference` says it.

use std::sync::LazyLock;

use regex::Regex;

const COMPONENT: &str = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const HOST: &str = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";

/// What follows the first part of a name, if that is a registry; the whole of a name otherwise.
static REPOSITORY: LazyLock<Regex> = LazyLock::new(|| {
    let name = format!("{COMPONENT}(?:/{COMPONENT})*");
    regex(&format!(r"\A{name}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?\z"))
});

static REGISTRY: LazyLock<Regex> =
    LazyLock::new(|| regex(&format!(r"\A(?:{HOST}(?:\.{HOST})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?\z")));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns whether the grammar has this text. The bounds on lengths and ports are not its.
pub fn is_in_the_grammar(text: &str) -> bool {
    match text.split_once('/') {
        // Docker's rule of what is a registry (`splitDockerDomain`).
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            REGISTRY.is_match(first) && REPOSITORY.is_match(rest)
        }
        _ => REPOSITORY.is_match(text),
    }
}

/// Returns whether a text keeps the rules beside the grammar, for certain.
pub fn is_surely_within_bounds(text: &str) -> bool {
    // What the default registry and its namespace may add.
    const ADDED: usize = "docker.io/library/".len();
    let has_port = text.split_once('/').is_some_and(|(first, _)| first.contains(':'));
    text.len() + ADDED <= 255 && !has_port
}
