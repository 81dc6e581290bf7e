//! The API as any HTTP client sees it: forms of answers, limits, versions.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use banger_testkit::{Environment, not_run};
use banger_types::problem::{MEDIA_TYPE, Problem};
use banger_types::{ApiError, ErrorKind};
use serde_json::json;

use crate::support::{Daemon, request};

/// A user who is nobody here.
const STRANGER: u32 = 12345;

/// An answer as it came.
struct Answer {
    status: u16,
    /// Names are in lower case.
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Returns the problem that it is, with everything about it as it should be.
    fn problem(&self) -> Problem {
        assert_eq!(self.header("content-type"), MEDIA_TYPE, "{}", self.body);
        let problem: Problem = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem.status, self.status);
        assert_eq!(problem.kind, format!("urn:banger:problem:{}", problem.code));
        problem
    }
}

/// Asks with exactly this head, whose lines end as they should, and this body.
fn ask(daemon: &Daemon, head: &str, body: &str) -> Answer {
    let mut stream = UnixStream::connect(daemon.client.socket()).unwrap();
    let head = format!("{head}\nHost: banger\nConnection: close\nContent-Length: {}\n\n", body.len());
    stream.write_all(head.replace('\n', "\r\n").as_bytes()).unwrap();
    // A server that refuses what is too long does not read it to its end.
    stream.write_all(body.as_bytes()).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_lowercase(), value.to_owned())
    };
    Answer { status, headers: lines.map(header).collect(), body: body.to_owned() }
}

#[test]
fn every_refusal_is_a_problem_with_its_code_and_what_to_do() {
    let daemon = Daemon::new();
    daemon.create("web", |_| ());
    let long = format!("{{\"name\": \"{}\"}}", "a".repeat(2 << 20));
    for (head, body, status, code) in [
        ("GET /v1/vms/none HTTP/1.1", "", 404, ErrorKind::NotFound),
        ("GET /v1/nothing HTTP/1.1", "", 404, ErrorKind::NotFound),
        ("PUT /v1/vms HTTP/1.1", "", 405, ErrorKind::Usage),
        ("GET /v1/operations?limit=x HTTP/1.1", "", 400, ErrorKind::Usage),
        ("POST /v1/vms HTTP/1.1\nContent-Type: application/json", "{\"nmae\": \"x\"}", 400, ErrorKind::Usage),
        (
            "POST /v1/vms HTTP/1.1\nContent-Type: application/json",
            "{\"name\": \"A_B\"}",
            400,
            ErrorKind::Usage,
        ),
        ("POST /v1/vms HTTP/1.1\nContent-Type: application/json", "{", 400, ErrorKind::Usage),
        ("POST /v1/vms HTTP/1.1\nContent-Type: text/plain", "{}", 400, ErrorKind::Usage),
        ("POST /v1/vms/web/start HTTP/1.1", "", 409, ErrorKind::Conflict),
        ("POST /v1/vms HTTP/1.1\nContent-Type: application/json", &long, 413, ErrorKind::Usage),
        (
            "POST /v1/vms HTTP/1.1\nContent-Type: application/json\nIdempotency-Key: k",
            &long,
            413,
            ErrorKind::Usage,
        ),
        ("POST /v1/vms HTTP/1.1\nIdempotency-Key: one\nIdempotency-Key: two", "{}", 400, ErrorKind::Usage),
    ] {
        let answer = ask(&daemon, head, body);
        assert_eq!(answer.status, status, "{head}: {}", answer.body);
        let problem = answer.problem();
        assert_eq!(problem.code, code, "{head}: {problem:?}");
        assert!(!problem.title.is_empty(), "{head}: {problem:?}");
    }
    let problem = ask(&daemon, "POST /v1/vms/web/start HTTP/1.1", "").problem();
    assert_eq!(problem.detail.as_deref(), Some("it is running already"));
    let stopped = ask(&daemon, "GET /v1/vms/web/session HTTP/1.1", "");
    assert_eq!(stopped.status, 200, "{}", stopped.body);
}

#[test]
fn what_begins_says_where_to_look() {
    let daemon = Daemon::new();
    let body = serde_json::to_string(&request("web", |_| ())).unwrap();
    let head =
        "POST /v1/vms HTTP/1.1\nContent-Type: application/json\nIdempotency-Key: k\nUser-Agent: curl/8";
    let answer = ask(&daemon, head, &body);
    assert_eq!(answer.status, 202, "{}", answer.body);
    let location = answer.header("location").to_owned();
    let shown = ask(&daemon, &format!("GET {location} HTTP/1.1"), "");
    let shown: serde_json::Value = serde_json::from_str(&shown.body).unwrap();
    assert_eq!(shown["asked_by"]["program"], "curl/8");
    assert_eq!(ask(&daemon, head, &body).header("location"), location);
    let conflict = ask(&daemon, head, "{}").problem();
    let operation = conflict.operation.unwrap();
    assert!(location.ends_with(operation.as_str()), "{location}");
}

