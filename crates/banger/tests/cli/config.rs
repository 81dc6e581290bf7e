//! `banger config …`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Ended, World};

/// A world with a configuration file, which need not be there.
struct Configured {
    world: World,
}

impl Configured {
    fn new(world: World) -> Self {
        Self { world }
    }

    fn file(&self) -> PathBuf {
        self.world.path().join("config/banger/config.toml")
    }

    fn write(&self, text: &str) {
        fs::create_dir_all(self.file().parent().unwrap()).unwrap();
        fs::write(self.file(), text).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.world.command(["config"].iter().chain(words));
        command.env("XDG_CONFIG_HOME", self.world.path().join("config"));
        command
    }

    fn run(&self, words: &[&str]) -> Ended {
        let mut ended = self.world.end(self.command(words).spawn().unwrap());
        let text = String::from_utf8(ended.stdout).unwrap();
        ended.stdout = text.replace(self.world.path().to_str().unwrap(), "[DIR]").into_bytes();
        ended
    }

    /// Runs `config edit` with an editor that is this script; the file is its `$1`.
    fn edit(&self, script: &str) -> Ended {
        let editor = self.world.path().join("editor");
        fs::write(&editor, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = self.command(&["edit"]);
        // With an argument, as many have it.
        command.env("VISUAL", format!("{} --wait", editor.display())).env("PATH", "/usr/bin:/bin");
        self.world.end(command.env("TMPDIR", self.world.path()).spawn().unwrap())
    }
}

#[test]
fn what_is_set_is_in_the_file_and_the_rest_stays() {
    let configured = Configured::new(World::without_daemon());
    insta::assert_snapshot!(configured.run(&["path"]), @"
    exit code: 0
    --- stdout
    [DIR]/config/banger/config.toml
    --- stderr
    ");
    insta::assert_snapshot!(configured.run(&["set", "vm.memory", "4G"]), @"
    exit code: 0
    --- stdout
    --- stderr
    vm.memory is 4G ([DIR]/config/banger/config.toml)
    ");
    assert_eq!(configured.text(), "[vm]\nmemory = \"4G\"\n");
    configured.write("# mine\n[vm]\nmemory = \"4G\" # plenty\n");
    assert_eq!(configured.run(&["set", "vm.memory", "2G"]).code, 0);
    assert_eq!(configured.run(&["set", "vm.forwards", "8080:80, 53:53/udp"]).code, 0);
    assert_eq!(
        configured.text(),
        "# mine\n[vm]\nmemory = \"2G\" # plenty\nforwards = [\"8080:80\", \"53:53/udp\"]\n"
    );
    assert_eq!(configured.run(&["get", "vm.memory"]).text(), "2G\n");
    assert_eq!(configured.run(&["get", "vm.vcpus"]).text(), "2\n", "the default");
    insta::assert_snapshot!(configured.run(&["unset", "vm.memory"]), @"
    exit code: 0
    --- stdout
    --- stderr
    vm.memory is 2G (the default)
    ");
    insta::assert_snapshot!(configured.run(&["unset", "vm.memory"]), @"
    exit code: 0
    --- stdout
    --- stderr
    'vm.memory' was not set in [DIR]/config/banger/config.toml
    ");
    assert_eq!(configured.text(), "# mine\n[vm]\nforwards = [\"8080:80\", \"53:53/udp\"]\n");
    insta::assert_snapshot!(configured.run(&["get", "vm.network"]), @"
    exit code: 3
    --- stdout
    --- stderr
    error: 'vm.network' is not set
      try: banger config set vm.network VALUE
    ");
    assert_eq!(configured.run(&["set", "registry.\"ghcr.io\".mirrors", "mirror.example:5000"]).code, 0);
    assert_eq!(configured.run(&["get", "registry.'ghcr.io'.mirrors"]).text(), "mirror.example:5000\n");
}

#[test]
fn what_cannot_be_set_is_refused_with_what_can() {
    let configured = Configured::new(World::without_daemon());
    configured.write("[vm]\nvcpus = 1\n");
    insta::assert_snapshot!(configured.run(&["set", "vm.memroy", "4G"]), @"
    exit code: 2
    --- stdout
    --- stderr
    error: there is no setting 'vm.memroy'
      try: Did you mean 'memory'? [vm] has boot_timeout, disk, forwards, image, kernel, memory, network, vcpus.
    ");
    insta::assert_snapshot!(configured.run(&["set", "vm.memory", "plenty"]), @r#"
    exit code: 2
    --- stdout
    --- stderr
    error: vm.memory takes a size in quotes, as "512M" or "2G": 'plenty' is not a size; write a number with M, G or T, as in 512M or 2G
      try: write a size in quotes, as "512M" or "2G"
    "#);
    insta::assert_snapshot!(configured.run(&["set", "web.listen", "0.0.0.0:80"]), @r#"
    exit code: 2
    --- stdout
    --- stderr
    error: web.listen takes an address of loopback with a port, as "127.0.0.1:7777", or "off": '0.0.0.0:80' is not a loopback address: whoever reaches the web console can ask for a session, and what is said there can be read on the way; write 127.0.0.1 or [::1], and reach it from elsewhere through ssh -L
      try: write an address of loopback with a port, as "127.0.0.1:7777", or "off"
    "#);
    insta::assert_snapshot!(configured.run(&["get", "vms"]), @"
    exit code: 2
    --- stdout
    --- stderr
    error: there is no setting 'vms'
      try: Did you mean 'vm'? There are catalog, debian, image, operations, registry, vm, web.
    ");
    assert_eq!(configured.text(), "[vm]\nvcpus = 1\n");
}

#[test]
fn a_mistake_is_told_with_its_line_and_what_is_allowed() {
    let configured = Configured::new(World::without_daemon());
    configured.write("[vm]\nvcpus = 1\nmemroy = \"1G\"\n");
    insta::assert_snapshot!(configured.run(&["validate"]), @"
    exit code: 2
    --- stdout
    --- stderr
    error: cannot use the configuration file
      because: [DIR]/config/banger/config.toml, line 3: there is no setting 'vm.memroy'
      try: Did you mean 'memory'? [vm] has boot_timeout, disk, forwards, image, kernel, memory, network, vcpus. Correct [DIR]/config/banger/config.toml, or remove it
    ");
    let refused = configured.run(&["set", "vm.vcpus", "2"]);
    assert_eq!((refused.code, refused.stderr.contains("line 3")), (2, true), "{}", refused.stderr);
    assert_eq!(configured.text(), "[vm]\nvcpus = 1\nmemroy = \"1G\"\n");
    // It can be taken out.
    configured.write("[vm]\nvcpus = \"two\"\n");
    insta::assert_snapshot!(configured.run(&["validate"]), @r#"
    exit code: 2
    --- stdout
    --- stderr
    error: cannot use the configuration file
      because: [DIR]/config/banger/config.toml, line 2: vm.vcpus: invalid type: string "two", expected u32
      try: It takes a whole number, as 4. Correct [DIR]/config/banger/config.toml, or remove it
    "#);
    assert_eq!(configured.run(&["unset", "vm.vcpus"]).code, 0);
    insta::assert_snapshot!(configured.run(&["validate"]), @"
    exit code: 0
    --- stdout
    --- stderr
    [DIR]/config/banger/config.toml has no mistake
    ");
    assert_eq!(configured.run(&["validate", "/nonexistent.toml"]).code, 1);
}

#[test]
fn without_a_daemon_what_it_would_go_by_is_shown() {
    let configured = Configured::new(World::without_daemon());
    configured.write("[vm]\nmemory = \"1G\"\n");
    let shown = configured.run(&["show", "--origin"]);
    let line = |name: &str| {
        let line = shown.text().lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("vm.memory"), "vm.memory 1G [DIR]/config/banger/config.toml");
    assert_eq!(line("vm.vcpus"), "vm.vcpus 2 the default");
    let json: serde_json::Value =
        serde_json::from_slice(&configured.run(&["show", "--json"]).stdout).unwrap();
    assert!(json.as_array().unwrap().iter().any(|it| it["name"] == "vm.memory" && it["value"] == "1G"));
}

#[test]
fn with_a_daemon_what_it_goes_by_is_shown_and_what_waits_for_its_restart() {
    let configured = Configured::new(World::new());
    insta::assert_snapshot!(configured.run(&["show", "--origin"]), @"
    exit code: 0
    --- stdout
    SETTING              VALUE                                FROM
    operations.at_once   16 (2 after banger daemon restart)   the default
    vm.memory            4G                                   /home/me/.config/banger/config.toml
    vm.network           -                                    the default
    --- stderr
    ");
    insta::assert_snapshot!(configured.run(&["set", "operations.at_once", "2"]), @"
    exit code: 0
    --- stdout
    --- stderr
    operations.at_once is 2 ([DIR]/config/banger/config.toml)
    it is in force after: banger daemon restart
    ");
    insta::assert_snapshot!(configured.run(&["set", "vm.vcpus", "4"]), @"
    exit code: 0
    --- stdout
    --- stderr
    vm.vcpus is 4 ([DIR]/config/banger/config.toml)
    ");
    let mut command = configured.command(&["set", "web.listen", "off"]);
    let ended = configured.world.end(command.env("BANGER_WEB_LISTEN", "127.0.0.1:1").spawn().unwrap());
    assert!(
        ended.stderr.contains("BANGER_WEB_LISTEN is set here, and counts over the file"),
        "{}",
        ended.stderr
    );
}

#[test]
fn what_is_edited_takes_the_files_place_once_it_has_no_mistake() {
    let configured = Configured::new(World::without_daemon());
    let ended =
        configured.edit("grep -q '^# | `memory` | a size' \"$2\" && printf '[vm]\\nvcpus = 3\\n' > \"$2\"");
    insta::assert_snapshot!(ended, @"
    exit code: 0
    --- stdout
    --- stderr
    [DIR]/config/banger/config.toml is changed
    ");
    assert_eq!(configured.text(), "[vm]\nvcpus = 3\n");
    insta::assert_snapshot!(configured.edit("true"), @"
    exit code: 0
    --- stdout
    --- stderr
    nothing was changed
    ");
    let ended = configured.edit("printf '[vm]\\nvcpu = 4\\n' > \"$2\"");
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("line 2: there is no setting 'vm.vcpu'"), "{}", ended.stderr);
    assert_eq!(configured.text(), "[vm]\nvcpus = 3\n", "the file is as it was");
    let kept = ended.stderr.split("is kept in [DIR]/").nth(1).unwrap().trim();
    assert_eq!(fs::read_to_string(configured.world.path().join(kept)).unwrap(), "[vm]\nvcpu = 4\n");
    let ended = configured.edit("exit 3");
    assert!(ended.code == 1 && ended.stderr.contains("exit status: 3"), "{}", ended.stderr);
    // Somebody else's change meanwhile is not undone.
    let file = configured.file();
    let ended = configured.edit(&format!(
        "printf '[vm]\\nvcpus = 5\\n' > '{}'; printf '[vm]\\nvcpus = 6\\n' > \"$2\"",
        file.display()
    ));
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    assert_eq!(configured.text(), "[vm]\nvcpus = 5\n");
}

#[test]
fn without_a_home_it_says_so() {
    let world = World::without_daemon();
    insta::assert_snapshot!(world.run(["config", "path"]), @"
    exit code: 2
    --- stdout
    --- stderr
    error: cannot tell where the configuration file is: neither HOME nor XDG_CONFIG_HOME is an absolute path
      try: set HOME to a directory of yours
    ");
}
