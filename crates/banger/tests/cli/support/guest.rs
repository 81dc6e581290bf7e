//! A fake guest: a monitor's socket, and behind it an SSH server whose programs are written here.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use banger_types::guest::{EXEC_SUBSYSTEM, ExecRequest, Service};
use banger_types::monitor::{MonitorReply, MonitorRequest};
use banger_types::vm::SessionTarget;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::server::{self, Auth, ChannelOpenHandle, Handle, Msg, Session};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::hostile::Hostile;

/// Name of the variable that makes this program a file server.
pub(crate) const FILE_SERVER: &str = "BANGER_TEST_FILE_SERVER";

pub(crate) struct Guest {
    target: Mutex<SessionTarget>,
    configuration: Arc<server::Config>,
    client_key: PublicKey,
    /// What the monitor answers instead of connecting.
    pub(crate) refusal: Mutex<Option<String>>,
    /// The home of the user whose files are served.
    pub(crate) home: PathBuf,
    /// Answers file transfers instead of the real server.
    pub(crate) hostile: Mutex<Option<Hostile>>,
}

impl Guest {
    pub(super) fn start(directory: &Path) -> Arc<Self> {
        let key = || PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        let (host_key, client_key) = (key(), key());
        let identity_file = directory.join("identity");
        std::fs::write(&identity_file, client_key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
        let target = SessionTarget {
            id: "0123456789ab".parse().unwrap(),
            name: "web".parse().unwrap(),
            // Deep enough that the path does not fit a socket's address.
            monitor_socket: directory.join("d".repeat(60)).join("e".repeat(60)).join("monitor.sock"),
            identity_file,
            host_public_key: host_key.public_key().to_openssh().unwrap(),
            default_user: "dev".to_owned(),
        };
        let configuration = server::Config {
            keys: vec![host_key],
            auth_rejection_time: std::time::Duration::ZERO,
            ..server::Config::default()
        };
        let guest = Arc::new(Self {
            target: Mutex::new(target.clone()),
            configuration: Arc::new(configuration),
            client_key: client_key.public_key().clone(),
            refusal: Mutex::default(),
            home: directory.join("guest"),
            hostile: Mutex::default(),
        });
        std::fs::create_dir_all(&guest.home).unwrap();
        let listener = listen(directory, &target.monitor_socket);
        let serving = Arc::clone(&guest);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        guest
    }

    pub(crate) fn target(&self) -> SessionTarget {
        self.target.lock().unwrap().clone()
    }

    async fn serve(self: Arc<Self>, stream: UnixStream) {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert_eq!(
            serde_json::from_str::<MonitorRequest>(&line).unwrap(),
            MonitorRequest::Connect(Service::Ssh)
        );
        let refusal = self.refusal.lock().unwrap().clone();
        let reply = refusal.clone().map_or(MonitorReply::Connected, MonitorReply::Failed);
        let mut answer = serde_json::to_vec(&reply).unwrap();
        answer.push(b'\n');
        stream.write_all(&answer).await.unwrap();
        if refusal.is_some() {
            return;
        }
        let handler = Server { guest: Arc::clone(&self), user: String::new() };
        let Ok(session) = server::run_stream(Arc::clone(&self.configuration), stream, handler).await else {
            return;
        };
        // A client that hangs up in the middle is part of some tests.
        let _ = session.await;
    }
}

/// Listens on a path that is too long for an address, by way of its directory.
fn listen(directory: &Path, socket: &Path) -> UnixListener {
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let short = directory.join("s");
    // A daemon before this one may have left both.
    let _ = std::fs::remove_file(&short);
    let _ = std::fs::remove_file(socket);
    std::os::unix::fs::symlink(socket.parent().unwrap(), &short).unwrap();
    UnixListener::bind(short.join(socket.file_name().unwrap())).unwrap()
}

/// Starts the file server that real guests have, in a process of its own: see `copy::acts_as_file_server`.
fn real_file_server(home: &Path) -> UnixStream {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "copy::acts_as_file_server"])
        .env(FILE_SERVER, "1")
        .current_dir(home)
        .stdin(std::os::fd::OwnedFd::from(theirs))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // It ends with the stream.
    std::thread::spawn(move || child.wait());
    ours.set_nonblocking(true).unwrap();
    UnixStream::from_std(ours).unwrap()
}

struct Server {
    guest: Arc<Guest>,
    user: String,
}

