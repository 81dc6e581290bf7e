//! What a user does with real VMs, by a real browser: all of it with JavaScript, and all but what moves by itself without.

use std::path::Path;
use std::process::Command;

use banger_testkit::layers::{Layout, Packing, add, archive, noise};
use banger_testkit::{Environment, Passing, Proxy, Registry, RegistryOptions, seed};
use serde_json::json;
use tar::EntryType;

use crate::console::{Program, SMALL, Visitor, link};
use crate::driver::Scripts;

#[test]
fn a_vms_life_in_a_browser() {
    take("a_vms_life_in_a_browser", Scripts::On);
}

#[test]
fn a_vms_life_in_a_browser_without_javascript() {
    take("a_vms_life_in_a_browser_without_javascript", Scripts::Off);
}

/// Does everything, one after the other, as each step is where the one before has led.
fn take(test: &str, scripts: Scripts) {
    let environment = Environment::new();
    make_file(&environment);
    let Some(visitor) = Visitor::start(test, environment, scripts) else { return };
    let tour = Tour { visitor, scripts };
    tour.a_link_is_good_once();
    tour.a_pull_is_cancelled_half_way();
    tour.a_vm_is_created();
    tour.its_log_is_followed();
    tour.its_web_server_is_reached();
    tour.a_terminal_is_used();
    for (action, state) in [("Stop", "stopped"), ("Start", "running"), ("Restart", "running")] {
        tour.acts(action, state);
    }
    tour.it_is_killed();
    tour.it_is_deleted();
    tour.an_image_is_registered();
}

/// A web server in the guest, which writes down what it is asked.
const SERVE: &str = r#"
printf 'HTTP/1.1 200 OK
Content-Type: text/html
Connection: close

