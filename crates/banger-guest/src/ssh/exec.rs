//! What a session is asked to run, and what that means in this image.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use banger_types::guest::{EXEC_REQUEST_LIMIT, ExecRequest};
use banger_types::image::ImageConfig;
use tokio::sync::mpsc::UnboundedReceiver;

use super::transport::Chunk;
use crate::process::{self, Directory, Failure, Program};
use crate::user::{Environment, Login};

/// What an SSH client asks of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The user's login shell.
    Shell,
    /// A command line for the user's shell.
    CommandLine(Vec<u8>),
    /// A command as an array, which is the first line of the input (banger-types, `EXEC_SUBSYSTEM`).
    Array,
    /// SFTP.
    Sftp,
}

/// Returns the user's shell with a command line.
pub(super) fn command_line(login: &Login, environment: Environment, line: Vec<u8>) -> Program {
    Program {
        path: login.shell.clone().into(),
        name: Some(process::base_name(&login.shell).to_owned()),
        arguments: vec!["-c".into(), OsString::from_vec(line)],
        environment,
        directory: Directory::FirstOf(vec![login.home.clone()]),
    }
}

/// Returns our own SFTP server, which runs as the user.
pub(super) fn sftp(login: &Login, environment: Environment, helper: &Path) -> Program {
    Program {
        path: helper.into(),
        name: None,
        arguments: vec!["sftp".into()],
        environment,
        directory: Directory::FirstOf(vec![login.home.clone()]),
    }
}

/// Returns what an [`ExecRequest`] asks for.
pub(super) fn array(
    request: ExecRequest,
    image: &ImageConfig,
    login: &Login,
    mut environment: Environment,
) -> Result<Program, Failure> {
    for (name, value) in request.environment {
        let shown = String::from_utf8_lossy(&name.0).into_owned();
        if !environment.set_bytes(name.0, value.0) {
            return Err(Failure::new(&format!("'{shown}' cannot be an environment variable")));
        }
    }
    let mut words: Vec<OsString> = request.argv.into_iter().map(|word| OsString::from_vec(word.0)).collect();
    if words.is_empty() {
        words = process::image_command(image);
    }
    let directory = match request.directory {
        Some(path) => Directory::Exactly(OsString::from_vec(path.0).into()),
        None => Directory::of_image(image, login),
    };
    Program::new(words, environment, directory)
}

/// Reads the first line of the input. What follows it in the same chunk is returned as well: it is the command's input.
pub(super) async fn read_request(
    data: &mut UnboundedReceiver<Chunk>,
) -> Result<(ExecRequest, Vec<u8>), Failure> {
    let mut line = Vec::new();
    while let Some(chunk) = data.recv().await {
        let bytes = chunk.bytes();
        if let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            if line.len() + end > EXEC_REQUEST_LIMIT {
                break;
            }
            line.extend_from_slice(&bytes[..end]);
            let request = serde_json::from_slice(&line)
                .map_err(|error| Failure::new(&format!("not an exec request: {error}")))?;
            return Ok((request, bytes[end + 1..].to_vec()));
        }
        line.extend_from_slice(bytes);
        if line.len() > EXEC_REQUEST_LIMIT {
            break;
        }
    }
    let what = if line.len() > EXEC_REQUEST_LIMIT { "is too long" } else { "did not come" };
    Err(Failure::new(&format!("the exec request {what}")))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::mpsc::unbounded_channel;

    use super::super::transport::Backlog;
    use super::*;

    fn login() -> Login {
        crate::user::find(Path::new("/nonexistent"), "1000").unwrap()
    }

    fn image() -> ImageConfig {
        ImageConfig {
            working_directory: "/srv".to_owned(),
            entrypoint: vec!["/app".to_owned(), "--serve".to_owned()],
            command: vec!["now".to_owned()],
            ..ImageConfig::default()
        }
    }

    fn request(text: &str) -> ExecRequest {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_empty_array_is_the_images_own_command() {
        let program = array(request(r#"{"argv":[]}"#), &image(), &login(), Environment::default()).unwrap();
        assert_eq!(program.path, "/app");
        assert_eq!(program.arguments, ["--serve", "now"]);
        assert_eq!(program.directory, Directory::FirstOf(vec!["/srv".into(), "/".into()]));
        let none =
            array(request(r#"{"argv":[]}"#), &ImageConfig::default(), &login(), Environment::default());
        assert_eq!(none.unwrap_err().status, 127);
    }

    #[test]
    fn words_variables_and_directory_are_bytes() {
        // "/bin/x", "\xff \n'"; A=\xfe; /d\xff
        let text = r#"{"argv":["L2Jpbi94","/yAKJw=="],"environment":[["QQ==","/g=="]],"directory":"L2T/"}"#;
        let program = array(request(text), &image(), &login(), Environment::default()).unwrap();
        assert_eq!(program.arguments, [OsString::from_vec(b"\xff \n'".to_vec())]);
        assert_eq!(program.environment.get("A"), Some(OsString::from_vec(vec![0xfe]).as_os_str()));
        assert_eq!(program.directory, Directory::Exactly(OsString::from_vec(b"/d\xff".to_vec()).into()));
        let text = r#"{"argv":["L2Jpbi94"],"environment":[["QT1C","/g=="]]}"#;
        assert!(array(request(text), &image(), &login(), Environment::default()).is_err());
    }

    async fn read(chunks: &[&[u8]]) -> Result<(ExecRequest, Vec<u8>), Failure> {
        let backlog = Backlog::new();
        let (sender, mut receiver) = unbounded_channel();
        for chunk in chunks {
            sender.send(backlog.hold(Bytes::copy_from_slice(chunk))).unwrap();
        }
        drop(sender);
        read_request(&mut receiver).await
    }

    #[tokio::test]
    async fn the_request_is_the_first_line_however_it_is_cut() {
        let (request, rest) = read(&[b"{\"argv\":", b"[\"L2E=\"]}\ninput\n", b"more"]).await.unwrap();
        assert_eq!(request.argv[0].0, b"/a");
        assert_eq!(rest, b"input\n");
        assert!(read(&[b"{\"argv\":[]}"]).await.is_err(), "without its newline it is not whole");
        assert!(read(&[b"nonsense\n"]).await.unwrap_err().message.contains("not an exec request"));
        let long = vec![b' '; EXEC_REQUEST_LIMIT + 1];
        assert!(read(&[&long]).await.unwrap_err().message.contains("too long"));
    }
}
