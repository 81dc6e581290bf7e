//! A small client of Firecracker's API: HTTP/1.1 on a unix socket, one request for each connection.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use banger_core::engine::EngineError;
use serde::Deserialize;

use super::{API_SOCKET, jail};
use crate::socket;

/// How long Firecracker may take for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Longest answer, bytes.
const LENGTH_LIMIT: u64 = 64 << 10;

/// The only request: where the VM stands (`GET /`, `describeInstance`). Everything else is in the configuration.
pub(super) const DESCRIBE: (&str, &str) = ("GET", "/");

/// Where a VM stands, as Firecracker says (`InstanceInfo`, `state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum VmState {
    #[serde(rename = "Not started")]
    NotStarted,
    Running,
    Paused,
}

#[derive(Deserialize)]
struct InstanceInfo {
    state: VmState,
}

/// `Error`.
#[derive(Deserialize)]
struct Fault {
    fault_message: String,
}

#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("it says: {0}")]
    Refused(String),
    #[error("its answer has no status line")]
    NoStatus,
    #[error("its answer is too long")]
    TooLong,
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

/// A connection to the VMM that runs in a directory.
pub(super) struct Client {
    directory: PathBuf,
    stream: UnixStream,
}

impl Client {
    pub(super) fn connect(directory: &Path) -> Result<Self, EngineError> {
        let connected = || {
            // In a jail it has another place.
            let jailed = jail::API_SOCKET;
            let name = if directory.join(jailed).exists() { jailed } else { API_SOCKET };
            let stream = socket::connect(directory, name)?;
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            stream.set_write_timeout(Some(ANSWER_LIMIT))?;
            Ok::<_, io::Error>(stream)
        };
        let stream = connected().map_err(|error| control(directory, error))?;
        Ok(Self { directory: directory.to_owned(), stream })
    }

    /// Returns where the VM stands.
    pub(super) fn state(self) -> Result<VmState, EngineError> {
        let directory = self.directory.clone();
        let (method, path) = DESCRIBE;
        let body = self.ask(&format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))?;
        let info: InstanceInfo = serde_json::from_slice(&body).map_err(|error| control(&directory, error))?;
        Ok(info.state)
    }

    fn ask(self, request: &str) -> Result<Vec<u8>, EngineError> {
        let asked = (&self.stream).write_all(request.as_bytes());
        let answer = asked.map_err(AnswerError::Io).and_then(|()| read(&self.stream));
        answer.map_err(|error| control(&self.directory, error))
    }
}

fn control(directory: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> EngineError {
    EngineError::Control { directory: directory.to_owned(), source: source.into() }
}

/// Reads an answer (RFC 9112) and returns its body, or the fault that it tells of.
fn read(stream: impl io::Read) -> Result<Vec<u8>, AnswerError> {
    let mut reader = BufReader::new(stream.take(LENGTH_LIMIT));
    let mut status = String::new();
    reader.read_line(&mut status)?;
    let code = status.split_whitespace().nth(1).and_then(|code| code.parse::<u16>().ok());
    let code = code.filter(|_| status.starts_with("HTTP/1.")).ok_or(AnswerError::NoStatus)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(|_| AnswerError::TooLong)?;
        }
    }
    if length > LENGTH_LIMIT {
        return Err(AnswerError::TooLong);
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    if (200..300).contains(&code) {
        return Ok(body);
    }
    let fault: Result<Fault, _> = serde_json::from_slice(&body);
    Err(AnswerError::Refused(
        fault.map_or_else(|_| status.trim_end().to_owned(), |fault| fault.fault_message),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_their_length_and_no_further() {
        let body = r#"{"id":"a","state":"Not started","vmm_version":"1.16.1","app_name":"Firecracker"}"#;
        let answer = format!(
            "HTTP/1.1 200 \r\nServer: Firecracker API\r\nContent-Length: {}\r\n\r\n{body}next",
            body.len()
        );
        let info: InstanceInfo = serde_json::from_slice(&read(answer.as_bytes()).unwrap()).unwrap();
        assert_eq!(info.state, VmState::NotStarted);
        assert_eq!(read(&b"HTTP/1.1 204 \r\n\r\n"[..]).unwrap(), b"");
    }

    #[test]
    fn its_own_words_are_the_reason() {
        let body =
            r#"{"fault_message":"The requested operation is not supported before starting the microVM."}"#;
        let answer = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let error = read(answer.as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it says: The requested operation is not supported before starting the microVM."
        );
        let error = read(&b"HTTP/1.1 500 \r\n\r\n"[..]).unwrap_err();
        assert_eq!(error.to_string(), "it says: HTTP/1.1 500");
        for nonsense in [
            "",
            "hello\r\n\r\n",
            "HTTP/1.1 200 \r\nContent-Le",
            "HTTP/1.1 200 \r\nContent-Length: 99999999\r\n\r\n",
        ] {
            assert!(read(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }
}