<h1>From the guest</h1>' > /tmp/answer
cat > /tmp/serve <<'END'
#!/bin/sh
while read -r line && [ ${#line} -gt 1 ]; do echo "$line" >> /tmp/asked; done
cat /tmp/answer
END
chmod +x /tmp/serve
exec /bin/busybox nc -ll -p 8000 -e /tmp/serve
"#;
/// Where the file is that is registered, in the user's home.
const FOLDERS: [&str; 2] = ["my files", "disks"];

/// Makes a file with a root file system in the user's home.
fn make_file(environment: &Environment) {
    let directory = FOLDERS.iter().fold(environment.data().to_owned(), |at, folder| at.join(folder));
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(&directory).unwrap();
    let busybox = seed::directory().join("busybox.tar");
    run(Command::new("tar").arg("-xf").arg(busybox).arg("-C").arg(tree.path()));
    let mut make = Command::new("/sbin/mke2fs");
    run(make.args(["-q", "-t", "ext4", "-d"]).args([tree.path(), &directory.join("mine.ext4")]).arg("64M"));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

struct Tour {
    visitor: Visitor,
    scripts: Scripts,
}

impl Tour {
    /// Waits until the page says this, which it does by itself where it may have scripts.
    fn comes_to_say(&self, words: &[&str]) {
        match self.scripts {
            Scripts::On => self.visitor.browser.says(words),
            Scripts::Off => self.visitor.browser.reload_until_it_says(words),
        }
    }

    /// Stays on an operation's page until that has come to this end. Nobody loads the page anew: it does so by itself, or
    /// changes in its place.
    fn watch_operation(&self, end: &str) {
        let browser = &self.visitor.browser;
        browser.wait_for_url("/operations/");
        browser.run("window.isTheSame = true", Vec::new());
        browser.says(&[end]);
        if self.scripts == Scripts::On {
            assert_eq!(browser.run("return window.isTheSame", Vec::new()), true, "it was loaded anew");
        }
    }

    fn a_link_is_good_once(&self) {
        let browser = &self.visitor.browser;
        let used = link(&self.visitor.environment);
        for said in ["There is no VM yet", "This sign-in link is not good"] {
            browser.open(&used);
            browser.press("Sign in");
            browser.says(&[said]);
        }
        self.visitor.open("/");
        browser.says(&["Virtual machines"]);
    }

    fn a_pull_is_cancelled_half_way(&self) {
        let browser = &self.visitor.browser;
        let registry = Registry::start(RegistryOptions::default());
        let directory = tempfile::tempdir().unwrap();
        let layer = archive(|b| add(b, EntryType::Regular, b"some", b"", &noise(8 << 20, 1)));
        let layout = Layout::of(directory.path(), &[(&layer[..], Packing::Gzip)], &json!({}));
        registry.push(&layout.path, "one", "subject");
        // The configuration's document is a blob, too, and a small one.
        let passing = Passing { cuts: vec![1 << 20; 8], stalls: true, spoils: false };
        let proxy = Proxy::before(&registry, passing);
        browser.follow("Images");
        browser.follow("Pull an image");
        browser.fill("source", &format!("docker://{}/subject", proxy.host()));
        browser.fill("name", "half");
        browser.press("Pull");
        browser.wait_for_url("/operations/");
        proxy.wait_for_stalls(1);
        browser.says(&["running", "write layer 1 of 1"]);
        browser.press("Cancel it; what was begun is undone");
        browser.says(&["cancelled"]);
        browser.follow("Images");
        browser.says(&["busybox"]);
        assert!(!browser.text().contains("half"), "nothing is left of it");
    }

    fn a_vm_is_created(&self) {
        let browser = &self.visitor.browser;
        browser.follow("Dashboard");
        browser.says(&["There is no VM yet"]);
        browser.follow("Create VM");
        for (name, value) in SMALL {
            browser.fill(name, value);
        }
        browser.fill("image", seed::BUSYBOX);
        browser.press("Create VM");
        self.watch_operation("succeeded");
        browser.follow("Dashboard");
        browser.says(&["web", "running", "1 vCPU, 256 MiB"]);
        browser.follow("web");
        browser.says(&["VM web", "running", "Serial console"]);
    }

    fn its_log_is_followed(&self) {
        // What it says before is not what is waited for.
        let say =
            ["exec", "-u", "root", "web", "--", "/bin/sh", "-c", "echo said $((40 + 2)) > /dev/console"];
        self.visitor.environment.succeed(&say);
        self.comes_to_say(&["said 42"]);
    }

    fn its_web_server_is_reached(&self) {
        let browser = &self.visitor.browser;
        let server = Program::inside(&self.visitor.environment, "web", SERVE);
        self.comes_to_say(&["8000/tcp", "http://127.0.0.1:", " ↗"]);
        browser.click("//a[@target='_blank']");
        browser.turn_to_new_tab();
        browser.says(&["From the guest"]);
        let guest = ["exec", "web", "--", "/bin/cat", "/tmp/asked"];
        let asked = self.visitor.environment.succeed(&guest).to_lowercase();
        assert!(asked.contains("user-agent: ") && asked.contains("chrome"), "the browser itself: {asked}");
        let console = self.visitor.console().trim_start_matches("http://");
        for secret in ["cookie:", "/s/", console] {
            assert!(!asked.contains(secret), "{secret} in {asked}");
        }
        browser.close_tab();
        drop(server);
    }

    /// A shell in the guest: what is typed reaches it, and what it prints is seen; it ends, and begins anew.
    fn a_terminal_is_used(&self) {
        let browser = &self.visitor.browser;
        browser.follow("Terminal");
        if self.scripts == Scripts::Off {
            browser.says(&["The terminal needs JavaScript", "banger ssh web"]);
        } else {
            browser.says(&["Connected."]);
            browser.type_keys("echo typed-$((40 + 3))\u{e007}");
            browser.says(&["typed-43"]);
            // As large as it is shown.
            browser.type_keys("stty size | tr ' ' x\u{e007}");
            let size = browser.run("return document.getElementById('terminal').dataset.size", Vec::new());
            browser.says(&[size.as_str().unwrap()]);
            browser.type_keys("exit 7\u{e007}");
            browser.says(&["The shell has ended with code 7.", "Connect again"]);
            browser.press("Connect again");
            browser.says(&["Connected."]);
            browser.type_keys("echo anew-$((50 + 3))\u{e007}");
            browser.says(&["anew-53"]);
            // Not only Tab leads out of it.
            browser.type_keys_together(&['\u{e009}', '\u{e008}', '\u{e036}']);
            let active = browser.run("return document.activeElement.textContent", Vec::new());
            assert_eq!(active, "banger");
        }
        browser.follow("← web");
        browser.says(&["VM web", "running"]);
    }

    /// Presses a button of the VM's page, watches what it begins, and sees the VM as it is then.
    fn acts(&self, action: &str, state: &str) {
        let browser = &self.visitor.browser;
        browser.press(action);
        self.watch_operation("succeeded");
        browser.follow("VM “web”");
        browser.says(&["VM web", "What happened"]);
        assert_eq!(self.state(), state);
        self.comes_to_say(&[state]);
    }

    fn it_is_killed(&self) {
        let browser = &self.visitor.browser;
        browser.follow("Kill…");
        browser.says(&["as if its power had failed", "Lost: what its programs have in memory"]);
        browser.follow("Cancel");
        browser.says(&["VM web", "running"]);
        assert_eq!(self.state(), "running");
        browser.follow("Kill…");
        browser.press("Kill it");
        self.watch_operation("succeeded");
        browser.follow("VM “web”");
        self.comes_to_say(&["stopped"]);
        assert_eq!(self.state(), "stopped");
    }

    fn it_is_deleted(&self) {
        let browser = &self.visitor.browser;
        browser.follow("Delete…");
        browser.says(&["cannot be undone", "Lost: everything that was written in it"]);
        browser.follow("Cancel");
        browser.says(&["VM web", "stopped"]);
        browser.follow("Delete…");
        browser.press("Delete it");
        self.watch_operation("succeeded");
        browser.click("//main//a[normalize-space()='Dashboard']");
        browser.says(&["There is no VM yet"]);
    }

    fn an_image_is_registered(&self) {
        let browser = &self.visitor.browser;
        browser.follow("Images");
        browser.follow("Register files of yours");
        browser.fill("name", "mine");
        browser.click("//button[@aria-label='Browse for: Root file system']");
        for folder in FOLDERS {
            browser.follow(&format!("{folder}/"));
        }
        browser.says(&["mine.ext4", "64.0 MiB"]);
        browser.follow("mine.ext4");
        browser.wait_for_url("/register/image");
        browser.press("Register");
        self.watch_operation("succeeded");
        browser.follow("Image “mine”");
        let path = FOLDERS.join("/");
        browser.says(&["Image mine", "used where it is", &format!("{path}/mine.ext4")]);
        assert!(Path::new(self.visitor.environment.data()).join(path).join("mine.ext4").exists());
    }

    fn state(&self) -> String {
        self.visitor.environment.vm("web")["state"].as_str().unwrap().to_owned()
    }
}
