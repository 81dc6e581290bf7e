//! What the monitor has of the guest: the control channel, the agent, streams to services, and its
//! kernel's last words.

pub(crate) mod agent;
pub(crate) mod channel;
pub(crate) mod last_word;
pub(crate) mod splice;
pub(crate) mod vmm;

/// Returns a text that others chose as one line without control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}
