//! Registries that want tokens, have had enough, send elsewhere, and say too much or next to nothing. A server of the
//! test's own: a real one does none of this when asked to. What real ones do is tested with the daemon.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use banger_core::work::Unwatched;
use banger_download::registry::{Credentials, Places, RegistryError, Repository};
use banger_download::{Client, DownloadError, Patience};
use banger_types::digest::Digest;
use sha2::Digest as _;

/// A request: its first line and its headers, and what its body has.
type Request = String;

/// A server that answers with what `answer` writes.
struct Server {
    host: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(answer: impl Fn(&Request, usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for mut client in listener.incoming().map_while(Result::ok) {
                let Some(request) = read(&mut client) else { continue };
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(request.clone());
                    seen.len()
                };
                answer(&request, number, &mut client);
            }
        });
        Self { host, requests }
    }

    fn repository(&self, credentials: Option<Credentials>) -> Repository {
        Repository::new(
            client(),
            "registry.example",
            &format!("http://{}", self.host),
            "team/tool",
            credentials,
        )
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(client: &mut TcpStream) -> Option<Request> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let mut request = String::from_utf8(head).unwrap();
    let length =
        request.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut body).ok()?;
    request.push_str(&String::from_utf8(body).unwrap());
    Some(request)
}

fn say(client: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    client.write_all(&[head.as_bytes(), body].concat()).ok();
}

/// Patience that a test has.
fn patience() -> Patience {
    Patience {
        window: Duration::from_millis(300),
        least: 1000,
        pause: Duration::from_millis(1),
        ..Patience::default()
    }
}

fn client() -> Client {
    Client::new(&[], patience()).unwrap()
}

fn digest(content: &[u8]) -> Digest {
    Digest::from_bytes(sha2::Sha256::digest(content).into())
}

async fn manifest(repository: &Repository, version: &str) -> Result<Vec<u8>, DownloadError> {
    repository
        .manifest(version, &["application/json"], 1 << 20, &Unwatched)
        .await
        .map(|fetched| fetched.bytes)
}

fn password() -> Credentials {
    Credentials::Password { user: "me".to_owned(), password: "secret".to_owned() }
}

const CONTENT: &[u8] = b"a blob";

/// A registry whose tokens are good for one request each.
fn forgetful() -> Server {
    Server::start(|request, number, client| {
        let host =
            request.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().to_owned();
        if request.contains(" /token") {
            say(client, "200 OK", "", format!("{{\"token\":\"t{number}\",\"expires_in\":60}}").as_bytes());
        } else if request.contains(&format!("authorization: Bearer t{}\r\n", number - 1)) {
            say(client, "200 OK", "", CONTENT);
        } else {
            let challenge = format!(
                "Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:team/tool:pull\""
            );
            say(client, "401 Unauthorized", &format!("WWW-Authenticate: {challenge}\r\n"), b"");
        }
    })
}

#[tokio::test]
async fn a_token_that_is_not_good_any_more_is_asked_for_again() {
    let server = forgetful();
    let repository = server.repository(Some(password()));
    assert_eq!(manifest(&repository, "latest").await.unwrap(), CONTENT);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blob");
    repository.blob(digest(CONTENT), CONTENT.len() as u64, &file, &Unwatched).await.unwrap();
    assert_eq!(std::fs::read(file).unwrap(), CONTENT);
    let requests = server.requests();
    let tokens: Vec<_> = requests.iter().filter(|request| request.contains(" /token")).collect();
    assert_eq!(tokens.len(), 2, "{requests:?}");
    assert!(
        tokens[0].starts_with("GET /token?service=s&scope=repository%3Ateam%2Ftool%3Apull "),
        "{}",
        tokens[0]
    );
    // "me:secret" in base64: only the server of tokens hears it.
    assert!(tokens.iter().all(|request| request.contains("authorization: Basic bWU6c2VjcmV0\r\n")));
    let others = requests.iter().filter(|request| !request.contains(" /token"));
    assert!(others.into_iter().all(|request| !request.contains("Basic")));
}

#[tokio::test]
async fn a_token_that_is_good_for_others_is_posted() {
    let server = forgetful();
    let repository = server.repository(Some(Credentials::IdentityToken("refresh".to_owned())));
    assert_eq!(manifest(&repository, "latest").await.unwrap(), CONTENT);
    let requests = server.requests();
    let token = requests.iter().find(|request| request.contains(" /token")).unwrap();
    assert!(
        token.starts_with("POST /token ") && token.contains("grant_type=refresh_token&refresh_token=refresh"),
        "{token}"
    );
}

