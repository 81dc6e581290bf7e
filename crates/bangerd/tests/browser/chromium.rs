//! A real browser, which waits for what is to be there and never for a time.

use std::future::Future;
use std::time::{Duration, Instant};

use axum::http::Method;
use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::key::Key;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use url::{ParseError, Url};

use crate::driver::{self, Scripts};

/// How long something that must happen may take on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// What is waited for is looked at this often.
const PACE: Duration = Duration::from_millis(30);

/// A browser with a profile of its own, which goes with it.
pub(crate) struct Chromium {
    client: Client,
    runtime: tokio::runtime::Runtime,
    _profile: tempfile::TempDir,
}

/// Light or dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Theme {
    Light,
    Dark,
}

impl Theme {
    /// Returns its name in `prefers-color-scheme`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

impl Chromium {
    /// Starts one. Where that cannot be, says that the test is not run.
    pub(crate) fn start(test: &str, scripts: Scripts) -> Option<Self> {
        let driver = driver::address(test)?;
        let profile = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let capabilities = driver::capabilities(profile.path().to_str().unwrap(), scripts);
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let client = runtime.block_on(builder.connect(&driver)).unwrap();
        Some(Self { client, runtime, _profile: profile })
    }

    fn call<T>(&self, call: impl Future<Output = Result<T, CmdError>>) -> T {
        self.runtime.block_on(call).unwrap()
    }

    /// Waits until a look finds something. A page that is being replaced has nothing, or what is gone in a moment: that is
    /// looked at again.
    fn wait<T>(&self, what: &str, look: &impl AsyncFn(&Client) -> Result<Option<T>, CmdError>) -> T {
        let deadline = Instant::now() + LIMIT;
        let found = self.runtime.block_on(async {
            let mut last = None;
            while Instant::now() < deadline {
                match look(&self.client).await {
                    Ok(Some(found)) => return Ok(found),
                    Ok(None) => {}
                    Err(error) => last = Some(error),
                }
                tokio::time::sleep(PACE).await;
            }
            Err(last)
        });
        found.unwrap_or_else(|error| {
            panic!("waited in vain for {what} at {} ({error:?}): {}", self.url(), self.text())
        })
    }

    /// Loads a page.
    pub(crate) fn open(&self, address: &str) {
        self.call(self.client.goto(address));
    }

    /// Returns the address of the page.
    pub(crate) fn url(&self) -> String {
        self.call(self.client.current_url()).to_string()
    }

    /// Waits for an address that has this in it.
    pub(crate) fn wait_for_url(&self, part: &str) {
        self.wait(&format!("the address {part}"), &async |client| {
            Ok(client.current_url().await?.as_str().contains(part).then_some(()))
        });
    }

    /// Returns what is read on the page.
    pub(crate) fn text(&self) -> String {
        self.runtime.block_on(read(&self.client)).unwrap_or_default()
    }

    /// Waits until the page says all of this.
    pub(crate) fn says(&self, words: &[&str]) {
        self.wait(&format!("{words:?}"), &async |client| {
            let text = read(client).await?;
            Ok(words.iter().all(|words| text.contains(words)).then_some(()))
        });
    }

    /// Loads the page anew until it says all of this: where no script does that.
    pub(crate) fn reload_until_it_says(&self, words: &[&str]) {
        self.wait(&format!("{words:?}"), &async |client| {
            client.refresh().await?;
            let text = read(client).await?;
            Ok(words.iter().all(|words| text.contains(words)).then_some(()))
        });
    }

    /// Presses the button with this label.
    pub(crate) fn press(&self, label: &str) {
        self.click(&format!("//button[normalize-space()='{label}' and not(@aria-hidden)]"));
    }

    /// Follows the link with this text.
    pub(crate) fn follow(&self, text: &str) {
        self.click(&format!("//a[normalize-space()='{text}']"));
    }

    /// Presses what an expression of `XPath` finds, as soon as it is there.
    pub(crate) fn click(&self, path: &str) {
        self.wait(path, &async |client| {
            client.find(Locator::XPath(path)).await?.click().await?;
            Ok(Some(()))
        });
    }

