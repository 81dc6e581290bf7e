//! Browsers of a daemon's web console.

use std::net::SocketAddr;

use banger_testkit::Environment;
use banger_testkit::browser::{Browser, Reply};
use banger_types::location::variable;
use banger_types::operation::Operation;

use crate::support::Daemon;

/// Starts a daemon with fake VMs and a web console at a port of its own.
pub(crate) fn daemon() -> Daemon {
    Daemon::of(Environment::with_fake_vmm().with_variable(variable::WEB_LISTEN, "127.0.0.1:0"))
}

/// Returns where a daemon's console is.
pub(crate) fn address(daemon: &Daemon) -> SocketAddr {
    let url = daemon.call(daemon.client.system()).unwrap().web.unwrap().url;
    url.strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap()
}

/// Makes a sign-in link, and returns the path in it.
pub(crate) fn invite(daemon: &Daemon) -> String {
    let link = daemon.call(daemon.client.create_sign_in_link()).unwrap();
    link.url.strip_prefix(&format!("http://{}", address(daemon))).unwrap().to_owned()
}

/// Returns a browser that is signed in.
pub(crate) fn browser(daemon: &Daemon) -> Browser {
    Browser::sign_in(address(daemon), &invite(daemon))
}

/// Waits for the end of the operation whose page a form has led to, and returns it.
pub(crate) fn finish(daemon: &Daemon, browser: &Browser, reply: &Reply) -> Operation {
    let page = browser.follow(reply).says(&["Begun. This page shows how far it is."]);
    assert!(page.body.contains("<h1>"), "{}", page.body);
    let place = reply.header("location").unwrap().split('?').next().unwrap();
    let id = place.rsplit('/').next().unwrap().to_owned();
    let begun = daemon.call(daemon.client.operation(&id)).unwrap();
    if begun.status.is_final() {
        return begun;
    }
    daemon.follow_until(&begun, |operation| operation.status.is_final())
}
