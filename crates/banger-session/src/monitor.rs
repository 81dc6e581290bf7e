//! Connecting to a guest's service through its VM's monitor.

use std::io;
use std::path::Path;

use banger_api::connect_path;
use banger_types::guest::Service;
use banger_types::monitor::{MonitorReply, MonitorRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::SessionError;

/// Longest line of a monitor, bytes.
const LINE_LIMIT: usize = 64 << 10;

/// Returns a stream to the guest's `service`.
///
/// # Errors
/// If the monitor cannot be reached, or does not reach the guest.
pub async fn connect(socket: &Path, service: Service) -> Result<UnixStream, SessionError> {
    let failed = |source| SessionError::Monitor { socket: socket.to_owned(), source };
    let mut stream = connect_path(socket).await.map_err(failed)?;
    let mut line = serde_json::to_vec(&MonitorRequest::Connect(service)).map_err(SessionError::Encode)?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(failed)?;
    let answer = read_line(&mut stream).await.map_err(failed)?;
    match serde_json::from_slice(&answer) {
        Ok(MonitorReply::Connected) => Ok(stream),
        Ok(MonitorReply::Failed(reason)) => Err(SessionError::NotConnected(reason)),
        _ => Err(SessionError::MonitorAnswer { answer: String::from_utf8_lossy(&answer).into_owned() }),
    }
}

/// Reads one line byte by byte: what follows it belongs to the guest's service.
async fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return Ok(line),
            _ if line.len() >= LINE_LIMIT => return Err(io::Error::other("its answer does not end")),
            byte => line.push(byte),
        }
    }
}
