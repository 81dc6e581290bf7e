//! A server and a client that are connected to each other.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use banger_guest::login::Opener;
use banger_guest::ssh::{Places, Server, serve};
use banger_types::bytes::ByteString;
use banger_types::guest::{CONFIG_VERSION, EXEC_SUBSYSTEM, ExecRequest, GuestConfig, SshKeys};
use banger_types::image::ImageConfig;
use russh::client::{self, ChannelOpenHandle, Handle, Msg};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Sig};
use tokio::sync::watch;

/// How long anything in these tests may take; far more than it does.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Keys of these tests alone.
pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

pub(crate) const USER: &str = "tester";

/// The client's side: channels that the server opens echo.
pub(crate) struct Client;

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key: presented, .. } = presented else { return Ok(false) };
        Ok(presented.key_data() == key(1).public_key().key_data())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        tokio::spawn(echo(channel));
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _address: &str,
        _port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut client::Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        tokio::spawn(echo(channel));
        Ok(())
    }
}

async fn echo(channel: Channel<Msg>) {
    let (mut reader, mut writer) = tokio::io::split(channel.into_stream());
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut writer).await.unwrap();
}

/// A connected, logged in client, and the server's directories.
pub(crate) struct Harness {
    pub(crate) client: Handle<Client>,
    pub(crate) home: tempfile::TempDir,
    pub(crate) etc: tempfile::TempDir,
    _sockets: tempfile::TempDir,
}

/// Returns a client that has not logged in, and the directories.
pub(crate) async fn connect(image: ImageConfig) -> Harness {
    // This machine's own PAM and logind are no part of any test.
    connect_with(image, Opener::Program("/nonexistent/runuser".into())).await
}

/// Returns a client that has not logged in to a server with this way to open login sessions.
pub(crate) async fn connect_with(image: ImageConfig, logins: Opener) -> Harness {
    let (etc, home, sockets) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let entry = format!("{USER}:x:{user}:{group}::{}:/bin/sh\n", home.path().display());
    std::fs::write(etc.path().join("passwd"), entry).unwrap();
    let server = Server::with_places(
        &config(image),
        Places {
            etc: etc.path().to_owned(),
            helper: env!("CARGO_BIN_EXE_banger-guest").into(),
            sockets: sockets.path().to_owned(),
            logins,
        },
    )
    .unwrap();
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        let open = watch::Sender::new(false);
        serve(Arc::new(server), theirs, open.subscribe()).await;
    });
    let client = client::connect_stream(Arc::default(), ours, Client).await.unwrap();
    Harness { client, home, etc, _sockets: sockets }
}

fn config(image: ImageConfig) -> GuestConfig {
    GuestConfig {
        version: CONFIG_VERSION,
        hostname: "test".to_owned(),
        ssh: SshKeys {
            host_private_key: key(1).to_openssh(LineEnding::LF).unwrap().to_string(),
            authorized_keys: vec![key(2).public_key().to_openssh().unwrap()],
        },
        network: None,
        image,
        service: false,
        unix_time_ns: 0,
    }
}

impl Harness {
    /// Returns a client that is logged in.
    pub(crate) async fn new() -> Self {
        Self::with_image(ImageConfig::default()).await
    }

    pub(crate) async fn with_image(image: ImageConfig) -> Self {
        let mut harness = connect(image).await;
        assert!(harness.log_in(USER, 2).await, "the login is refused");
        harness
    }

    /// Tries to log in with the key of this seed.
    pub(crate) async fn log_in(&mut self, user: &str, seed: u8) -> bool {
        let key = PrivateKeyWithHashAlg::new(Arc::new(key(seed)), None);
        self.client.authenticate_publickey(user, key).await.unwrap().success()
    }

    pub(crate) async fn session(&self) -> Channel<Msg> {
        self.client.channel_open_session().await.unwrap()
    }

    /// Starts a command for the user's shell.
    pub(crate) async fn start(&self, line: &str) -> Channel<Msg> {
        let channel = self.session().await;
        channel.exec(true, line).await.unwrap();
        channel
    }

    /// Starts a command given as an array.
    pub(crate) async fn start_array(&self, request: &ExecRequest) -> Channel<Msg> {
        let channel = self.session().await;
        channel.request_subsystem(true, EXEC_SUBSYSTEM).await.unwrap();
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        channel.data(&line[..]).await.unwrap();
        channel
    }

    /// Runs a command for the user's shell to its end.
    pub(crate) async fn run(&self, line: &str) -> Outcome {
        Outcome::of(self.start(line).await).await
    }
}

/// Returns a request without more than its words.
pub(crate) fn words(words: &[&[u8]]) -> ExecRequest {
    ExecRequest {
        argv: words.iter().map(|word| ByteString(word.to_vec())).collect(),
        environment: Vec::new(),
        directory: None,
    }
}

/// Everything that a session said.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) output: Vec<u8>,
    pub(crate) errors: Vec<u8>,
    pub(crate) status: Option<u32>,
    pub(crate) signal: Option<Sig>,
    pub(crate) eof: bool,
}

impl Outcome {
    /// Takes everything in until the channel is closed.
    pub(crate) async fn of(mut channel: Channel<Msg>) -> Self {
        let mut outcome = Self::default();
        let reading = async {
            while let Some(message) = channel.wait().await {
                match message {
                    ChannelMsg::Data { data } => {
                        assert!(outcome.status.is_none(), "output comes before the status");
                        outcome.output.extend_from_slice(&data);
                    }
                    ChannelMsg::ExtendedData { data, ext: 1 } => outcome.errors.extend_from_slice(&data),
                    ChannelMsg::ExitStatus { exit_status } => outcome.status = Some(exit_status),
                    ChannelMsg::ExitSignal { signal_name, .. } => outcome.signal = Some(signal_name),
                    ChannelMsg::Eof => outcome.eof = true,
                    ChannelMsg::Failure => panic!("a request was refused"),
                    ChannelMsg::Close => break,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the session does not end");
        outcome
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.output.clone()).unwrap()
    }

    pub(crate) fn error_text(&self) -> String {
        String::from_utf8(self.errors.clone()).unwrap()
    }
}

/// Reads output until it contains `wanted`, and returns all of it.
pub(crate) async fn read_until(channel: &mut Channel<Msg>, wanted: &str) -> String {
    let mut text = String::new();
    let reading = async {
        while !text.contains(wanted) {
            match channel.wait().await {
                Some(ChannelMsg::Data { data }) => text.push_str(&String::from_utf8_lossy(&data)),
                Some(ChannelMsg::Failure) => panic!("a request was refused"),
                Some(_) => {}
                None => panic!("the channel ended after {text:?}"),
            }
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    assert!(read.is_ok(), "'{wanted}' does not come");
    text
}

/// Waits until a file is there.
pub(crate) async fn wait_for_file(path: &Path) {
    let waiting = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the file does not appear");
}