    /// Fills a field in, or chooses.
    pub(crate) fn fill(&self, name: &str, value: &str) {
        self.wait(name, &async |client| {
            let field = client.find(Locator::Css(&format!("[name='{name}']"))).await?;
            fill(&field, value).await?;
            Ok(Some(()))
        });
    }

    /// Returns what a script returns. The page's policy is not asked.
    pub(crate) fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        self.call(self.client.execute(script, arguments))
    }

    /// Returns what a script comes to: an expression of JavaScript that is a promise.
    pub(crate) fn resolve(&self, promise: &str, arguments: Vec<Value>) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1];\
             Promise.resolve().then(() => ({promise})).then(done, (error) => done({{ failed: String(error) }}));"
        );
        self.call(self.client.execute_async(&script, arguments))
    }

    /// Turns to the page that a link has opened in a new tab, once it is there.
    pub(crate) fn turn_to_new_tab(&self) {
        self.wait("a new tab", &async |client| {
            let own = client.window().await?;
            let Some(other) = client.windows().await?.into_iter().find(|window| *window != own) else {
                return Ok(None);
            };
            client.switch_to_window(other).await?;
            Ok(Some(()))
        });
    }

    /// Opens a tab, and turns to it.
    pub(crate) fn open_tab(&self) {
        self.call(async {
            let tab = self.client.new_window(true).await?.handle;
            self.client.switch_to_window(tab).await
        });
    }

    /// Closes the tab, and turns to the other one.
    pub(crate) fn close_tab(&self) {
        self.call(async {
            self.client.close_window().await?;
            let other = self.client.windows().await?.remove(0);
            self.client.switch_to_window(other).await
        });
    }

    /// Returns the address of what is in the page's first frame.
    pub(crate) fn address_in_frame(&self) -> String {
        let address = self.call(async {
            self.client.enter_frame(0).await?;
            let address = self.client.execute("return location.href", Vec::new()).await?;
            self.client.enter_parent_frame().await?;
            Ok(address)
        });
        address.as_str().unwrap().to_owned()
    }

    /// Presses a key.
    pub(crate) fn press_key(&self, key: Key) {
        self.type_keys(&String::from(char::from(key)));
    }

    /// Types a text, key by key, to whatever has the keyboard.
    pub(crate) fn type_keys(&self, text: &str) {
        let keys = text.chars().fold(KeyActions::new("keyboard".to_owned()), |keys, value| {
            keys.then(KeyAction::Down { value }).then(KeyAction::Up { value })
        });
        self.call(self.client.perform_actions(keys));
    }

    /// Presses keys together, the last one last.
    pub(crate) fn type_keys_together(&self, keys: &[char]) {
        let down = keys.iter().map(|value| KeyAction::Down { value: *value });
        let up = keys.iter().rev().map(|value| KeyAction::Up { value: *value });
        let keys = down.chain(up).fold(KeyActions::new("keyboard".to_owned()), KeyActions::then);
        self.call(self.client.perform_actions(keys));
    }

    /// Shows pages in a theme, on a screen of so many pixels.
    pub(crate) fn show_as(&self, theme: Theme, width: u32, height: u32) {
        let feature = json!({ "name": "prefers-color-scheme", "value": theme.name() });
        self.tell("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", size);
    }

    /// Returns a picture of what is seen of the page, as PNG.
    pub(crate) fn picture(&self) -> Vec<u8> {
        self.call(self.client.screenshot())
    }

    /// Tells the browser something in its own protocol (Chrome `DevTools`).
    fn tell(&self, method: &'static str, parameters: Value) {
        self.call(self.client.issue_cmd(Tell { method, parameters }));
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.runtime.block_on(self.client.clone().close()).ok();
    }
}

async fn read(client: &Client) -> Result<String, CmdError> {
    client.find(Locator::Css("body")).await?.text().await
}

async fn fill(field: &Element, value: &str) -> Result<(), CmdError> {
    if field.tag_name().await? == "select" {
        return field.select_by_value(value).await;
    }
    field.clear().await?;
    field.send_keys(value).await
}

/// A command of chromedriver's own.
#[derive(Debug)]
struct Tell {
    method: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for Tell {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        let body = json!({ "cmd": self.method, "params": self.parameters });
        (Method::POST, Some(body.to_string()))
    }
}
