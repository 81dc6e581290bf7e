//! The web console against those who are not let in: other sites, other ports of the same host, other users, and guests that
//! say what they like.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use banger_testkit::browser::{Browser, ask, encoded, request};
use banger_testkit::layers::{Layout, Packing, archive};
use banger_types::vm::VmState;
use serde_json::json;

use crate::support::Daemon;
use crate::web_browser::{address, browser, daemon, invite};

/// What starts as a part of a page, if it is not written as text.
const SCRIPT: &str = "<script>alert(1)</script>";
/// The same as text.
const HARMLESS: &str = "&lt;script&gt;alert(1)&lt;/script&gt;";

fn sign_in(daemon: &Daemon, link: &str) -> u16 {
    let host = format!("Host: {}", address(daemon));
    let token = link.rsplit('/').next().unwrap();
    let headers = ["Origin: null", "Sec-Fetch-Site: same-origin", &host];
    ask(address(daemon), &request("POST", "/sign-in", &headers, &encoded(&[("token", token)]))).status
}

#[test]
fn nobody_sees_anything_without_the_cookie_and_the_path_of_one_session() {
    let daemon = daemon();
    daemon.create("secret-name", |request| request.no_start = true);
    let (one, other) = (browser(&daemon), browser(&daemon));
    one.get("/").says(&["secret-name"]);
    let host = format!("Host: {}", one.address);
    let pages = [
        (one.path("/"), None),
        (one.path("/"), Some(&other.cookie)),
        (other.path("/"), Some(&one.cookie)),
        (one.path("/"), Some(&"banger=0".to_owned())),
        ("/s/0/".to_owned(), Some(&one.cookie)),
        ("/".to_owned(), Some(&one.cookie)),
        ("/vms/secret-name".to_owned(), Some(&one.cookie)),
    ];
    for (page, cookie) in pages {
        let cookie = cookie.map_or_else(|| "X-None: 1".to_owned(), |cookie| format!("Cookie: {cookie}"));
        let reply = ask(one.address, &request("GET", &page, &[&host, &cookie], ""));
        assert!(!reply.body.contains("secret-name"), "{page} {cookie}: {}", reply.body);
        assert!(page == "/" || reply.status == 403, "{page} {cookie}: {}", reply.status);
    }
    // A cookie of the session's that another one comes before.
    let both = format!("Cookie: banger=0; {}", one.cookie);
    assert_eq!(ask(one.address, &request("GET", &one.path("/"), &[&host, &both], "")).status, 200);

    // Signed out, it is of no use any more; the other one is. What went on for longer than a request ends as well.
    let mut followed = one.stream("page=dashboard");
    followed.wait_for("secret-name");
    let left = one.submit("/", "/sign-out", &[]);
    assert_eq!((left.status, left.header("location")), (303, Some("/")));
    followed.end();
    assert_eq!(one.look("/").status, 403);
    assert_eq!(other.look("/").status, 200);
    // With the daemon all of them end.
    daemon.environment.succeed(&["daemon", "restart"]);
    let after = Browser { address: address(&daemon), ..other };
    assert_eq!(after.look("/").status, 403);
}

#[test]
fn a_link_is_good_once_is_not_spent_by_looking_and_is_not_guessed() {
    let daemon = daemon();
    let link = invite(&daemon);
    let host = format!("Host: {}", address(&daemon));
    // What fetches links before anybody does.
    for method in ["GET", "HEAD", "GET"] {
        assert_eq!(ask(address(&daemon), &request(method, &link, &[&host], "")).status, 200);
    }
    assert_eq!(sign_in(&daemon, &link), 303);
    assert_eq!(sign_in(&daemon, &link), 403);
    let link = invite(&daemon);
    let token = link.rsplit('/').next().unwrap();
    let guesses = (0..20).map(|number| sign_in(&daemon, &format!("{number:0width$}", width = token.len())));
    let statuses: Vec<u16> = guesses.collect();
    // The second use above was the first guess.
    assert_eq!(statuses[..9], [403; 9]);
    assert_eq!(statuses[9..], [429; 11]);
    // Who guesses keeps nobody out who has a good one.
    assert_eq!(sign_in(&daemon, &link), 303);
}

