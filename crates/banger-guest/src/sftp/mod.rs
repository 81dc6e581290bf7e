//! SFTP, version 3 (draft-ietf-secsh-filexfer-02), with the extensions that OpenSSH's clients use.
//!
//! Runs as a process of its own, as the session's user, on standard input and output: the kernel decides what it may do.
//! One thread, one request after the other. Names are bytes, as they are to the kernel.

mod attributes;
mod files;
mod server;
mod wire;

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use self::server::Server;
use crate::log;

/// Longest packet that is read, bytes; OpenSSH has the same limit.
const PACKET_LIMIT: usize = 256 << 10;

/// Serves one client on standard input and output until it ends.
pub fn run() -> ExitCode {
    // Not through the standard library's own buffers: packets are whole, and none is a line.
    let streams = io::stdin().as_fd().try_clone_to_owned().and_then(|input| {
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        Ok((File::from(input), File::from(output)))
    });
    match streams.and_then(|(mut input, mut output)| serve(&mut input, &mut output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log!("sftp: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(input: &mut impl io::Read, output: &mut impl io::Write) -> io::Result<()> {
    let mut server = Server::default();
    let mut packet = Vec::new();
    while read_packet(input, &mut packet)? {
        let answer = server.answer(&packet)?;
        let length = u32::try_from(answer.len()).map_err(io::Error::other)?;
        output.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())?;
    }
    Ok(())
}

/// Reads a packet without its length; returns false at the end of the input.
fn read_packet(input: &mut impl io::Read, packet: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 4];
    if input.read(&mut length[..1])? == 0 {
        return Ok(false);
    }
    input.read_exact(&mut length[1..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > PACKET_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a packet has {length} bytes")));
    }
    packet.clear();
    packet.resize(length, 0);
    input.read_exact(packet)?;
    Ok(true)
}
