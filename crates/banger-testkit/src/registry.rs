//! A real registry on loopback, and a proxy before it that cuts, spoils and writes down.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags};
use tempfile::TempDir;

/// A name and a password that a registry with authentication takes.
const USER: (&str, &str) = ("somebody", "secret");
/// The password, as htpasswd(1) keeps it.
const HASHED: &str = "$2b$04$kIogCOlhjlI6tgcF5QYgbuOeDNCReLiDbfQxQUlt3bvwVqr7g0KMa";

/// How a registry is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegistryOptions {
    /// It asks who comes, and knows `somebody`, whose password is `secret`.
    pub authentication: bool,
    /// It has TLS, with a certificate of an authority of its own.
    pub tls: bool,
}

/// Debian's `docker-registry`. It ends when it is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: SocketAddr,
    options: RegistryOptions,
    directory: TempDir,
}

impl Registry {
    /// Starts one, without any images.
    pub fn start(options: RegistryOptions) -> Self {
        let directory = tempfile::tempdir().expect("a directory for a registry");
        let at = |name: &str| directory.path().join(name).display().to_string();
        let mut configuration = format!(
            "version: 0.1\nlog:\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n",
            at("storage")
        );
        if options.tls {
            certify(directory.path());
            let tls =
                format!("  tls:\n    certificate: {}\n    key: {}\n", at("server.pem"), at("server.key"));
            configuration.push_str(&tls);
        }
        if options.authentication {
            std::fs::write(at("htpasswd"), format!("{}:{HASHED}\n", USER.0)).expect("write who may come");
            let lines = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", at("htpasswd"));
            configuration.push_str(&lines);
        }
        std::fs::write(at("config.yml"), configuration).expect("configure a registry");
        let mut child = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start docker-registry");
        let mut lines = BufReader::new(child.stderr.take().expect("its output")).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.split(['"', ',', ' ']).next()?.parse().ok()
        });
        // What it says further on must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: address.expect("a registry that listens"), options, directory }
    }

    /// Returns its host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the certificate of its authority, in PEM.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("authority.pem")
    }

    /// Puts an image of a layout into it, with skopeo.
    pub fn push(&self, layout: &Path, tag: &str, name: &str) {
        let mut command = Command::new("skopeo");
        command.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]);
        if self.options.authentication {
            command.arg(format!("--dest-creds={}:{}", USER.0, USER.1));
        }
        command
            .arg(format!("oci:{}:{tag}", layout.display()))
            .arg(format!("docker://{}/{name}", self.address));
        let output = command.output().expect("run skopeo");
        assert!(output.status.success(), "skopeo: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Makes an authority and a certificate of it for this host.
fn certify(directory: &Path) {
    let run = |arguments: &[&str]| {
        let output =
            Command::new("openssl").args(arguments).current_dir(directory).output().expect("run openssl");
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = [
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=test authority",
        "-keyout",
        "authority.key",
        "-out",
        "authority.pem",
    ];
    run(&[&["req"], &key[..], &authority].concat());
    run(&[
        &["req"],
        &key[..],
        &["-subj", "/CN=test registry", "-keyout", "server.key", "-out", "server.csr"],
    ]
    .concat());
    std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        .expect("write names");
    let signed = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-extfile", "names"];
    run(&[&["x509", "-req", "-days", "2", "-in", "server.csr", "-out", "server.pem"], &signed[..]].concat());
}

/// What a proxy does to what passes.
#[derive(Debug, Clone, Default)]
pub struct Passing {
    /// After how many bytes the answers to the first requests for blobs are cut.
    pub cuts: Vec<u64>,
    /// They are not cut there, but nothing more comes for as long as somebody waits for it.
    pub stalls: bool,
    /// Of every blob, a byte is another.
    pub spoils: bool,
}

/// A proxy before a registry.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    passing: Mutex<Passing>,
    requests: Mutex<Vec<String>>,
    /// How many requests wanted a part of a blob.
    partial: AtomicUsize,
    /// How many answers have come to stand still.
    stalled: Mutex<usize>,
    stalls: Condvar,
}

impl Proxy {
    /// Starts one before a registry. It ends with the test's process.
    pub fn before(registry: &Registry, passing: Passing) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State {
            upstream: registry.address,
            passing: Mutex::new(passing),
            requests: Mutex::default(),
            partial: AtomicUsize::new(0),
            stalled: Mutex::default(),
            stalls: Condvar::new(),
        });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&serving);
                std::thread::spawn(move || state.serve(&client));
            }
        });
        Self { address, state }
    }

    /// Returns its host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Waits until so many answers have come to stand still.
    pub fn wait_for_stalls(&self, count: usize) {
        let stalled = self.state.stalled.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.state.stalls.wait_while(stalled, |stalled| *stalled < count);
        drop(all.unwrap_or_else(PoisonError::into_inner));
    }

    /// Returns the first line of each request that came, and forgets them.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns how many requests for blobs came that wanted a part: RFC 9110 section 14.2.
    pub fn partial_requests(&self) -> usize {
        self.state.partial.load(Ordering::Relaxed)
    }

    /// Returns how many requests for blobs of this kind came: those with the digests' documents are blobs, too.
    pub fn blob_requests(&self) -> usize {
        self.requests().iter().filter(|request| request.contains("/blobs/")).count()
    }
}