#[test]
fn no_other_site_changes_anything() {
    let daemon = daemon();
    daemon.create("web", |_| ());
    let (browser, other) = (browser(&daemon), browser(&daemon));
    let (key, others) = (browser.key(), other.key());
    assert_ne!(key, others);
    let own = format!("Origin: http://{}", browser.address);
    let next_port = format!("Origin: http://127.0.0.1:{}", browser.address.port() + 1);
    let post = |headers: &[&str], key: Option<&str>| {
        let body = encoded(&key.map(|key| vec![("key", key)]).unwrap_or_default());
        let (path, host) = (browser.path("/vms/web/do/stop"), format!("Host: {}", browser.address));
        let cookie = format!("Cookie: {}", browser.cookie);
        let headers = [&[host.as_str(), &cookie], headers].concat();
        ask(browser.address, &request("POST", &path, &headers, &body)).status
    };
    for headers in [
        [].as_slice(),
        &["Origin: null"],
        &["Origin: null", "Sec-Fetch-Site: cross-site"],
        &["Origin: http://evil.example"],
        &["Origin: http://evil.example", "Sec-Fetch-Site: same-origin"],
        &[own.as_str(), "Sec-Fetch-Site: cross-site"],
        &[own.as_str(), "Sec-Fetch-Site: same-site"],
        &[next_port.as_str()],
        &["Origin: http://127.0.0.1"],
        &["Origin: null", "Origin: null", "Sec-Fetch-Site: same-origin"],
    ] {
        assert_eq!(post(headers, Some(&key)), 403, "{headers:?}");
    }
    let good = [own.as_str(), "Sec-Fetch-Site: same-origin"];
    for wrong in [None, Some(""), Some("0"), Some(&others[..]), Some(&key[1..])] {
        assert_eq!(post(&good, wrong), 403, "{wrong:?}");
    }
    // By GET nothing changes, whoever asks.
    for page in ["/vms/web/do/stop", "/vms/web/forwards", "/sign-out", "/register/image/browse"] {
        let reply = browser.look(&format!("{page}?key={key}"));
        assert_eq!(reply.status, 405, "{page}");
        reply.says(&["nothing was changed"]);
    }
    for page in ["/vms/web/kill", "/vms/web/delete"] {
        browser.get(&format!("{page}?key={key}")).says(&["Cancel"]);
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        assert_eq!(browser.ask(method, &browser.path("/vms/web"), &good, "").status, 405, "{method}");
    }
    assert_eq!(daemon.vm("web").state, VmState::Running);
    assert_eq!(post(&good, Some(&key)), 303);
}

#[test]
fn a_terminal_is_opened_by_a_page_of_the_consoles_alone() {
    let daemon = daemon();
    daemon.create("web", |_| ());
    let (browser, other) = (browser(&daemon), browser(&daemon));
    let own = format!("Origin: http://{}", browser.address);
    let next_port = format!("Origin: http://127.0.0.1:{}", browser.address.port() + 1);
    let cookie = format!("Cookie: {}", browser.cookie);
    let others = format!("Cookie: {}", other.cookie);
    let same = "Sec-Fetch-Site: same-origin";
    // A VM that has no terminal says so at once, and ends the connection.
    let open = |vm: &str, headers: &[&str]| {
        let path = browser.path(&format!("/vms/{vm}/terminal/socket?columns=80&rows=24"));
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n\r\n",
            browser.address,
            headers.join("\r\n")
        );
        let mut stream = TcpStream::connect(browser.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).unwrap();
            heard.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&heard).into_owned();
            let is_open = text.starts_with("HTTP/1.1 101");
            if count == 0 || text.contains("\"ended\"") || !is_open && text.contains("\r\n\r\n") {
                return text;
            }
        }
    };
    for headers in [
        [cookie.as_str()].as_slice(),
        &[&cookie, same],
        &[&cookie, "Origin: null", same],
        &[&cookie, "Origin: http://evil.example", same],
        &[&cookie, &next_port],
        &[&cookie, "Origin: http://localhost"],
        &[&cookie, &own, "Sec-Fetch-Site: cross-site"],
        &[&cookie, &own, "Sec-Fetch-Site: same-site"],
        &[&own, same],
        &[&others, &own, same],
    ] {
        let said = open("web", headers);
        assert!(said.starts_with("HTTP/1.1 403"), "{headers:?}: {said}");
    }
    daemon.succeed(daemon.client.kill_vm("web"));
    let said = open("web", &[&cookie, &own, same]);
    assert!(said.starts_with("HTTP/1.1 101") && said.contains("\"ended\""), "{said}");
    // The page alone may have styles that a script writes.
    let policy = browser.get("/vms/web/terminal").header("content-security-policy").unwrap().to_owned();
    assert!(
        policy.contains("style-src 'self' 'unsafe-inline'") && !policy.contains("script-src"),
        "{policy}"
    );
}

