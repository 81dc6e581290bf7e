//! What the comparisons run elsewhere: in a guest, on another host's side of a network, or as root.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program whose words another one reads")]

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a sender may take to come: its guest may have to boot.
const COMES_WITHIN: Timespec = Timespec { tv_sec: 180, tv_nsec: 0 };
/// How long one that has come may be silent.
const SILENT_AT_MOST: Duration = Duration::from_mins(1);
/// How long a sender waits before it tries again to connect.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Bytes that are written, or read, at once.
const PIECE: usize = 128 << 10;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["send", receiver] => send(receiver),
        ["receive", address] => receive(address),
        ["maps", ref processes @ ..] => print_maps(processes),
        _ => bail!("usage: banger-bench-aid send RECEIVER | receive ADDRESS | maps PID..."),
    }
}

/// Connects to the receiver, sends for as long as it says, and does so again: for ever.
fn send(receiver: &str) -> Result<()> {
    loop {
        match TcpStream::connect(receiver) {
            // Whatever became of this time, the receiver knows of it.
            Ok(stream) => drop(send_once(stream)),
            Err(error) => {
                eprintln!("{receiver}: {error}");
                std::thread::sleep(AGAIN_AFTER);
            }
        }
    }
}

fn send_once(mut stream: TcpStream) -> Result<()> {
    let mut seconds = [0];
    stream.read_exact(&mut seconds)?;
    let piece = vec![0x5a; PIECE];
    let until = Instant::now() + Duration::from_secs(seconds[0].into());
    while Instant::now() < until {
        stream.write_all(&piece)?;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// For each line with a number of seconds, lets a sender send for so long, and prints how many bytes came in how many
/// nanoseconds.
fn receive(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    println!("listening");
    for line in std::io::stdin().lock().lines() {
        let (bytes, time) = receive_once(&listener, line?.trim().parse()?)?;
        println!("{bytes} {}", time.as_nanos());
    }
    Ok(())
}

/// Returns how many bytes came, and how long they took: from the first to the end.
fn receive_once(listener: &TcpListener, seconds: u8) -> Result<(u64, Duration)> {
    let mut comes = [PollFd::new(listener, PollFlags::IN)];
    let own = listener.local_addr()?;
    ensure!(poll(&mut comes, Some(&COMES_WITHIN))? > 0, "no sender has come to {own}");
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(SILENT_AT_MOST))?;
    stream.write_all(&[seconds])?;
    let mut piece = vec![0; PIECE];
    let mut bytes = stream.read(&mut piece)? as u64;
    let begin = Instant::now();
    ensure!(bytes > 0, "the sender has sent nothing");
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok((bytes, begin.elapsed())),
            read => bytes += read as u64,
        }
    }
}

/// Prints what `/proc` says of processes' mappings (`proc_pid_smaps(5)`), after a line with each one's number. One that has
/// ended, and a thread of the kernel's, has none.
fn print_maps(processes: &[&str]) -> Result<()> {
    for process in processes {
        let number: u32 = process.parse().with_context(|| format!("{process} is no process"))?;
        let maps = fs_err::read_to_string(format!("/proc/{number}/smaps"))?;
        println!("process {number}\n{maps}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sender = std::thread::spawn(move || send_once(TcpStream::connect(address).unwrap()));
        let (bytes, time) = receive_once(&listener, 1).unwrap();
        sender.join().unwrap().unwrap();
        assert!(bytes > 0 && bytes % PIECE as u64 == 0, "{bytes}");
        assert!((Duration::from_millis(500)..Duration::from_secs(30)).contains(&time), "{time:?}");
    }

    #[test]
    fn a_sender_that_sends_nothing_is_no_rate_of_zero() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _silent = TcpStream::connect(listener.local_addr().unwrap()).unwrap().shutdown(Shutdown::Write);
        assert!(receive_once(&listener, 1).is_err());
    }
}
