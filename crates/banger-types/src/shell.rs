//! Commands as people type them.

/// Returns a word as a shell takes it (POSIX.1-2017 XCU section 2.2.2), so that one with a space is not two.
pub fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Returns a command as a shell takes it.
pub fn command_line<T: AsRef<str>>(words: &[T]) -> String {
    words.iter().map(|word| quoted(word.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_pasted_into_a_shell() {
        assert_eq!(command_line(&["/bin/sh", "-c", "echo it's", ""]), r"/bin/sh -c 'echo it'\''s' ''");
    }
}
