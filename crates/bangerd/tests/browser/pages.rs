//! Every page of the console's, with something on it and with nothing.

use crate::chromium::Chromium;
use crate::console::link;
use crate::showcase::{PULLED, Showcase};

/// A page.
pub(crate) struct Page {
    /// What it is called here.
    pub(crate) name: &'static str,
    /// Its address.
    address: String,
    /// If it is the answer to a form that is there: what is filled in, and what the button says.
    form: Option<(&'static [(&'static str, &'static str)], &'static str)>,
}

/// What the server says to a form, when what is filled in is sent.
const ANSWER: &str = "fetch(arguments[0].action, {
  method: 'POST', body: new URLSearchParams(new FormData(arguments[0])) }).then((answer) => answer.text())";

impl Page {
    /// Shows it, and returns its HTML as it is served.
    pub(crate) fn show(&self, browser: &Chromium) -> String {
        browser.open(&self.address);
        let Some((fields, button)) = self.form else {
            return served(browser, "fetch(location.href).then((answer) => answer.text())");
        };
        for (name, value) in fields {
            browser.fill(name, value);
        }
        let form = "document.querySelector('main form[method=post]')";
        let html = served(browser, &ANSWER.replace("arguments[0]", form));
        browser.press(button);
        html
    }
}

fn served(browser: &Chromium, promise: &str) -> String {
    let html = browser.resolve(promise, Vec::new());
    html.as_str().unwrap_or_else(|| panic!("no HTML: {html}")).to_owned()
}

/// Returns all of them.
pub(crate) fn all(showcase: &Showcase) -> Vec<Page> {
    let mut pages = of_session(showcase);
    pages.extend(with_mistakes(showcase));
    pages.extend(without_session(showcase));
    pages.extend(EMPTY.map(|(name, page)| Page {
        name,
        address: format!("{}{page}", showcase.empty),
        form: None,
    }));
    pages
}

/// Those that are others when there is nothing yet.
const EMPTY: [(&str, &str); 7] = [
    ("empty-dashboard", "/"),
    ("empty-create", "/create"),
    ("empty-images", "/images"),
    ("empty-kernels", "/kernels"),
    ("empty-operations", "/operations"),
    ("empty-prune", "/prune"),
    ("empty-picker", "/picker?back=/register/image&field=rootfs&kind=initrd&path=/lost"),
];

fn of_session(showcase: &Showcase) -> Vec<Page> {
    let image = format!("/images/{}", showcase.id("image", "probe"));
    let own = format!("/images/{}", showcase.id("image", "embedded"));
    let kernel = format!("/kernels/{}", showcase.id("kernel", &showcase.first("kernel")));
    let operation = |status: &str| format!("/operations/{}", showcase.operation(status));
    let files = showcase.visitor.environment.data().display().to_string();
    let picker =
        |path: &str| format!("/picker?back=/register/image&field=rootfs&kind=any&hidden=yes&path={path}");
    let pages = [
        ("dashboard", "/".to_owned()),
        ("create", "/create".to_owned()),
        ("vm", "/vms/shop".to_owned()),
        ("vm-paused", "/vms/ci-runner".to_owned()),
        ("vm-stopped", "/vms/a-vm-whose-name-is-about-as-long-as-names-of-vms-are-ever".to_owned()),
        ("vm-failed", "/vms/broken".to_owned()),
        ("vm-log", "/vms/shop/log?kind=serial".to_owned()),
        ("vm-log-monitor", "/vms/shop/log?kind=monitor".to_owned()),
        ("vm-change", "/vms/shop/change".to_owned()),
        ("vm-terminal", "/vms/shop/terminal".to_owned()),
        ("vm-terminal-paused", "/vms/ci-runner/terminal".to_owned()),
        ("vm-kill", "/vms/shop/kill".to_owned()),
        ("vm-delete", "/vms/shop/delete".to_owned()),
        ("images", "/images".to_owned()),
        ("image", image.clone()),
        ("image-pulled", format!("/images/{}", showcase.id("image", PULLED))),
        ("image-registered", own.clone()),
        ("image-delete", format!("{image}/delete")),
        ("image-registered-delete", format!("{own}/delete")),
        ("kernels", "/kernels".to_owned()),
        ("kernel", kernel.clone()),
        ("kernel-delete", format!("{kernel}/delete")),
        ("catalog", "/catalog".to_owned()),
        ("pull-image", "/pull/image".to_owned()),
        ("pull-kernel", "/pull/kernel".to_owned()),
        ("register-image", "/register/image".to_owned()),
        ("register-kernel", "/register/kernel".to_owned()),
        ("picker", picker(&files)),
        ("picker-file", picker(&format!("{files}/projects/embedded/root.ext4"))),
        ("picker-refused", picker("/proc")),
        ("operations", "/operations".to_owned()),
        ("operations-older", format!("/operations?after={}", showcase.operation("running"))),
        ("operation-running", operation("running")),
        ("operation-failed", operation("failed")),
        ("operation-succeeded", operation("succeeded")),
        ("prune", "/prune".to_owned()),
        ("prune-all", "/prune?all=yes".to_owned()),
        ("doctor", "/doctor".to_owned()),
        ("logs", "/logs".to_owned()),
        ("settings", "/settings".to_owned()),
        ("no-such-vm", "/vms/nobody".to_owned()),
        ("no-such-page", "/nowhere".to_owned()),
    ];
    let session = &showcase.visitor.session;
    pages.map(|(name, page)| Page { name, address: format!("{session}{page}"), form: None }).into()
}

/// Forms whose mistakes are said, by the console and by the daemon.
fn with_mistakes(showcase: &Showcase) -> [Page; 6] {
    let page = |name, page: &str, fields, button| Page {
        name,
        address: format!("{}{page}", showcase.visitor.session),
        form: Some((fields, button)),
    };
    let used = format!("/images/{}/delete", showcase.id("image", "probe"));
    let wrong: &[(&str, &str)] =
        &[("name", "A/B"), ("memory", "much"), ("environment", "EDITOR"), ("labels", "a b")];
    [
        page("create-mistakes", "/create", wrong, "Create VM"),
        page("create-refused", "/create", &[("name", "new"), ("disk", "1")], "Create VM"),
        page("change-mistakes", "/vms/shop/change", &[("memory", "much"), ("labels", "a b")], "Change it"),
        page("pull-mistakes", "/pull/image", &[], "Pull"),
        page("image-delete-refused", &used, &[], "Delete it"),
        page("register-mistakes", "/register/image", &[("kernel", "vmlinuz")], "Register"),
    ]
}

fn without_session(showcase: &Showcase) -> [Page; 4] {
    let console = showcase.visitor.console();
    let page = |name, address, form| Page { name, address, form };
    [
        page("how-to-sign-in", format!("{console}/"), None),
        page("sign-in", link(&showcase.visitor.environment), None),
        page("sign-in-refused", format!("{console}/sign-in/used"), Some((&[], "Sign in"))),
        page("not-signed-in", format!("{console}/s/0/"), None),
    ]
}
