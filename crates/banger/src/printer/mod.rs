//! Everything that is printed: data on standard output, all else on standard error.

mod human;
mod log;
mod table;

use std::io::{self, IsTerminal as _, Write as _};

use banger_types::ApiError;
pub(crate) use banger_types::time::{ago, duration, until};
use serde::Serialize;

pub(crate) use human::printable;
pub(crate) use log::LogPrinter;
pub(crate) use table::Table;

/// Prints. Colours and bars are for terminals only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
    terminal: bool,
    colour: bool,
}

impl Printer {
    /// Returns a printer for this process's standard output and error.
    pub(crate) fn new(json: bool) -> Self {
        // "when present and not an empty string (regardless of its value)": no-color.org.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let terminal =
            io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { json, terminal, colour: terminal && !refused }
    }

    /// Returns whether a person watches standard error, on a terminal that can redraw a line.
    pub(crate) fn shows_progress(self) -> bool {
        self.terminal && !self.json
    }

    /// Returns whether data is to be JSON.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// Prints one line of data.
    #[expect(clippy::unused_self, reason = "all output goes through a printer")]
    pub(crate) fn line(self, text: &str) -> io::Result<()> {
        let mut output = io::stdout().lock();
        writeln!(output, "{}", printable(text))?;
        output.flush()
    }

    /// Prints lines of data, in one piece.
    pub(crate) fn lines<'a>(self, lines: impl IntoIterator<Item = &'a str>) -> io::Result<()> {
        let mut text = String::new();
        for line in lines {
            text.push_str(&printable(line));
            text.push('\n');
        }
        self.text(&text)
    }

    /// Prints a text that a program is to read, as it is.
    #[expect(clippy::unused_self, reason = "all output goes through a printer")]
    pub(crate) fn text(self, text: &str) -> io::Result<()> {
        let mut output = io::stdout().lock();
        output.write_all(text.as_bytes())?;
        output.flush()
    }

    /// Prints a table as data.
    #[expect(clippy::unused_self, reason = "all output goes through a printer")]
    pub(crate) fn table(self, table: &Table) -> io::Result<()> {
        let mut output = io::stdout().lock();
        output.write_all(table.to_string().as_bytes())?;
        output.flush()
    }

    /// Empties the terminal that data goes to, for what is drawn anew.
    #[expect(clippy::unused_self, reason = "all output goes through a printer")]
    pub(crate) fn clear(self) -> io::Result<()> {
        // ECMA-48, CUP and ED: to the first line, and nothing from there on.
        io::stdout().lock().write_all(b"\x1b[H\x1b[J")
    }

    /// Prints the only document of a command.
    #[expect(clippy::unused_self, reason = "all output goes through a printer")]
    pub(crate) fn document(self, value: &impl Serialize) -> io::Result<()> {
        // In one piece: standard output would be flushed at each of many thousand lines.
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        let mut output = io::stdout().lock();
        output.write_all(&text)?;
        output.flush()
    }

    /// Prints one item of a stream of JSON.
    #[expect(clippy::unused_self, reason = "all output goes through a printer")]
    pub(crate) fn item(self, value: &impl Serialize) -> io::Result<()> {
        let mut output = io::stdout().lock();
        serde_json::to_writer(&mut output, value)?;
        writeln!(output)?;
        output.flush()
    }

    /// Returns what prints a log as data.
    pub(crate) fn log(self) -> LogPrinter {
        LogPrinter::new(self.json)
    }

    /// Prints a line for people on standard error. That it cannot be printed is nobody's concern.
    #[expect(clippy::unused_self, reason = "all output goes through a printer")]
    pub(crate) fn note(self, text: &str) {
        drop(writeln!(io::stderr().lock(), "{}", printable(text)));
    }

    /// Prints a warning on standard error.
    pub(crate) fn warning(self, text: &str) {
        self.note(&format!("warning: {text}"));
    }

    /// Prints an error in its three parts, or as JSON, on standard error.
    pub(crate) fn error(self, error: &ApiError) {
        let mut text = String::new();
        if self.json {
            if let Ok(json) = serde_json::to_string(error) {
                text.push_str(&json);
                text.push('\n');
            }
        } else {
            let (label, reset) = if self.colour { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
            text.push_str(&format_error(error, label, reset));
        }
        drop(io::stderr().lock().write_all(text.as_bytes()));
    }
}

fn format_error(error: &ApiError, label: &str, reset: &str) -> String {
    let mut text = format!("{label}error:{reset} {}\n", printable(&error.what));
    for reason in &error.why {
        // A reason of several lines (a program's last words) stays one reason.
        for (number, line) in reason.lines().enumerate() {
            let head = if number == 0 { "  because: " } else { "           " };
            text.push_str(head);
            text.push_str(&printable(line));
            text.push('\n');
        }
    }
    for line in error.fix.iter().flat_map(|fix| fix.lines()) {
        text.push_str("  try: ");
        text.push_str(&printable(line));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use banger_types::ErrorKind;

    use super::*;

    #[test]
    fn an_error_has_three_parts_and_no_escapes() {
        let error = ApiError::new(ErrorKind::Failed, "cannot boot 'web'")
            .because("qemu ended: \x1b]0;title\x07\nsecond line")
            .because("no memory")
            .fix("banger vm logs --engine web");
        insta::assert_snapshot!(format_error(&error, "", ""), @r"
        error: cannot boot 'web'
          because: qemu ended: ?]0;title?
                   second line
          because: no memory
          try: banger vm logs --engine web
        ");
    }
}
