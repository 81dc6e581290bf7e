//! What a browser does with the web console, over real HTTP: it keeps the cookie, fills in the forms that are on a page, and says
//! of each request where it comes from.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long something that must happen may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    head: String,
    /// Its content.
    pub body: String,
}

impl Reply {
    /// Returns a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Fails unless all of this is on the page.
    #[expect(clippy::return_self_not_must_use, reason = "most want nothing more of it")]
    pub fn says(self, words: &[&str]) -> Self {
        for words in words {
            assert!(self.body.contains(words), "no '{words}' in {} {}", self.status, self.body);
        }
        self
    }
}

/// Sends a request as it is, with `Connection: close` in it, and returns the answer to it.
pub fn ask(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).expect("the console listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
    // Somebody who has heard enough may have closed it.
    stream.write_all(request).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8(answer).expect("a text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().expect("a status"));
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// Returns a request's text. Each header is a whole line.
pub fn request(method: &str, path: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let headers = headers.join("\r\n");
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n\r\n{body}"
    )
    .into()
}

/// Returns fields as they are sent.
pub fn encoded(fields: &[(&str, &str)]) -> String {
    let escape = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    let escape = |text: &str| text.bytes().map(escape).collect::<Vec<_>>().concat();
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    pairs.join("&")
}

/// A browser that is signed in.
#[derive(Debug)]
pub struct Browser {
    /// Where the console is.
    pub address: SocketAddr,
    /// The path under which its session is.
    pub session: String,
    /// The cookie that it was given, as it sends it.
    pub cookie: String,
}

impl Browser {
    /// Signs in at a console by a link that it has made.
    pub fn sign_in(address: SocketAddr, link: &str) -> Self {
        let host = format!("Host: {address}");
        let page = ask(address, &request("GET", link, &[&host], ""));
        let token = hidden(&page.body).into_iter().find(|(name, _)| name == "token").expect("a token").1;
        let origin = ["Origin: null", "Sec-Fetch-Site: same-origin", &host];
        let entered = ask(address, &request("POST", "/sign-in", &origin, &encoded(&[("token", &token)])));
        assert_eq!(entered.status, 303, "{entered:?}");
        let session = entered.header("location").expect("a place to go").trim_end_matches('/').to_owned();
        let given = entered.header("set-cookie").expect("a cookie");
        for attribute in ["HttpOnly", "SameSite=Strict", &format!("Path={session}/")] {
            assert!(given.contains(attribute), "{given}");
        }
        Self { address, session, cookie: given.split(';').next().unwrap_or_default().to_owned() }
    }

    /// Returns a page's path.
    pub fn path(&self, page: &str) -> String {
        format!("{}{page}", self.session)
    }

    /// Asks with these headers beside the host and the cookie.
    pub fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
        let (host, cookie) = (format!("Host: {}", self.address), format!("Cookie: {}", self.cookie));
        ask(self.address, &request(method, path, &[&[host.as_str(), &cookie], headers].concat(), body))
    }

    /// Returns a page, whatever its status.
    pub fn look(&self, page: &str) -> Reply {
        self.ask("GET", &self.path(page), &["Sec-Fetch-Site: same-origin"], "")
    }

    /// Returns a page that is there.
    pub fn get(&self, page: &str) -> Reply {
        let reply = self.look(page);
        assert_eq!(reply.status, 200, "{page}: {}", reply.body);
        reply
    }

    /// Sends fields as a form of the console's own would.
    pub fn post(&self, page: &str, fields: &[(&str, &str)]) -> Reply {
        let origin = ["Origin: null", "Sec-Fetch-Site: same-origin"];
        self.ask("POST", &self.path(page), &origin, &encoded(fields))
    }

    /// Returns the key of the session's forms.
    pub fn key(&self) -> String {
        hidden(&self.get("/create").body).into_iter().find(|(name, _)| name == "key").expect("a key").1
    }

    /// Sends the form of a page that goes to `action`, with what is hidden in it and these fields.
    pub fn submit(&self, page: &str, action: &str, fields: &[(&str, &str)]) -> Reply {
        let shown = self.get(page).body;
        let begins = format!("method=\"post\" action=\"{}\"", self.path(action));
        let form = shown.split("<form").find(|form| form.contains(&begins));
        let form = form.unwrap_or_else(|| panic!("{page} has no form for {action}: {shown}"));
        let hidden = hidden(form.split("</form>").next().unwrap_or_default());
        let mut all: Vec<(&str, &str)> =
            hidden.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        all.extend(fields);
        self.post(action, &all)
    }

    /// Follows a form's answer to the page that it leads to.
    pub fn follow(&self, reply: &Reply) -> Reply {
        assert_eq!(reply.status, 303, "{}", reply.body);
        let place = reply.header("location").expect("a place to go");
        let page = place.strip_prefix(&self.session).expect("a page of the session");
        self.get(page)
    }

    /// Opens a stream.
    pub fn stream(&self, query: &str) -> Stream {
        let mut stream = TcpStream::connect(self.address).expect("the console listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        let head = format!(
            "GET {} HTTP/1.1\r\nConnection: close\r\nHost: {}\r\nCookie: {}\r\nSec-Fetch-Site: same-origin\r\n\r\n",
            self.path(&format!("/live?{query}")),
            self.address,
            self.cookie
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        Stream { stream, heard: String::new() }
    }
}

/// A stream of a page's live parts.
#[derive(Debug)]
pub struct Stream {
    stream: TcpStream,
    heard: String,
}

impl Stream {
    /// Waits until it says this, and forgets what it has said until then.
    pub fn wait_for(&mut self, words: &str) -> String {
        self.wait_for_all(&[words])
    }

    /// Waits until it has said all of this, in whatever order, and forgets what it has said until then.
    pub fn wait_for_all(&mut self, all: &[&str]) -> String {
        let deadline = Instant::now() + LIMIT;
        let mut buffer = [0; 4096];
        loop {
            let ends: Option<Vec<usize>> =
                all.iter().map(|words| self.heard.find(words).map(|at| at + words.len())).collect();
            if let Some(end) = ends.and_then(|ends| ends.into_iter().max()) {
                let rest = self.heard.split_off(end);
                return std::mem::replace(&mut self.heard, rest);
            }
            assert!(Instant::now() < deadline, "never said {all:?}: {}", self.heard);
            let count = self.stream.read(&mut buffer).expect("a stream");
            assert!(count > 0, "ended without {all:?}: {}", self.heard);
            self.heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    }

    /// Waits for its end. One that goes on for long, if only with words that keep it open, fails.
    pub fn end(mut self) {
        let deadline = Instant::now() + LIMIT;
        let mut buffer = [0; 4096];
        while self.stream.read(&mut buffer).expect("a stream") > 0 {
            assert!(Instant::now() < deadline, "it does not end");
        }
    }
}

/// Returns the hidden fields of some HTML.
pub fn hidden(html: &str) -> Vec<(String, String)> {
    let inputs = html.split("<input type=\"hidden\" ").skip(1);
    let attribute = |input: &str, name: &str| {
        let value = input
            .split_once(&format!("{name}=\""))
            .expect("its attribute")
            .1
            .split('"')
            .next()
            .unwrap_or_default();
        value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    };
    inputs.map(|input| (attribute(input, "name"), attribute(input, "value"))).collect()
}