impl State {
    fn serve(&self, client: &TcpStream) {
        let Ok(server) = TcpStream::connect(self.upstream) else { return };
        let budget = Mutex::new(None);
        std::thread::scope(|scope| {
            scope.spawn(|| self.pass_requests(client, &server, &budget));
            self.pass_answers(&server, client, &budget);
            client.shutdown(Shutdown::Both).ok();
            server.shutdown(Shutdown::Both).ok();
        });
    }

    /// Passes requests on. They have no bodies, so that all there is are heads.
    fn pass_requests(&self, mut client: &TcpStream, mut server: &TcpStream, budget: &Mutex<Option<Passage>>) {
        let (mut head, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(got @ 1..) = client.read(&mut buffer) {
            for &byte in &buffer[..got] {
                head.push(byte);
                if head.ends_with(b"\r\n\r\n") {
                    self.note(&head, budget);
                    head.clear();
                }
            }
            if server.write_all(&buffer[..got]).is_err() {
                break;
            }
        }
        server.shutdown(Shutdown::Write).ok();
    }

    fn note(&self, head: &[u8], budget: &Mutex<Option<Passage>>) {
        let head = String::from_utf8_lossy(head);
        let line = head.lines().next().unwrap_or_default().to_owned();
        if line.contains("/blobs/") {
            let is_partial = head.lines().any(|line| line.to_ascii_lowercase().starts_with("range:"));
            self.partial.fetch_add(usize::from(is_partial), Ordering::Relaxed);
            let mut passing = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
            let cut = (!passing.cuts.is_empty()).then(|| passing.cuts.remove(0));
            let passage = Passage { cut, stalls: passing.stalls, spoil: passing.spoils.then_some(SPOILED) };
            *budget.lock().unwrap_or_else(PoisonError::into_inner) = Some(passage);
        }
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn pass_answers(&self, mut server: &TcpStream, mut client: &TcpStream, budget: &Mutex<Option<Passage>>) {
        let mut buffer = [0; 16 << 10];
        while let Ok(got @ 1..) = server.read(&mut buffer) {
            let mut passage = budget.lock().unwrap_or_else(PoisonError::into_inner);
            let mut most = got as u64;
            let (mut ends, mut waits) = (false, false);
            if let Some(Passage { cut, stalls, spoil }) = passage.as_mut() {
                if let Some(cut) = cut {
                    ends = *cut <= most;
                    waits = ends && *stalls;
                    most = most.min(*cut);
                    *cut -= most;
                }
                match spoil {
                    Some(at) if *at < got as u64 => {
                        buffer[usize::try_from(*at).expect("a place in a buffer")] ^= 1;
                        *spoil = None;
                    }
                    Some(at) => *at -= got as u64,
                    None => {}
                }
            }
            drop(passage);
            let most = usize::try_from(most).expect("no more than a buffer");
            let passed = client.write_all(&buffer[..most]);
            if waits {
                *self.stalled.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                self.stalls.notify_all();
                // Until it has gone.
                rustix::event::poll(&mut [PollFd::new(client, PollFlags::RDHUP)], None).ok();
            }
            if passed.is_err() || ends {
                break;
            }
        }
    }
}

/// The byte of an answer that is spoiled: beyond its head.
const SPOILED: u64 = 2000;

/// What is done to an answer.
#[derive(Debug)]
struct Passage {
    cut: Option<u64>,
    stalls: bool,
    spoil: Option<u64>,
}
