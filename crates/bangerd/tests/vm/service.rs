//! The image's own command, run from boot on.

use banger_core::store::Store as _;
use banger_store::SqliteStore;
use banger_testkit::{Environment, Terminal, exit_code, wait_until};
use banger_types::image::ImageConfig;

use crate::guest::{BUSYBOX, DEBIAN, Image, small};

/// Says who, where and with what it runs, leaves a child behind, tries to hear what is typed on the console, and says which
/// signal asks it to end.
const SCRIPT: &str = "trap 'echo asked by QUIT; exit 0' QUIT; trap 'echo asked by TERM; exit 0' TERM; \
                      sleep 54321 & \
                      echo \"service $$ as $(id -un) in $(pwd) with $GIVEN\" > /dev/stdout; \
                      (chmod 666 /dev/console; : < /dev/console) 2> /dev/null && echo it listens; \
                      (: < /dev/ttyS0) 2> /dev/null && echo it listens; \
                      echo now it waits; \
                      while :; do sleep 0.2; done";

fn config(user: &str) -> ImageConfig {
    ImageConfig {
        user: user.to_owned(),
        environment: vec!["GIVEN=a value".to_owned(), "PATH=/usr/bin:/bin".to_owned()],
        working_directory: "/tmp".to_owned(),
        entrypoint: vec!["/bin/sh".to_owned(), "-c".to_owned()],
        command: vec![SCRIPT.to_owned()],
        stop_signal: Some("QUIT".to_owned()),
        ..ImageConfig::default()
    }
}

/// A VM whose image's command runs in it.
struct Served {
    environment: Environment,
}

impl Served {
    /// Makes the VM `served`; `config` replaces the image's, as no source of the tests' images has a command.
    fn new(image: &Image, config: Option<ImageConfig>) -> Self {
        let environment = Environment::new();
        if let Some(config) = config {
            let store = SqliteStore::open(&environment.data().join("banger.db")).unwrap();
            let known = store.images().unwrap().into_iter().find(|known| known.name == image.name).unwrap();
            store.delete_image(&known.id).unwrap();
            let image = banger_types::image::Image { config, ..known };
            store.insert_image(&image, None, &"0000000000c1".parse().unwrap()).unwrap();
        }
        let run = ["vm", "run", "--service", "--name", "served"];
        environment.succeed(&[&run[..], &small(image)[..]].concat());
        Self { environment }
    }

    fn console(&self) -> String {
        let id = self.environment.vm("served")["id"].as_str().unwrap().to_owned();
        let log = self.environment.data().join("vms").join(id).join("serial.log");
        String::from_utf8_lossy(&std::fs::read(log).unwrap()).replace("\r\n", "\n")
    }

    /// Waits until the console has said `text` so often.
    fn says(&self, text: &str, times: usize) {
        wait_until(|| self.console(), |console| console.matches(text).count() == times);
    }

    fn root(&self, script: &str) -> String {
        self.environment.succeed(&["exec", "-u", "root", "served", "--", "sh", "-c", script])
    }

    /// Begins a shell on the console that says when it ends, unless it is killed. It heeds no SIGTERM.
    fn shell_on_the_console(&self) -> Terminal {
        let mut terminal = Terminal::new(80, 24);
        let mut client = terminal.spawn(self.environment.banger(&["vm", "console", "served"]));
        terminal.wait_for("Ctrl-] leaves");
        terminal.type_keys(b"\r");
        terminal.wait_for("# ");
        terminal.type_keys(
            b"trap 'trap - EXIT; echo the shell ends > /dev/console; exit' HUP EXIT; echo se\"\"t\r",
        );
        terminal.wait_for("set\r\n");
        terminal.type_keys(b"\x1d");
        assert_eq!(exit_code(&mut client), 0);
        terminal
    }

    /// Returns the number of the program that was started last.
    fn program(&self) -> String {
        let console = self.console();
        let line = console.lines().rev().find(|line| line.starts_with("service ")).unwrap();
        line.split(' ').nth(1).unwrap().to_owned()
    }
}

