//! A small HTTP server on loopback that has one file, and does to it what servers and networks do to files.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a server answers.
#[derive(Debug, Clone, Default)]
pub struct Serving {
    /// The file.
    pub content: Vec<u8>,
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
    /// The `Range` of each request.
    asked: Mutex<Vec<Option<String>>>,
    /// Connections on which nothing more is sent, and the end of them all.
    held: Mutex<Option<Vec<TcpStream>>>,
}

impl FileServer {
    /// Starts one.
    pub fn start(serving: Serving) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State { serving, asked: Mutex::default(), held: Mutex::new(Some(Vec::new())) });
        let thread = std::thread::spawn({
            let state = Arc::clone(&state);
            move || state.serve(&listener)
        });
        Self { address, state, thread: Some(thread) }
    }

    /// Returns the address of its file, under this name.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Returns the `Range` of each request that came, in their order.
    pub fn asked(&self) -> Vec<Option<String>> {
        self.state.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

    fn answer(&self, mut connection: TcpStream) -> std::io::Result<()> {
        let range = range(&connection)?;
        let count = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(range.clone());
            asked.len() - 1
        };
        let content = &self.serving.content;
        if let Some(status) = self.serving.refusals.get(count) {
            return write!(
                connection,
                "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        let wanted = range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        let shift = if wanted.is_some() { self.serving.shift } else { 0 };
        let begin =
            shift + wanted.and_then(|place| place.parse().ok()).filter(|_| self.serving.ranges).unwrap_or(0);
        let Some(body) = content.get(begin..).filter(|body| begin == 0 || !body.is_empty()) else {
            return write!(connection, "HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        let (status, end, all) = (if begin > 0 { 206 } else { 200 }, content.len() - 1, content.len());
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

/// Reads a request, and returns its `Range`.
fn range(connection: &TcpStream) -> std::io::Result<Option<String>> {
    let mut range = None;
    for line in BufReader::new(connection).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
    Ok(range)
}