/// A client that does not come to an end with what it asks is not waited for, and delays nobody.
#[test]
fn who_says_nothing_is_not_waited_for() {
    let daemon = Daemon::of(Environment::empty());
    let half = |text: &str| {
        let mut stream = UnixStream::connect(daemon.client.socket()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let mut silent: Vec<_> = (0..50).map(|_| half("")).collect();
    let mut head = half("GET /v1/system HTTP/1.1\r\nHost: ban");
    let mut body = half(
        "POST /v1/vms HTTP/1.1\r\nHost: banger\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    );
    assert_eq!(ask(&daemon, "GET /v1/system HTTP/1.1", "").status, 200);
    for stream in silent.iter_mut().chain([&mut head]) {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        let rest = String::from_utf8(rest).unwrap();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
    }
    let mut rest = [0; 12];
    body.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"HTTP/1.1 408");
}

#[test]
fn another_user_is_turned_away() {
    if !rustix::process::geteuid().is_root() {
        return not_run("another_user_is_turned_away", "only root can act as another user");
    }
    let daemon = Daemon::of(Environment::empty());
    let socket = daemon.client.socket().to_owned();
    // Even where they can get at the socket.
    for directory in socket.ancestors().skip(1) {
        let mode = std::fs::metadata(directory).unwrap().permissions().mode();
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode | 0o711)).unwrap();
    }
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let ask = move || {
        let mut stream = UnixStream::connect(&socket).unwrap();
        // It may be closed already.
        stream.write_all(b"GET /v1/system HTTP/1.1\r\nHost: banger\r\nConnection: close\r\n\r\n").ok();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok();
        answer
    };
    assert!(ask().starts_with("HTTP/1.1 200"));
    let as_stranger = move || {
        // A thread has a user of its own; it is the C library that changes all of them.
        let stranger = rustix::process::Uid::from_raw(STRANGER);
        rustix::thread::set_thread_res_uid(stranger, stranger, stranger).unwrap();
        ask()
    };
    assert_eq!(std::thread::spawn(as_stranger).join().unwrap(), "");
    let log = std::fs::read_to_string(daemon.environment.data().join("bangerd.log")).unwrap();
    assert!(log.contains("another user was turned away"), "{log}");
}

#[test]
fn a_client_of_another_time_is_told_so() {
    let daemon = Daemon::of(Environment::empty());
    let problem = ask(&daemon, "GET /v2/vms HTTP/1.1", "").problem();
    assert!(problem.detail.unwrap().contains("which speaks v1"));
    assert!(problem.hints[0].contains("banger daemon restart"), "{:?}", problem.hints);
    assert_eq!(ask(&daemon, "GET /vms HTTP/1.1", "").problem().hints, [""; 0]);
}

#[test]
fn the_api_describes_itself() {
    let daemon = Daemon::of(Environment::empty());
    let answer = ask(&daemon, "GET /v1/openapi.json HTTP/1.1", "");
    let description: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(description["openapi"], json!("3.1.0"));
    for path in description["paths"].as_object().unwrap().keys() {
        // Each is answered by somebody, if only to say that there is no such thing.
        let path = path.replace("{name}", "0123456789ab");
        let answer = ask(&daemon, &format!("DELETE {path}?listen=127.0.0.1:1 HTTP/1.1"), "");
        let is_known = answer.status == 405 || !answer.body.contains("the API has no");
        assert!(is_known, "{path}: {}", answer.body);
    }
}

#[test]
fn whoever_changes_what_they_have_not_seen_changes_nothing() {
    let daemon = Daemon::new();
    daemon.create("web", |request| request.no_start = true);
    let seen = daemon.vm("web").generation;
    let label = |value: &str| {
        let labels = [("team".to_owned(), Some(value.to_owned()))].into();
        banger_types::vm::VmSetRequest { labels, ..Default::default() }
    };
    let changed = daemon.call(daemon.client.set_vm_of(seen, "web", &label("one"))).unwrap();
    assert!(changed.generation > seen);
    let error: ApiError = daemon.refused(daemon.client.set_vm_of(seen, "web", &label("two")));
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(error.why[0].contains("it has changed meanwhile"), "{error:?}");
    let head = format!("POST /v1/vms/web/rename?generation={seen} HTTP/1.1\nContent-Type: application/json");
    assert_eq!(ask(&daemon, &head, "{\"name\": \"new\"}").status, 409);
    assert_eq!(daemon.vm("web").spec.labels["team"], "one");
    daemon.call(daemon.client.set_vm(&daemon.vm("web").id.to_string(), &label("three"))).unwrap();
}