impl server::Handler for Server {
    type Error = russh::Error;

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: server::VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        if user == "stranger" || key.public_key.key_data() != self.guest.client_key.key_data() {
            return Ok(Auth::reject());
        }
        user.clone_into(&mut self.user);
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.accept().await;
        let (reader, writer) = channel.split();
        let guest_session = GuestSession {
            guest: Arc::clone(&self.guest),
            user: self.user.clone(),
            terminal: None,
            agent: false,
            reader,
            writer,
            handle: session.handle(),
        };
        tokio::spawn(guest_session.run());
        Ok(())
    }

    async fn agent_request(
        &mut self,
        _channel: russh::ChannelId,
        _session: &mut Session,
    ) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

/// What the program `show` prints.
#[derive(Debug, Serialize, serde::Deserialize)]
pub(crate) struct Shown {
    pub(crate) user: String,
    pub(crate) terminal: Option<(String, u32, u32)>,
    pub(crate) request: ExecRequest,
}

struct GuestSession {
    guest: Arc<Guest>,
    user: String,
    terminal: Option<(String, u32, u32)>,
    agent: bool,
    reader: ChannelReadHalf,
    writer: ChannelWriteHalf<Msg>,
    handle: Handle,
}

impl GuestSession {
    async fn run(mut self) {
        let id = self.writer.id();
        while let Some(message) = self.reader.wait().await {
            match message {
                ChannelMsg::RequestPty { term, col_width, row_height, .. } => {
                    self.terminal = Some((term, col_width, row_height));
                    self.handle.channel_success(id).await.unwrap();
                }
                ChannelMsg::AgentForward { .. } => {
                    self.agent = true;
                    self.handle.channel_success(id).await.unwrap();
                }
                ChannelMsg::RequestShell { .. } => {
                    self.handle.channel_success(id).await.unwrap();
                    return self.shell().await;
                }
                ChannelMsg::Exec { command, .. } => {
                    self.handle.channel_success(id).await.unwrap();
                    self.print(&[b"line: ", command.as_slice(), b"\n"].concat()).await;
                    if command == b"agent" {
                        self.ask_agent().await;
                    }
                    return self.exit(0).await;
                }
                ChannelMsg::RequestSubsystem { name, .. } if name == EXEC_SUBSYSTEM => {
                    self.handle.channel_success(id).await.unwrap();
                    return self.exec().await;
                }
                ChannelMsg::RequestSubsystem { name, .. } if name == "sftp" => {
                    self.handle.channel_success(id).await.unwrap();
                    let hostile = self.guest.hostile.lock().unwrap().clone();
                    let stream = match hostile {
                        Some(hostile) => hostile.start(),
                        None => real_file_server(&self.guest.home),
                    };
                    return self.connect(stream).await;
                }
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    /// Passes bytes on in both directions until either side hangs up.
    async fn connect(mut self, stream: UnixStream) {
        let (mut from_server, mut to_server) = stream.into_split();
        let incoming = async {
            while let Some(message) = self.reader.wait().await {
                if let ChannelMsg::Data { data } = message
                    && to_server.write_all(&data).await.is_err()
                {
                    break;
                }
            }
        };
        let outgoing = async {
            let mut buffer = vec![0; 32 << 10];
            while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                if self.writer.data_bytes(buffer[..count].to_vec()).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = incoming => {}
            () = outgoing => {}
        }
        let _ = self.handle.close(self.writer.id()).await;
    }

    async fn print(&self, text: &[u8]) {
        // Fails when the client hung up.
        let _ = self.writer.data_bytes(text.to_vec()).await;
    }

    async fn exit(&self, code: u32) {
        let id = self.writer.id();
        let _ = self.handle.exit_status_request(id, code).await;
        let _ = self.handle.eof(id).await;
        let _ = self.handle.close(id).await;
    }

    async fn shell(mut self) {
        let kind = if self.terminal.is_some() { "with a terminal" } else { "without a terminal" };
        self.print(format!("login shell of {} {kind}\n", self.user).as_bytes()).await;
        let mut input = Vec::new();
        while let Some(message) = self.reader.wait().await {
            match message {
                ChannelMsg::Data { data } => input.extend_from_slice(&data),
                ChannelMsg::Eof => break,
                _ => {}
            }
        }
        self.print(&input).await;
        self.exit(5).await;
    }

    async fn ask_agent(&mut self) {
        assert!(self.agent);
        let channel = self.handle.channel_open_agent().await.unwrap();
        let mut stream = channel.into_stream();
        stream.write_all(b"question").await.unwrap();
        let mut answer = [0; 6];
        stream.read_exact(&mut answer).await.unwrap();
        self.print(&answer).await;
    }

    async fn exec(mut self) {
        let mut input = Vec::new();
        let end = loop {
            if let Some(end) = input.iter().position(|&byte| byte == b'\n') {
                break end;
            }
            match self.reader.wait().await {
                Some(ChannelMsg::Data { data }) => input.extend_from_slice(&data),
                other => panic!("no request came: {other:?}"),
            }
        };
        let request: ExecRequest = serde_json::from_slice(&input[..end]).unwrap();
        let rest = input.split_off(end + 1);
        let argv: Vec<String> =
            request.argv.iter().map(|word| String::from_utf8_lossy(&word.0).into_owned()).collect();
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["echo"] => self.echo(rest).await,
            ["exit", code] => self.exit(code.parse().unwrap()).await,
            ["die", signal] => self.die(signal).await,
            ["both"] => {
                self.print(b"to output\n").await;
                let _ = self.writer.extended_data_bytes(1, b"to error\n".to_vec()).await;
                self.exit(0).await;
            }
            ["signals"] => self.signals().await,
            ["keys"] => self.keys().await,
            ["flood"] => while self.writer.data_bytes(vec![b'x'; 32 << 10]).await.is_ok() {},
            ["vanish"] => {
                self.print(b"bye\n").await;
                let _ = self
                    .handle
                    .disconnect(russh::Disconnect::ByApplication, String::new(), String::new())
                    .await;
            }
            ["close"] => drop(self.handle.close(self.writer.id()).await),
            _ => {
                let shown = Shown { user: self.user.clone(), terminal: self.terminal.clone(), request };
                self.print(&serde_json::to_vec(&shown).unwrap()).await;
                self.exit(0).await;
            }
        }
    }

    /// Prints its input. Reading never waits for writing: the two windows are independent.
    async fn echo(mut self, first: Vec<u8>) {
        let (sender, mut pieces) = tokio::sync::mpsc::unbounded_channel();
        sender.send(first.into()).unwrap();
        let reading = tokio::spawn(async move {
            while let Some(message) = self.reader.wait().await {
                match message {
                    ChannelMsg::Data { data } => sender.send(data).unwrap(),
                    ChannelMsg::Eof => break,
                    _ => {}
                }
            }
        });
        while let Some(piece) = pieces.recv().await {
            if self.writer.data_bytes(piece).await.is_err() {
                return;
            }
        }
        reading.await.unwrap();
        let id = self.writer.id();
        let _ = self.handle.exit_status_request(id, 0).await;
        let _ = self.handle.close(id).await;
    }

    async fn die(&self, signal: &str) {
        let id = self.writer.id();
        let signal = match signal {
            "KILL" => Sig::KILL,
            "TERM" => Sig::TERM,
            other => Sig::Custom(other.to_owned()),
        };
        let _ = self.handle.exit_signal_request(id, signal, false, String::new(), String::new()).await;
        let _ = self.handle.close(id).await;
    }

    /// Prints the names of the signals that it gets, for ever; QUIT kills it.
    async fn signals(mut self) {
        self.print(b"ready\n").await;
        while let Some(message) = self.reader.wait().await {
            if let ChannelMsg::Signal { signal } = message {
                if matches!(signal, Sig::QUIT) {
                    return self.die("QUIT").await;
                }
                self.print(format!("{signal:?}\n").as_bytes()).await;
            }
        }
    }

    /// Prints its keys and its terminal's sizes until the key q.
    async fn keys(mut self) {
        let (_, columns, rows) = self.terminal.clone().unwrap_or_default();
        self.print(format!("size {columns}x{rows}\r\n").as_bytes()).await;
        while let Some(message) = self.reader.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    for byte in data {
                        if byte == b'q' {
                            return self.exit(0).await;
                        }
                        self.print(format!("key {byte:02x}\r\n").as_bytes()).await;
                    }
                }
                ChannelMsg::WindowChange { col_width, row_height, .. } => {
                    self.print(format!("size {col_width}x{row_height}\r\n").as_bytes()).await;
                }
                _ => {}
            }
        }
    }
}
