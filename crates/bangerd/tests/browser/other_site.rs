//! What another site gets that is on another port of the same host, where a guest's is: nothing.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use banger_testkit::Environment;
use serde_json::json;

use crate::console::Visitor;
use crate::driver::Scripts;

/// A site that writes down all that it is asked.
struct Site {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Pages, by their paths. Every other path has an empty one.
    pages: Mutex<BTreeMap<String, String>>,
    /// The head of each request that came.
    asked: Mutex<Vec<String>>,
}

impl Site {
    /// Starts one. It ends with the test's process.
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, state) = (listener.local_addr().unwrap(), Arc::<State>::default());
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&serving);
                // A browser opens connections before it has something to ask.
                std::thread::spawn(move || state.answer(stream).ok());
            }
        });
        Self { address, state }
    }

    /// Puts a page somewhere.
    fn put(&self, path: &str, page: &str) {
        self.state.pages.lock().unwrap().insert(path.to_owned(), page.to_owned());
    }

    /// Returns a page's address.
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the head of each request that came, in lower case, and forgets them.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.asked.lock().unwrap())
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(head);
        let page = self.pages.lock().unwrap().get(&path).cloned().unwrap_or_default();
        let length = page.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
        )
    }
}

/// A page that asks its own site for whatever may bring it a cookie of the console's.
const CURIOUS: &str = "<!DOCTYPE html><title>curious</title><h1>curious</h1><img src='/picture.png'><script>
(async () => {
  for (const path of ['/', '/page', '/s', '/s/', '/s/0/', '/s/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/'])
    await fetch(path, { credentials: 'include' });
  await fetch('/form', { method: 'POST', credentials: 'include', body: 'x' });
  document.body.append('its cookies: [' + document.cookie + '], its referrer: [' + document.referrer + '], its opener: ' + window.opener);
})();
</script>";

#[test]
fn a_site_that_a_link_of_the_consoles_leads_to_never_sees_the_cookie() {
    let test = "a_site_that_a_link_of_the_consoles_leads_to_never_sees_the_cookie";
    let Some(visitor) = Visitor::start(test, Environment::with_fake_vmm(), Scripts::On) else { return };
    let (browser, site) = (&visitor.browser, Site::start());
    site.put("/page", CURIOUS);
    visitor.create("web", &[]);
    // The guest's server leads there, so that the link is the one that every port has.
    visitor.guest("web", &format!("lead {}", site.url("/page")));
    visitor.guest("web", "listen 80 nginx");
    visitor.open("/vms/web");
    browser.says(&["nginx", " ↗"]);
    browser.click("//a[@target='_blank']");
    browser.turn_to_new_tab();
    browser.says(&["its cookies: [], its referrer: [], its opener: null"]);
    let asked = site.asked();
    assert!(asked.len() >= 9, "the page, its picture, and what its script asks for: {asked:?}");
    let console = visitor.console().trim_start_matches("http://");
    for request in &asked {
        assert!(!request.contains("\r\ncookie:") && !request.contains(console), "{request}");
    }
    assert!(!asked[0].contains("\r\nreferer:"), "{}", asked[0]);

    // What keeps the cookie from it is the path alone: a site that knew it would be sent the cookie, and we would see that.
    let path = visitor.session.split_once("/s/").unwrap().1;
    browser.open(&site.url(&format!("/s/{path}/")));
    let asked = site.asked();
    assert!(asked.iter().any(|request| request.contains("\r\ncookie: banger=")), "{asked:?}");
}

/// A page that tries to get at the console, whose session it knows the path of, and says what came of it.
const ROBBER: &str = "<!DOCTYPE html><title>robber</title><h1>robber</h1><iframe src='SESSION/'></iframe>
<form method=post action='SESSION/vms/web/do/stop'><input name=key value='KEY'><button>rob</button></form>
<script>
const tried = async (name, attempt) => document.body.append(name + ': ' + await attempt.then((got) => 'got ' + got, () => 'nothing') + '. ');
const stream = (address) => new Promise((got, refused) => {
  const source = new EventSource(address, { withCredentials: true });
  source.onopen = () => got('a stream');
  source.onerror = refused;
});
const text = (options) => fetch('SESSION/', { credentials: 'include', ...options }).then((answer) => answer.text());
const script = () => new Promise((got, refused) => {
  const element = document.createElement('script');
  element.onload = () => got('a script'); element.onerror = refused; element.src = 'SESSION/'; document.body.append(element);
});
(async () => {
  await tried('fetch', text({}));
  await tried('blind fetch', text({ mode: 'no-cors' }));
  await tried('stream', stream('SESSION/live?page=dashboard'));
  await tried('script', script());
  await tried('change', text({ method: 'POST', mode: 'no-cors', body: new URLSearchParams({ key: 'KEY' }) }));
  document.body.append('That was all.');
})();
</script>";

#[test]
fn another_site_frames_reads_and_changes_nothing() {
    let test = "another_site_frames_reads_and_changes_nothing";
    let Some(visitor) = Visitor::start(test, Environment::with_fake_vmm(), Scripts::On) else { return };
    let (browser, site) = (&visitor.browser, Site::start());
    visitor.create("web", &[]);
    visitor.open("/vms/web");
    browser.says(&["running"]);
    let key = browser.run("return document.querySelector('input[name=key]').value", Vec::new());
    // Even with all secrets but the cookie, which the browser adds: for it, the other port is the same site.
    site.put("/", &ROBBER.replace("SESSION", &visitor.session).replace("KEY", key.as_str().unwrap()));
    browser.open(&site.url("/"));
    browser.says(&["That was all."]);
    let said = browser.text();
    for tried in ["fetch", "blind fetch", "stream", "script", "change"] {
        assert!(said.contains(&format!("{tried}: nothing.")), "{tried}: {said}");
    }
    assert!(browser.address_in_frame().starts_with("chrome-error:"), "nothing is framed");
    browser.press("rob");
    browser.wait_for_url("/do/stop");
    browser.says(&["This change does not come from a page of the web console's"]);
    let status = "return performance.getEntriesByType('navigation')[0].responseStatus";
    assert_eq!(browser.run(status, Vec::new()), json!(403));
    assert_eq!(visitor.environment.vm("web")["state"], "running");
    // From the console itself, the same request is a good one: what is refused is where it comes from.
    visitor.open("/vms/web");
    browser.press("Stop");
    browser.says(&["succeeded"]);
    assert_eq!(visitor.environment.vm("web")["state"], "stopped");
}
