//! Texts as people read them.

/// Returns the text without control characters, so that what a guest, an image or a registry named
/// something cannot move the cursor or change the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