/// A program that ends is started again, and nothing of the one before is left.
fn it_is_started_again(served: &Served) {
    let first = served.program();
    served.root(&format!("kill -KILL {first}"));
    served.says("banger-guest: the service was ended by SIGKILL after", 1);
    served.says("it is started again in 1s\n", 1);
    served.says("in /tmp with a value\n", 2);
    assert_ne!(served.program(), first);
    let children = served.root("(ps -eo args 2>/dev/null || ps -o args) | grep -c '^sleep 54321$'");
    assert_eq!(children, "1\n", "the first one's child has ended with it");
}

#[test]
fn a_plain_images_command_is_served() {
    let served = Served::new(&BUSYBOX, Some(config("alice")));
    served.says("as alice in /tmp with a value\n", 1);
    it_is_started_again(&served);
    served.says("now it waits\n", 2);
    served.says("it listens\n", 0);

    let shell = served.shell_on_the_console();
    // At the end it gets the image's signal, and nothing else.
    served.environment.succeed(&["vm", "stop", "served"]);
    served.says("asked by QUIT\n", 1);
    served.says("asked by TERM\n", 0);
    served.says("the shell ends\n", 1);
    drop(shell);
    served.environment.succeed(&["vm", "start", "served"]);
    // It runs at every boot.
    wait_until(|| served.console(), |console| console.contains("as alice in /tmp with a value\n"));
}

#[test]
fn an_image_without_a_command_says_so_once() {
    let served = Served::new(&BUSYBOX, None);
    let text = "there is no service to run: the image names neither entrypoint nor command\n";
    served.says(text, 1);
    // A supervisor that tries again would have done so after a second.
    served.root("sleep 2");
    served.says(text, 1);
    assert_eq!(
        served.root("(ps -eo args 2>/dev/null || ps -o args) | grep -c 'guest service$' || true"),
        "0\n"
    );
}

#[test]
fn a_systemd_images_command_is_served() {
    let served = Served::new(&DEBIAN, Some(config("dev")));
    served.says("as dev in /tmp with a value\n", 1);
    it_is_started_again(&served);
    assert_eq!(served.root("systemctl is-active banger-service"), "active\n");
    served.root("systemctl stop banger-service");
    served.says("asked by QUIT\n", 1);
    assert!(served.root("systemctl is-active banger-service || true").contains("inactive"));

    // Whatever the image starts by default, the service is part of it.
    served.root(
        "printf '[Unit]\\nRequires=basic.target\\nAfter=basic.target\\nAllowIsolate=yes\\n' \
         > /etc/systemd/system/other.target && systemctl set-default other.target",
    );
    let count = |console: &str| console.matches("as dev in /tmp").count();
    let before = count(&served.console());
    served.says("it listens\n", 0);
    let shell = served.shell_on_the_console();
    served.environment.succeed(&["vm", "stop", "served"]);
    served.says("the shell ends\n", 1);
    drop(shell);
    served.environment.succeed(&["vm", "start", "served"]);
    // It runs with another target.
    wait_until(|| served.console(), |console| ![0, before].contains(&count(console)));
    assert_eq!(served.root("systemctl is-active banger-service"), "active\n");
    served.environment.succeed(&["vm", "stop", "served"]);
    served.says("asked by TERM\n", 0);
}

#[test]
fn a_command_that_cannot_start_is_tried_less_and_less() {
    let missing = ImageConfig { entrypoint: vec!["/no/such".to_owned()], ..ImageConfig::default() };
    let served = Served::new(&BUSYBOX, Some(missing));
    for pause in ["1s", "2s", "4s"] {
        let text = format!("it is started again in {pause}\n");
        wait_until(|| served.console(), |console| console.contains(&text));
    }
    assert!(served.console().contains("the service could not start (/no/such: not found) after"));
    assert_eq!(served.environment.run(&["vm", "stop", "served"]).code, 0);
}
