//! What the guest's kernel says last, on the serial console.
//!
//! Its messages come there whatever the guest's programs did to the agent, for every VMM, and with `quiet` too:
//! `kernel_power_off`, `kernel_halt` and `kernel_restart` (kernel/reboot.c) and `panic` (kernel/panic.c) print them
//! with the priority of an emergency. The lines begin with the time since boot (`printk.time`), as in
//! `[   12.345678] reboot: Power down`, and with `CONFIG_PRINTK_CALLER` the thread or processor: `[   12.345678][    T1]`.

use banger_types::guest::ShutdownAction;

use crate::text::printable;

/// Most bytes of a line that are kept, its last ones: more than the kernel's longest message, 1024.
const LINE_LIMIT: usize = 2 << 10;
/// Longest text of a panic that is told on, characters.
const TEXT_LIMIT: usize = 200;

/// How the guest's kernel ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LastWord {
    /// It stands still, and will for ever.
    Halted,
    /// It switches the machine off, where the machine knows how.
    PoweredOff,
    /// It resets the machine.
    Restarting,
    /// It gave up, for this reason: one line without control characters.
    Panicked(String),
}

impl LastWord {
    /// Returns what a kernel that goes down in order wants to happen.
    pub(crate) fn action(&self) -> Option<ShutdownAction> {
        match self {
            Self::Halted | Self::PoweredOff => Some(ShutdownAction::Poweroff),
            Self::Restarting => Some(ShutdownAction::Reboot),
            Self::Panicked(_) => None,
        }
    }
}

/// Finds last words in the console's bytes, wherever these are cut.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// The line that has no end yet.
    line: Vec<u8>,
}

impl Listener {
    /// Takes bytes of the console. Returns the last word that a line of them completed, if one did.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Option<LastWord> {
        let mut heard = None;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.append(piece);
            if piece.ends_with(b"\n") {
                heard = parse(&String::from_utf8_lossy(&self.line)).or(heard);
                self.line.clear();
            }
        }
        heard
    }

    fn append(&mut self, piece: &[u8]) {
        let piece = &piece[piece.len().saturating_sub(LINE_LIMIT)..];
        let excess = (self.line.len() + piece.len()).saturating_sub(LINE_LIMIT);
        self.line.drain(..excess);
        self.line.extend_from_slice(piece);
    }
}

/// Returns the last word that a line is. What a program left unfinished may stand before it: the kernel begins no new
/// line for itself.
fn parse(line: &str) -> Option<LastWord> {
    let line = line.trim_end();
    if let Some((before, text)) = line.split_once("] Kernel panic - not syncing: ") {
        let text: String = printable(text.trim()).chars().take(TEXT_LIMIT).collect();
        return ends_with_time(before).then_some(LastWord::Panicked(text));
    }
    let (before, text) = line.rsplit_once("] reboot: ")?;
    let word = match text {
        "Power down" => LastWord::PoweredOff,
        "System halted" | "Power off not available: System halted instead" => LastWord::Halted,
        "Restarting system" => LastWord::Restarting,
        _ if text.starts_with("Restarting system with command ") => LastWord::Restarting,
        _ => return None,
    };
    ends_with_time(before).then_some(word)
}

/// Whether the text ends with the time of a kernel's message, less its closing bracket.
fn ends_with_time(text: &str) -> bool {
    let Some((before, stamp)) = text.rsplit_once('[') else { return false };
    let stamp = stamp.trim_start();
    if stamp.strip_prefix(['T', 'C']).is_some_and(is_number) {
        return before.strip_suffix(']').is_some_and(ends_with_time);
    }
    stamp.split_once('.').is_some_and(|(seconds, fraction)| is_number(seconds) && is_number(fraction))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(text: &str) -> Option<LastWord> {
        Listener::default().hear(text.as_bytes())
    }

    #[test]
    fn the_kernels_last_words_are_known() {
        for (line, word) in [
            ("[   12.345678] reboot: Power down\r\n", LastWord::PoweredOff),
            ("[12345.345678] reboot: System halted\n", LastWord::Halted),
            ("[    1.0] reboot: Power off not available: System halted instead\r\n", LastWord::Halted),
            ("[    1.000000][    T1] reboot: Restarting system\r\n", LastWord::Restarting),
            ("[    1.000000] reboot: Restarting system with command 'kexec'\n", LastWord::Restarting),
            ("debian login: [    1.000000] reboot: Power down\r\n", LastWord::PoweredOff),
            (
                "[    1.000000] Kernel panic - not syncing: sysrq triggered crash\r\n",
                LastWord::Panicked("sysrq triggered crash".to_owned()),
            ),
        ] {
            assert_eq!(hear(line), Some(word), "{line}");
        }
    }

    #[test]
    fn other_lines_are_not_taken_for_them() {
        for line in [
            "reboot: Power down\n",
            "[   12.345678] reboot: Power down",
            "[   12.345678] reboot: Power down, or so\n",
            "[   12.345678] systemd[1]: reboot: Power down\n",
            "[info] reboot: Power down\n",
            "[    T1] reboot: Power down\n",
            "[ 1.5] reboot: machine restart\n",
            "Kernel panic - not syncing: hello\n",
            "[    1.000000] ---[ end Kernel panic - not syncing: hello ]---\n",
        ] {
            assert_eq!(hear(line), None, "{line}");
        }
    }

    #[test]
    fn lines_are_found_wherever_reads_cut_them() {
        let text = b"before\r\n[    1.000000] reboot: Restarting system\r\n[    1.000001] reboot: machine restart\r\n";
        for cut in 0..=text.len() {
            let mut listener = Listener::default();
            let heard = [listener.hear(&text[..cut]), listener.hear(&text[cut..])];
            assert!(heard.contains(&Some(LastWord::Restarting)), "cut at {cut}");
        }
        let mut listener = Listener::default();
        let heard: Vec<LastWord> = text.chunks(1).filter_map(|byte| listener.hear(byte)).collect();
        assert_eq!(heard, [LastWord::Restarting]);
    }

    #[test]
    fn a_line_without_end_costs_little_and_hides_nothing() {
        let mut listener = Listener::default();
        for _ in 0..100 {
            assert_eq!(listener.hear(&[b'x'; 5000]), None);
            assert_eq!(listener.hear(b"some more"), None);
        }
        assert!(listener.line.len() <= LINE_LIMIT && listener.line.capacity() <= 4 * LINE_LIMIT);
        assert_eq!(listener.hear(b"[ 1.0] reboot: System halted\n"), Some(LastWord::Halted));
    }

    #[test]
    fn a_panics_text_is_one_short_line() {
        let text = format!("[ 1.0] Kernel panic - not syncing: \x1b[31mred\t{}\r\n", "x".repeat(1000));
        let Some(LastWord::Panicked(text)) = hear(&text) else { panic!() };
        assert!(text.starts_with(" [31mred xxx") && text.len() == TEXT_LIMIT);
        // Bytes that are no text at all.
        let mut listener = Listener::default();
        let heard = listener.hear(b"[ 1.0] Kernel panic - not syncing: \xff\xfe\n");
        assert_eq!(heard, Some(LastWord::Panicked("\u{fffd}\u{fffd}".to_owned())));
    }
}