#[test]
fn other_sites_do_not_even_see() {
    let daemon = daemon();
    let browser = browser(&daemon);
    for site in ["cross-site", "same-site", "x"] {
        let reply = browser.ask("GET", &browser.path("/"), &[&format!("Sec-Fetch-Site: {site}")], "");
        assert_eq!(reply.status, 403, "{site}");
    }
    assert_eq!(browser.ask("GET", &browser.path("/"), &["Sec-Fetch-Site: none"], "").status, 200);
    let port = browser.address.port();
    for host in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        format!("127.0.0.1.evil.example:{port}"),
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{}", port + 1),
    ] {
        let cookie = format!("Cookie: {}", browser.cookie);
        let headers = [&*format!("Host: {host}"), &cookie];
        let reply = ask(browser.address, &request("GET", &browser.path("/"), &headers, ""));
        assert_eq!(reply.status, 421, "{host}");
        assert!(!reply.body.contains("Virtual machines"), "{host}");
    }
    // What every answer says, whatever it is.
    for page in ["/", "/nowhere", "/vms/none"] {
        let reply = browser.look(page);
        let policy = reply.header("content-security-policy").unwrap();
        assert!(
            policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{page} {name}");
        }
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
}

#[test]
fn what_guests_and_files_are_called_is_text() {
    let daemon = daemon();
    let browser = browser(&daemon);
    daemon.create("web", |request| {
        request.labels.insert("label".to_owned(), SCRIPT.to_owned());
        request.environment.push(format!("VARIABLE={SCRIPT}"));
    });
    daemon.guest("web", &format!("print {SCRIPT}"));
    daemon.guest("web", &format!("listen 80 {SCRIPT}"));
    daemon.wait("web", |vm| vm.sockets.iter().any(|socket| socket.port == 80));
    let page = browser.get("/vms/web");
    assert!(page.body.matches(HARMLESS).count() >= 3, "{}", page.body);
    assert!(!page.body.contains(SCRIPT), "{}", page.body);

    let files = tempfile::tempdir().unwrap();
    let folder = files.path().join("<img src=x onerror=alert(1)>");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("\"><script>.ext4"), "x").unwrap();
    let page = browser.get(&picker(folder.to_str().unwrap(), "disk", ""));
    let page = page.says(&["&lt;img src=x onerror=alert(1)&gt;", "&quot;&gt;&lt;script&gt;.ext4"]);
    assert!(!page.body.contains("<img") && !page.body.contains("\"><script>"), "{}", page.body);

    // What an image says of itself.
    let (layer, said) =
        (archive(|_| ()), json!({ "Labels": { SCRIPT: SCRIPT }, "Cmd": [SCRIPT], "User": SCRIPT }));
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::of(directory.path(), &[(&layer[..], Packing::Gzip)], &said);
    daemon.environment.succeed(&[
        "image",
        "pull",
        &format!("oci:{}", layout.path.display()),
        "--name",
        "own",
    ]);
    let image = daemon.call(daemon.client.image("own")).unwrap();
    let page = browser.get(&format!("/images/{}", image.id));
    assert!(page.body.matches(HARMLESS).count() >= 4 && !page.body.contains(SCRIPT), "{}", page.body);

    // What was typed, and names of things that are not there.
    let key = browser.key();
    let typed = browser.post("/create", &[("key", &key), ("name", SCRIPT), ("image", SCRIPT)]);
    assert!(!typed.body.contains(SCRIPT) && typed.body.contains(HARMLESS), "{}", typed.body);
    for page in ["/vms/%3Cscript%3Ealert(1)%3C%2Fscript%3E", "/images/%3Cscript%3Ealert(1)%3C%2Fscript%3E"] {
        let reply = browser.look(page);
        assert!(reply.status == 404 && !reply.body.contains(SCRIPT), "{page}: {}", reply.body);
    }
    let source = format!("tar:/{SCRIPT}");
    let failed = browser.post("/pull/image", &[("key", &key), ("source", &source), ("name", SCRIPT)]);
    assert!(!failed.body.contains(SCRIPT), "{}", failed.body);
    assert!(!browser.get("/operations").body.contains(SCRIPT));
}

