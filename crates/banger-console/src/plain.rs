//! What guests and programs print, as plain text.

use banger_api::{Chunks, ClientError};

/// Returns the end of a log as text, of so many bytes at most.
pub(crate) async fn end_of(mut chunks: Chunks, most: usize) -> Result<String, ClientError> {
    let mut log = Vec::new();
    while let Some(piece) = chunks.next().await? {
        log.extend_from_slice(&piece);
        if log.len() > 2 * most {
            log.drain(..log.len() - most);
        }
    }
    log.drain(..log.len().saturating_sub(most));
    Ok(plain(&log))
}

/// Makes text of bytes that come piece by piece: without escape sequences of terminals (ECMA-48) and other control characters.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    /// The beginning of a character whose rest is to come.
    unread: Vec<u8>,
    escape: Escape,
}

/// Where in an escape sequence we are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After ESC.
    Begun,
    /// In a control sequence, which a byte from `@` to `~` ends.
    Sequence,
    /// In a string, which BEL or ESC `\` ends.
    String,
}

impl Plain {
    /// Returns the text of what has come.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> String {
        self.unread.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.unread) {
            // What only lacks its end may still get it.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Ok(_) | Err(_) => self.unread.len(),
        };
        let rest = self.unread.split_off(whole);
        let text = String::from_utf8_lossy(&std::mem::replace(&mut self.unread, rest)).into_owned();
        text.chars().filter(|character| self.shows(*character)).collect()
    }

    fn shows(&mut self, character: char) -> bool {
        match (self.escape, character) {
            (Escape::None | Escape::Begun, '\u{1b}') => self.escape = Escape::Begun,
            (Escape::None, '\n' | '\t') => return true,
            (Escape::None, _) => return !character.is_control(),
            (Escape::Begun, '[') => self.escape = Escape::Sequence,
            (Escape::Begun, ']' | 'P' | '^' | '_') | (Escape::String, _) if character != '\u{7}' => {
                self.escape = if character == '\u{1b}' { Escape::Begun } else { Escape::String };
            }
            (Escape::Begun, ' '..='/') | (Escape::Sequence, ' '..='?') => {}
            (Escape::Begun | Escape::Sequence | Escape::String, _) => self.escape = Escape::None,
        }
        false
    }
}

/// Returns the text of all of these bytes.
pub(crate) fn plain(bytes: &[u8]) -> String {
    let mut reader = Plain::default();
    let text = reader.read(bytes);
    text + &String::from_utf8_lossy(&reader.unread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_left() {
        let printed = b"\x1b[1;32mok\x1b[0m\r\n\x1b]0;title\x07a\tb\x1b(B\x08\x1b[2Jc \xff";
        assert_eq!(plain(printed), "ok\na\tbc \u{fffd}");
        assert_eq!(plain("<script>ä".as_bytes()), "<script>ä");
    }

    #[test]
    fn what_comes_in_pieces_is_the_same() {
        let printed = "\u{1b}[31mä→\u{1b}[0m end".as_bytes();
        for cut in 0..printed.len() {
            let mut reader = Plain::default();
            let text = reader.read(&printed[..cut]) + &reader.read(&printed[cut..]);
            assert_eq!(text, "ä→ end", "{cut}");
        }
    }
}