#[tokio::test]
async fn a_registry_that_has_had_enough_is_waited_for_if_it_takes_no_long() {
    let server = Server::start(|_, number, client| match number {
        1 | 2 => say(client, "429 Too Many Requests", "Retry-After: 0\r\n", b""),
        _ => say(client, "200 OK", "", CONTENT),
    });
    assert_eq!(manifest(&server.repository(None), "latest").await.unwrap(), CONTENT);
    for header in ["Retry-After: 3600\r\n", ""] {
        let server = Server::start(move |_, _, client| say(client, "429 Too Many Requests", header, b""));
        let error = manifest(&server.repository(None), "latest").await.unwrap_err();
        assert!(matches!(error, DownloadError::Registry(RegistryError::RateLimited { .. })), "{error}");
        assert!(
            error.to_string().starts_with("the registry registry.example takes no more requests for now")
        );
        assert!(error.fix().unwrap().contains("docker login registry.example"));
        assert_eq!(server.requests().len(), 1);
    }
    // It may say so for ever.
    let server =
        Server::start(|_, _, client| say(client, "429 Too Many Requests", "Retry-After: 0\r\n", b""));
    manifest(&server.repository(None), "latest").await.unwrap_err();
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn a_registry_that_fails_is_asked_again_and_says_why() {
    let server = Server::start(|_, number, client| match number {
        1..=3 => say(client, "503 Service Unavailable", "", b""),
        _ => say(client, "200 OK", "", CONTENT),
    });
    assert_eq!(manifest(&server.repository(None), "latest").await.unwrap(), CONTENT);
    let message = br#"{"errors":[{"code":"UNKNOWN","message":"the\u001b[2J disk is full"}]}"#;
    let server = Server::start(|_, _, client| say(client, "500 Internal Server Error", "", message));
    let error = manifest(&server.repository(None), "latest").await.unwrap_err();
    let text = error.to_string();
    assert_eq!(text, "the registry registry.example answers 500 Internal Server Error: the[2J disk is full");
    assert_eq!(server.requests().len(), 4);
    let server = Server::start(|_, _, client| say(client, "418 I'm a teapot", "", b"<html>"));
    let error = manifest(&server.repository(None), "latest").await.unwrap_err();
    assert!(error.to_string().contains("418"), "{error}");
    assert_eq!(server.requests().len(), 1, "the same request would do no better");
}

#[tokio::test]
async fn what_is_too_long_or_something_else_is_refused() {
    // Of a manifest of 100 MB no more is read than one may have.
    let server = Server::start(|_, _, client| {
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").unwrap();
        let piece = vec![b' '; 100_000];
        while client.write_all(&piece).is_ok() {}
    });
    let error = manifest(&server.repository(None), "latest").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the registry registry.example sends a manifest of more than 1048576 bytes"
    );
    let server = Server::start(|_, _, client| say(client, "200 OK", "", CONTENT));
    let wanted = digest(b"something else").to_string();
    let error = manifest(&server.repository(None), &wanted).await.unwrap_err();
    assert!(matches!(error, DownloadError::Digest { .. }), "{error}");
    assert_eq!(manifest(&server.repository(None), &digest(CONTENT).to_string()).await.unwrap(), CONTENT);
}

#[tokio::test]
async fn a_registry_that_gives_a_byte_now_and_then_is_given_up() {
    let server = Server::start(|_, _, client| {
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").unwrap();
        while client.write_all(b"x").is_ok() {
            // What is tested is a server that takes its time.
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blob");
    let blob = server.repository(None).blob(digest(CONTENT), 1_000_000, &file, &Unwatched).await.unwrap_err();
    assert!(matches!(blob, DownloadError::TooSlow { .. }), "{blob}");
    assert_eq!(server.requests().len(), 4);
    let document = manifest(&server.repository(None), "latest").await.unwrap_err();
    assert!(matches!(document, DownloadError::TooSlow { .. }), "{document}");
}

#[tokio::test]
async fn who_asks_is_not_said_where_a_registry_sends_to() {
    let storage = Server::start(|_, _, client| say(client, "200 OK", "", CONTENT));
    let place = format!("Location: http://localhost:{}/blob\r\n", storage.host.split(':').nth(1).unwrap());
    let registry = Server::start(move |request, _, client| {
        if request.contains("authorization: Basic") {
            say(client, "307 Temporary Redirect", &place, b"");
        } else {
            say(client, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b"");
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blob");
    let repository = registry.repository(Some(password()));
    repository.blob(digest(CONTENT), CONTENT.len() as u64, &file, &Unwatched).await.unwrap();
    assert!(
        storage.requests().iter().all(|request| !request.contains("authorization")),
        "{:?}",
        storage.requests()
    );
    // Without credentials, nothing is tried twice.
    let error = manifest(&registry.repository(None), "latest").await.unwrap_err();
    assert!(error.to_string().contains("does not let anybody pull 'team/tool'"), "{error}");
}

#[tokio::test]
async fn what_a_mirror_does_not_have_the_registry_is_asked_for() {
    let mirror = Server::start(|_, _, client| say(client, "404 Not Found", "", b""));
    let registry = Server::start(|_, _, client| say(client, "200 OK", "", CONTENT));
    let places = Places::new(vec![mirror.repository(None)], registry.repository(None));
    let fetched = places.manifest("latest", &["a/b"], 1 << 20, &Unwatched).await.unwrap();
    assert_eq!((fetched.bytes.as_slice(), mirror.requests().len()), (CONTENT, 1));
    assert!(mirror.requests()[0].contains("accept: a/b\r\n"));
    let places = Places::new(vec![registry.repository(None)], mirror.repository(None));
    places.manifest("latest", &[], 1 << 20, &Unwatched).await.unwrap();
    assert_eq!(mirror.requests().len(), 1, "the registry is not asked for what a mirror has");
}