fn picker(path: &str, kind: &str, more: &str) -> String {
    let query = encoded(&[("back", "/register/image?"), ("field", "rootfs"), ("kind", kind), ("path", path)]);
    format!("/picker?{query}{more}")
}

#[test]
fn the_picker_shows_names_and_never_what_is_in_a_file() {
    let daemon = daemon();
    let browser = browser(&daemon);
    let files = tempfile::tempdir().unwrap();
    let folder = files.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.ext4"), "what is in it").unwrap();
    std::fs::write(folder.join(".hidden.ext4"), "").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link.ext4")).unwrap();
    let path = folder.to_str().unwrap();
    let page = browser.get(&picker(path, "disk", "")).says(&["a.ext4", "13 B", "link.ext4", "→ /etc/passwd"]);
    assert!(!page.body.contains(".hidden"), "{}", page.body);
    browser.get(&picker(path, "disk", "&hidden=yes")).says(&[".hidden.ext4"]);
    let file = browser.get(&picker(&format!("{path}/a.ext4"), "disk", "")).says(&["Take "]);
    assert!(!file.body.contains("what is in it"));
    // The beginning of a name.
    let page = browser.get(&picker(&format!("{path}/li"), "disk", "")).says(&["link.ext4"]);
    assert!(!page.body.contains("a.ext4"), "{}", page.body);
    // Dots lead where they say, and no further than the root.
    browser.get(&picker(&format!("{path}/../folder/./.."), "disk", "")).says(&[">folder/</a>"]);
    browser.get(&picker("/../../..", "any", "")).says(&["etc/"]);
    for (path, words) in [
        ("/proc/self", "the kernel's own"),
        ("/dev/fd", "the kernel's own"),
        ("etc", "is not an absolute path"),
        ("/nowhere/at/all", "No such file"),
        ("/etc/passwd/x", "Not a directory"),
    ] {
        let reply = browser.look(&picker(path, "any", ""));
        assert_eq!(reply.status, 422, "{path}");
        reply.says(&["Cannot show", words, "What to do:"]);
    }
    // It leads back to forms of the console's own alone.
    for back in ["http://evil.example/", "//evil.example/", "/sign-out", "/register/image/../../x"] {
        let query = encoded(&[("back", back), ("field", "rootfs"), ("path", path)]);
        assert_eq!(browser.look(&format!("/picker?{query}")).status, 404, "{back}");
    }
}

