//! A small HTTP server on loopback that has files, and does to them what servers and networks do to files.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a server answers.
#[derive(Debug, Clone, Default)]
pub struct Serving {
    /// The file, under whatever path none of `files` has.
    pub content: Vec<u8>,
    /// Further files, by their paths. Where there are some, nothing is under other paths.
    pub files: BTreeMap<String, Vec<u8>>,
    /// After how many bytes the connection is cut: by the first request, the second, and so on. The others are answered
    /// whole.
    pub cuts: Vec<usize>,
    /// Whether a part of the file may be asked for (RFC 9110, section 14).
    pub ranges: bool,
    /// How many bytes later than asked for a part begins.
    pub shift: usize,
    /// Answered in place of the file, with this status: by the first request, the second, and so on.
    pub refusals: Vec<u16>,
    /// Whether a connection that would be cut stays open instead, and is silent.
    pub holds: bool,
}

/// A server that runs until this goes.
#[derive(Debug)]
pub struct FileServer {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    serving: Serving,
    /// Files by their paths, as they are now.
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    asked: Mutex<Vec<Request>>,
    /// Connections on which nothing more is sent, and the end of them all.
    held: Mutex<Option<Vec<TcpStream>>>,
}

/// What was asked for.
#[derive(Debug, Clone)]
struct Request {
    path: String,
    range: Option<String>,
}

impl FileServer {
    /// Starts one.
    pub fn start(mut serving: Serving) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let files = Mutex::new(std::mem::take(&mut serving.files));
        let held = Mutex::new(Some(Vec::new()));
        let state = Arc::new(State { serving, files, asked: Mutex::default(), held });
        let thread = std::thread::spawn({
            let state = Arc::clone(&state);
            move || state.serve(&listener)
        });
        Self { address, state, thread: Some(thread) }
    }

    /// Returns the address of a file.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Returns the `Range` of each request that came, in their order.
    pub fn asked(&self) -> Vec<Option<String>> {
        self.state.requests().into_iter().map(|request| request.range).collect()
    }

    /// Returns the path of each request that came, in their order.
    pub fn paths(&self) -> Vec<String> {
        self.state.requests().into_iter().map(|request| request.path).collect()
    }

    /// Puts files where they are asked for from now on, in place of those that were there.
    pub fn put(&self, files: impl IntoIterator<Item = (String, Vec<u8>)>) {
        self.state.files.lock().unwrap_or_else(PoisonError::into_inner).extend(files);
    }

    /// Takes a file away.
    pub fn remove(&self, path: &str) {
        self.state.files.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.state.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        TcpStream::connect(self.address).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl State {
    fn serve(&self, listener: &TcpListener) {
        for connection in listener.incoming() {
            let Ok(connection) = connection else { continue };
            if self.held.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
                return;
            }
            // Whoever asks may leave at any time.
            self.answer(connection).ok();
        }
    }

    fn requests(&self) -> Vec<Request> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what is under a path, if anything is.
    fn content(&self, path: &str) -> Option<Vec<u8>> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.is_empty() { Some(self.serving.content.clone()) } else { files.get(path).cloned() }
    }

    fn answer(&self, mut connection: TcpStream) -> std::io::Result<()> {
        let request = request(&connection)?;
        let range = request.range.clone();
        let content = self.content(&request.path);
        let count = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(request);
            asked.len() - 1
        };
        let refusal = self.serving.refusals.get(count).copied();
        let absent = content.is_none().then_some(404);
        if let Some(status) = refusal.or(absent) {
            return write!(
                connection,
                "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        let content = content.unwrap_or_default();
        let wanted = range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let shift = if wanted.is_some() { self.serving.shift } else { 0 };
        let begin =
            shift + wanted.and_then(|place| place.parse().ok()).filter(|_| self.serving.ranges).unwrap_or(0);
        let Some(body) = content.get(begin..).filter(|body| begin == 0 || !body.is_empty()) else {
            return write!(connection, "HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let (status, end, all) =
            (if begin > 0 { 206 } else { 200 }, content.len().saturating_sub(1), content.len());
        write!(connection, "HTTP/1.1 {status} Yes\r\nConnection: close\r\n")?;
        if begin > 0 {
            write!(connection, "Content-Range: bytes {begin}-{end}/{all}\r\n")?;
        }
        write!(connection, "Content-Length: {}\r\n\r\n", body.len())?;
        let cut = self.serving.cuts.get(count).copied().unwrap_or(body.len()).min(body.len());
        connection.write_all(&body[..cut])?;
        if self.serving.holds
            && cut < body.len()
            && let Some(held) = &mut *self.held.lock().unwrap_or_else(PoisonError::into_inner)
        {
            held.push(connection);
        }
        Ok(())
    }
}

/// Reads a request.
fn request(connection: &TcpStream) -> std::io::Result<Request> {
    let mut request = Request { path: String::new(), range: None };
    for line in BufReader::new(connection).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if request.path.is_empty() {
            let path = line.split(' ').nth(1).unwrap_or_default();
            path.trim_start_matches('/').clone_into(&mut request.path);
        } else if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            request.range = Some(value.trim().to_owned());
        }
    }
    Ok(request)
}
