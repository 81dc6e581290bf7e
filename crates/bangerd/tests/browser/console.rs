//! A daemon with a web console, and a browser that is signed in there.

use std::io::Write as _;
use std::process::{Child, Stdio};

use banger_testkit::{Environment, seed};
use banger_types::location::variable;

use crate::chromium::Chromium;
use crate::driver::Scripts;

/// What a small VM is made with, as fields of the form.
pub(crate) const SMALL: [(&str, &str); 5] =
    [("memory", "256M"), ("vcpus", "1"), ("disk", "1G"), ("network", "none"), ("name", "web")];
/// The same as arguments.
pub(crate) const SMALL_ARGUMENTS: [&str; 10] =
    ["--image", seed::PROBE, "--memory", "256M", "--vcpus", "1", "--disk", "1G", "--net", "none"];

/// A browser in a web console.
pub(crate) struct Visitor {
    pub(crate) browser: Chromium,
    /// The address under which the session's pages are, without a slash at its end.
    pub(crate) session: String,
    pub(crate) environment: Environment,
}

impl Visitor {
    /// Starts a daemon and a browser, and signs in.
    pub(crate) fn start(test: &str, environment: Environment, scripts: Scripts) -> Option<Self> {
        let browser = Chromium::start(test, scripts)?;
        let environment = environment.with_variable(variable::WEB_LISTEN, "127.0.0.1:0");
        environment.succeed(&["daemon", "start"]);
        let session = sign_in(&browser, &link(&environment));
        Some(Self { browser, session, environment })
    }

    /// Returns the console's address, without a slash at its end.
    pub(crate) fn console(&self) -> &str {
        self.session.split_once("/s/").unwrap().0
    }

    /// Loads a page of the session.
    pub(crate) fn open(&self, page: &str) {
        self.browser.open(&format!("{}{page}", self.session));
    }

    /// Makes a small VM of the fake kind.
    pub(crate) fn create(&self, name: &str, more: &[&str]) {
        self.environment.succeed(&[&["vm", "create", name], &SMALL_ARGUMENTS[..], more].concat());
    }

    /// Lets the guest of a fake VM do something: a line of `banger-test-vmm`'s.
    pub(crate) fn guest(&self, name: &str, command: &str) {
        self.environment.connect(name, 1).write_all(format!("{command}\n").as_bytes()).unwrap();
    }
}

/// Makes a link that lets somebody in.
pub(crate) fn link(environment: &Environment) -> String {
    environment.succeed(&["web"]).lines().next().unwrap().to_owned()
}

/// Signs in by a link, and returns the address under which the session's pages are.
pub(crate) fn sign_in(browser: &Chromium, link: &str) -> String {
    browser.open(link);
    browser.press("Sign in");
    browser.wait_for_url("/s/");
    browser.url().trim_end_matches('/').to_owned()
}

/// A program that a test has started, which goes with it.
pub(crate) struct Program(Child);

impl Program {
    /// Starts a program in a guest, by `banger exec`.
    pub(crate) fn inside(environment: &Environment, vm: &str, script: &str) -> Self {
        let mut command = environment.banger(&["exec", vm, "--", "/bin/sh", "-c", script]);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended with its VM.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