#[test]
fn an_enormous_folder_is_shown_in_pages_and_soon() {
    let daemon = daemon();
    let browser = browser(&daemon);
    let files = tempfile::tempdir().unwrap();
    for number in 0..100_000 {
        std::fs::File::create(files.path().join(format!("{number:06}.ext4"))).unwrap();
    }
    let path = files.path().to_str().unwrap();
    let begun = Instant::now();
    let page =
        browser.get(&picker(path, "disk", "")).says(&["000000.ext4", "000199.ext4", "1 to 200 of 100000"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(page.body.len() < 200_000 && !page.body.contains("000200.ext4"), "{}", page.body.len());
    browser.get(&picker(path, "disk", "&page=499")).says(&["099999.ext4", "Those before"]);
    browser.get(&picker(path, "disk", "&page=18446744073709551615")).says(&["There is nothing of that here"]);
}

#[test]
fn what_is_too_large_is_refused() {
    let daemon = daemon();
    let browser = browser(&daemon);
    let key = browser.key();
    let large = "x".repeat(200 << 10);
    assert_eq!(browser.post("/create", &[("key", &key), ("environment", &large)]).status, 413);
    let larger = "x".repeat(4 << 20);
    let reply = browser.ask("GET", &browser.path("/"), &[&format!("X-Large: {larger}")], "");
    // It may be closed before all of that is said, and the answer lost with it.
    assert!([0, 431].contains(&reply.status), "{reply:?}");
    let many: Vec<String> = (0..200).map(|number| format!("X-{number}: x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(browser.ask("GET", &browser.path("/"), &many, "").status, 431);
    browser.get("/");
}

#[test]
fn slow_ones_are_given_up_and_keep_nobody_waiting() {
    let daemon = daemon();
    let browser = browser(&daemon);
    let open = |begun: &str| {
        let mut stream = TcpStream::connect(browser.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream.write_all(begun.as_bytes()).unwrap();
        stream
    };
    let head = format!("POST {} HTTP/1.1\r\nHost: {}\r\n", browser.path("/create"), browser.address);
    let body = format!(
        "{head}Cookie: {}\r\nOrigin: null\r\nSec-Fetch-Site: same-origin\r\nContent-Length: 1000\r\n\r\nkey=",
        browser.cookie
    );
    let mut slow: Vec<TcpStream> =
        (0..60).map(|number| open(if number % 2 == 0 { &head } else { &body })).collect();
    let begun = Instant::now();
    browser.get("/");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for stream in &mut slow {
        let mut answer = String::new();
        // Closed, with a word or without one.
        stream.read_to_string(&mut answer).ok();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
}

#[test]
fn those_who_hold_connections_and_read_nothing_keep_nobody_out() {
    let daemon = daemon();
    let browser = browser(&daemon);
    // Each asks for more than fits on the way, and reads nothing of it.
    let asked = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", browser.address).repeat(10_000);
    let hold = |_| {
        let mut stream = TcpStream::connect(browser.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.write_all(asked.as_bytes()).ok();
        stream
    };
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..3 {
        held.extend((0..150).map(hold));
        let begun = Instant::now();
        browser.get("/");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}

#[test]
fn cookies_of_other_sites_of_this_host_keep_nobody_out() {
    let daemon = daemon();
    let browser = browser(&daemon);
    // As many as Chromium keeps for a host.
    let others: Vec<String> = (0..179).map(|number| format!("guest{number}={}", "x".repeat(4000))).collect();
    let cookies = format!("Cookie: {}; {}", others.join("; "), browser.cookie);
    let host = format!("Host: {}", browser.address);
    let reply = ask(browser.address, &request("GET", &browser.path("/"), &[&host, &cookies], ""));
    assert_eq!(reply.status, 200, "{}", reply.body);
}

#[test]
fn streams_have_a_bound_and_pages_are_there_all_the_same() {
    let daemon = daemon();
    let browser = browser(&daemon);
    let mut streams: Vec<_> = (0..100).map(|_| browser.stream("page=dashboard")).collect();
    let mut refused = 0;
    for stream in &mut streams {
        let head = stream.wait_for("\r\n");
        refused += usize::from(head.contains(" 503 "));
        assert!(head.contains(" 503 ") || head.contains(" 200 "), "{head}");
    }
    assert_eq!(refused, 36);
    browser.get("/");
    // Who goes makes room.
    drop(streams);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !browser.stream("page=operations").wait_for("\r\n").contains(" 200 ") {
        assert!(Instant::now() < deadline);
    }
}
