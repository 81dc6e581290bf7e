//! Printing logs: raw into files and pipes, tamed on a terminal, lines of JSON if asked.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

/// Longest line that is kept in memory; a longer one is cut into several.
const LINE_LIMIT: usize = 1 << 20;

/// Takes a log piece by piece and prints it.
#[derive(Debug)]
pub(crate) struct LogPrinter {
    json: bool,
    tame: bool,
    line: Vec<u8>,
}

#[derive(Serialize)]
struct LogLine<'a> {
    line: &'a str,
}

impl LogPrinter {
    pub(super) fn new(json: bool) -> Self {
        Self { json, tame: io::stdout().is_terminal(), line: Vec::new() }
    }

    /// Prints one more piece.
    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut output = io::stdout().lock();
        if !self.json {
            if self.tame {
                output.write_all(&tamed(piece))?;
            } else {
                output.write_all(piece)?;
            }
            return output.flush();
        }
        for &byte in piece {
            if byte == b'\n' || self.line.len() >= LINE_LIMIT {
                write_line(&mut output, &mut self.line)?;
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
        output.flush()
    }

    /// Prints what is left of a last line without an end.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let mut output = io::stdout().lock();
        if !self.line.is_empty() {
            write_line(&mut output, &mut self.line)?;
        }
        output.flush()
    }
}

fn write_line(output: &mut impl io::Write, line: &mut Vec<u8>) -> io::Result<()> {
    let text = String::from_utf8_lossy(line);
    serde_json::to_writer(&mut *output, &LogLine { line: text.trim_end_matches('\r') })?;
    line.clear();
    output.write_all(b"\n")
}

/// Returns the bytes without what a hostile guest could steer a terminal with: every control
/// character but tab, newline and carriage return. Bytes above 0x7f are left, for they are text.
fn tamed(piece: &[u8]) -> Vec<u8> {
    let harmless = |byte: &u8| !byte.is_ascii_control() || matches!(byte, b'\t' | b'\n' | b'\r');
    piece.iter().copied().filter(harmless).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_escapes() {
        assert_eq!(tamed(b"a\x1b[2Jb\tc\r\n\x07\xc3\xa4"), b"a[2Jb\tc\r\n\xc3\xa4");
    }
}
