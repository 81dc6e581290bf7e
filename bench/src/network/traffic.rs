//! Who receives what guests send: a process of its own, at whichever end of a network.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// A receiver that listens. It ends with this.
#[derive(Debug)]
pub(super) struct Receiver {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Receiver {
    /// Starts the aid, which `command` runs, as the receiver at an address.
    pub(super) fn start(mut command: Command, address: &str) -> Result<Self> {
        command.args(["receive", address]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut receiver = Self { child, orders, answers };
        let said = receiver.line()?;
        ensure!(said.trim_end() == "listening", "the receiver at {address} says {said:?}");
        Ok(receiver)
    }

    /// Lets the sender send for so long; returns how many bytes came, and in what time.
    pub(super) fn round(&mut self, seconds: u8) -> Result<(u64, Duration)> {
        writeln!(self.orders.as_mut().context("no standard input")?, "{seconds}")?;
        parse(&self.line()?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Reads `BYTES NANOSECONDS`.
fn parse(line: &str) -> Result<(u64, Duration)> {
    let parts = || {
        let (bytes, nanoseconds) = line.trim_end().split_once(' ')?;
        Some((bytes.parse().ok()?, Duration::from_nanos(nanoseconds.parse().ok()?)))
    };
    parts().with_context(|| format!("the receiver has nothing to say but {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_says_is_understood() {
        assert_eq!(parse("1000 2500000\n").unwrap(), (1000, Duration::from_micros(2500)));
        for text in ["", "1000", "1000 \n", "-1 5", "listening"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
