//! chromedriver: one for the whole program, which ends with it.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{OnceLock, mpsc};

use banger_testkit::not_run;
use serde_json::{Value, json};

/// What a browser is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scripts {
    /// As it is out of the box.
    On,
    /// It runs no script of any page's.
    Off,
}

/// Returns a program's path, if it is in `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|program| program.is_file())
}

/// Returns where chromedriver is asked. Without it or without Chromium, says that the test is not run.
pub(crate) fn address(test: &str) -> Option<String> {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    let missing = ["chromedriver", "chromium"].into_iter().find(|program| find(program).is_none());
    if let Some(missing) = missing {
        not_run(test, &format!("there is no {missing}"));
        return None;
    }
    Some(ADDRESS.get_or_init(|| format!("http://127.0.0.1:{}", start())).clone())
}

/// Starts chromedriver, and returns its port.
fn start() -> u16 {
    let (sender, receiver) = mpsc::channel();
    // It is told to end with the thread that has started it (PR_SET_PDEATHSIG(2const)), which therefore lasts.
    std::thread::spawn(move || {
        let mut driver = Command::new("setpriv");
        driver.args(["--pdeathsig", "TERM", "chromedriver", "--port=0"]);
        let driver = driver.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = driver.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.by_ref().find_map(|line| {
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok()
        });
        sender.send(port).unwrap();
        // What it says further on must not fill the pipe.
        lines.for_each(drop);
        child.wait().unwrap();
    });
    receiver.recv().unwrap().unwrap_or_else(|| panic!("chromedriver does not say its port"))
}

/// Returns what a browser is asked for with.
pub(crate) fn capabilities(profile: &str, scripts: Scripts) -> serde_json::Map<String, Value> {
    let profile = format!("--user-data-dir={profile}");
    let mut arguments = vec![
        "--headless=new",
        // It ends with the pipe by which chromedriver speaks to it.
        "--remote-debugging-pipe",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-extensions",
        "--disable-gpu",
        // A container's /dev/shm is small.
        "--disable-dev-shm-usage",
        "--force-color-profile=srgb",
        "--lang=en",
        &profile,
    ];
    if rustix::process::geteuid().is_root() {
        // Chromium refuses to begin as root with its sandbox, and all that it loads here is on this host.
        arguments.push("--no-sandbox");
    }
    let allowed = if scripts == Scripts::On { 1 } else { 2 };
    let chromium = json!({
        "binary": find("chromium"),
        "args": arguments,
        "prefs": { "profile.managed_default_content_settings.javascript": allowed },
    });
    let timeouts = json!({ "script": 120_000 });
    let capabilities =
        json!({ "browserName": "chrome", "timeouts": timeouts, "goog:chromeOptions": chromium });
    capabilities.as_object().unwrap().clone()
}
