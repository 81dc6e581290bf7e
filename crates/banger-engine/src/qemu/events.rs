//! What QEMU tells by itself, over a QMP connection of its own: on the one for questions, whoever asks comes and goes.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use banger_core::engine::{EngineError, VmmEvent};
use serde::Deserialize;

use super::arguments::EVENT_SOCKET;
use crate::socket;

/// Connects. The greeting and the answer are lines like the rest.
pub(super) fn connect(directory: &Path) -> Result<UnixStream, EngineError> {
    let connected = || {
        let mut stream = socket::connect(directory, EVENT_SOCKET)?;
        stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
        Ok::<_, std::io::Error>(stream)
    };
    connected()
        .map_err(|error| EngineError::Control { directory: directory.to_owned(), source: error.into() })
}

/// A message of QEMU's (QEMU QMP reference manual, `BLOCK_IO_ERROR`), as far as it is of concern.
#[derive(Deserialize)]
struct Message {
    event: Option<String>,
    #[serde(default)]
    data: Data,
    #[serde(rename = "return")]
    answer: Option<serde::de::IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct Data {
    /// What QEMU has done about an error of a drive.
    action: Option<String>,
    /// Whether the error was that there is no room.
    #[serde(default)]
    nospace: bool,
}

pub(super) fn parse(line: &str) -> Option<VmmEvent> {
    let message: Message = serde_json::from_str(line).ok()?;
    if message.answer.is_some() {
        return Some(VmmEvent::Listening);
    }
    let stopped = message.data.action.as_deref() == Some("stop");
    (message.event.as_deref() == Some("BLOCK_IO_ERROR") && stopped && message.data.nospace)
        .then_some(VmmEvent::OutOfSpace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drive_without_room_is_told_from_all_else() {
        let greeting =
            r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}"#;
        let error = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "BLOCK_IO_ERROR", "data":
            {"device": "private", "nospace": true, "node-name": "x", "reason": "No space left on device",
             "operation": "write", "action": "stop"}}"#;
        for (line, expected) in [
            (greeting, None),
            (r#"{"return": {}}"#, Some(VmmEvent::Listening)),
            (error, Some(VmmEvent::OutOfSpace)),
            (&error.replace("true", "false"), None),
            (&error.replace("stop", "report"), None),
            (&error.replace("BLOCK_IO_ERROR", "BLOCK_JOB_ERROR"), None),
            (r#"{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}"#, None),
            ("no JSON", None),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }
}
