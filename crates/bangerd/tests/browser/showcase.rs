//! A console with something on every page: VMs in several states, images, what goes on, and what has failed; and one that is
//! empty.

use std::process::{Child, Stdio};

use banger_testkit::layers::{Layout, Packing, add, archive, noise};
use banger_testkit::{Environment, Passing, Proxy, Registry, RegistryOptions};
use banger_types::location::variable;
use serde_json::{Value, json};
use tar::EntryType;

use crate::console::{Visitor, link, sign_in};
use crate::driver::Scripts;

/// The image that was pulled.
pub(crate) const PULLED: &str = "shop";

/// What there is to show.
pub(crate) struct Showcase {
    pub(crate) visitor: Visitor,
    /// Where the session of a console is that has nothing yet, without a slash at its end.
    pub(crate) empty: String,
    _empty_environment: Environment,
    pull: Child,
    _registry: (Registry, Proxy),
}

impl Showcase {
    /// Makes it all.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let visitor = Visitor::start(test, Environment::with_fake_vmm(), Scripts::On)?;
        let empty_environment = Environment::empty().with_variable(variable::WEB_LISTEN, "127.0.0.1:0");
        empty_environment.succeed(&["daemon", "start"]);
        let empty = sign_in(&visitor.browser, &link(&empty_environment));
        make_vms(&visitor);
        register_image(&visitor);
        let (registry, proxy) = stalling_registry();
        pull_image(&visitor, &registry);
        let pull = begin_pull(&visitor, &proxy);
        proxy.wait_for_stalls(1);
        Some(Self {
            visitor,
            empty,
            _empty_environment: empty_environment,
            pull,
            _registry: (registry, proxy),
        })
    }

    /// Returns the id of what `banger KIND show NAME` shows.
    pub(crate) fn id(&self, kind: &str, name: &str) -> String {
        let shown = self.visitor.environment.run(&[kind, "show", name, "--json"]).json();
        shown["id"].as_str().unwrap().to_owned()
    }

    /// Returns the first name that `banger KIND ls` lists.
    pub(crate) fn first(&self, kind: &str) -> String {
        self.visitor.environment.succeed(&[kind, "ls", "-q"]).lines().next().unwrap().to_owned()
    }

    /// Returns the id of an operation that stands so.
    pub(crate) fn operation(&self, status: &str) -> String {
        let listed = self.visitor.environment.run(&["op", "ls", "--json"]).json();
        let found = listed.as_array().unwrap().iter().find(|it| it["status"] == status);
        let found: &Value = found.unwrap_or_else(|| panic!("no operation is {status}: {listed}"));
        found["id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Showcase {
    fn drop(&mut self) {
        self.pull.kill().ok();
        self.pull.wait().ok();
    }
}

fn make_vms(visitor: &Visitor) {
    let environment = &visitor.environment;
    let console =
        ["Linux version 6.12.48+deb13-cloud-amd64", "Run /sbin/init as init process", "shop login: "];
    environment.behave(&json!({ "console": console }));
    let labels = ["--label", "project=shop", "--label", "team=payments", "-e", "EDITOR=vim"];
    visitor.create("shop", &[&["-p", "0:443", "--restart", "on-failure"], &labels[..]].concat());
    visitor.guest("shop", "listen 80 nginx");
    visitor.guest("shop", "listen 5432 postgres");
    environment.succeed(&["vm", "wait", "shop", "--for", "port:5432", "--timeout", "60"]);
    visitor.create("ci-runner", &["--label", "project=shop"]);
    environment.succeed(&["vm", "pause", "ci-runner"]);
    visitor.create("a-vm-whose-name-is-about-as-long-as-names-of-vms-are-ever", &["--no-start"]);
    environment.behave(&json!({ "exit_at_boot": 1 }));
    visitor.create("broken", &["--no-start"]);
    assert_ne!(environment.run(&["vm", "start", "broken"]).code, 0, "it does not boot");
    environment.behave(&json!({}));
    assert_ne!(environment.run(&["image", "pull", "tar:/nowhere/at/all.tar"]).code, 0);
}

fn register_image(visitor: &Visitor) {
    let file = visitor.environment.data().join("projects/embedded/root.ext4");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, vec![0; 5 << 20]).unwrap();
    let rootfs = file.to_str().unwrap();
    visitor.environment.succeed(&["image", "register", "--name", "embedded", "--rootfs", rootfs]);
}

/// Returns a registry, and what stops half-way before it.
fn stalling_registry() -> (Registry, Proxy) {
    let registry = Registry::start(RegistryOptions::default());
    let directory = tempfile::tempdir().unwrap();
    let layer = archive(|b| add(b, EntryType::Regular, b"some", b"", &noise(8 << 20, 1)));
    let layout = Layout::of(directory.path(), &[(&layer[..], Packing::Gzip)], &json!({}));
    registry.push(&layout.path, "one", "team/large");
    let passing = Passing { cuts: vec![1 << 20; 8], stalls: true, spoils: false };
    let proxy = Proxy::before(&registry, passing);
    (registry, proxy)
}

/// Pulls an image of several layers.
fn pull_image(visitor: &Visitor, registry: &Registry) {
    let directory = tempfile::tempdir().unwrap();
    let layers = [2_900_000, 420_000, 77]
        .map(|size: usize| archive(|b| add(b, EntryType::Regular, b"some", b"", &noise(size, 1))));
    let layers: Vec<_> = layers.iter().map(|layer| (&layer[..], Packing::Gzip)).collect();
    let config = json!({
        "User": "shop",
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"],
        "Entrypoint": ["/usr/bin/shop"],
        "ExposedPorts": { "443/tcp": {} },
        "Labels": { "org.opencontainers.image.title": "shop" },
    });
    let layout = Layout::of(directory.path(), &layers, &config);
    registry.push(&layout.path, "one", "team/shop");
    let source = format!("docker://{}/team/shop", registry.host());
    visitor.environment.succeed(&["image", "pull", &source, "--name", PULLED]);
}

fn begin_pull(visitor: &Visitor, proxy: &Proxy) -> Child {
    let source = format!("docker://{}/team/large", proxy.host());
    let mut pull = visitor.environment.banger(&["image", "pull", &source, "--name", "large"]);
    pull.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
