//! The web console as its user sees it: everything by pages and forms, without JavaScript; and what moves by itself.

use banger_testkit::browser::{ask, encoded, request};
use banger_testkit::{Environment, seed};
use banger_types::location::variable;
use banger_types::operation::OperationStatus;
use banger_types::vm::{RestartPolicy, VmState};

use crate::support::{Daemon, Pipe, refuse};
use crate::web_browser::{address, browser, daemon, finish};

/// What a small VM is made with.
const SMALL: [(&str, &str); 5] =
    [("image", seed::PROBE), ("memory", "256M"), ("vcpus", "1"), ("disk", "1G"), ("network", "none")];

#[test]
fn a_vms_whole_life_is_led_by_forms_alone() {
    let daemon = daemon();
    let browser = browser(&daemon);
    browser.get("/").says(&["There is no VM yet", "Create one", "This host", "Root helper", "Engine"]);

    browser.get("/create").says(&["banger vm create", "is got first", "Cancel"]);
    let fields = [&SMALL[..], &[("name", "web"), ("labels", "team=shop"), ("forwards", "0:80")]].concat();
    let preview = [&fields[..], &[("preview", "yes")]].concat();
    let shown = browser.submit("/create", "/create", &preview);
    assert_eq!(shown.status, 200);
    shown.says(&["banger vm create web --image probe --vcpus 1 --memory 256M --disk 1G --net none"]);
    assert!(daemon.call(daemon.client.vms()).unwrap().is_empty(), "a preview makes nothing");
    let created = finish(&daemon, &browser, &browser.submit("/create", "/create", &fields));
    assert_eq!(created.status, OperationStatus::Succeeded, "{created:?}");
    assert_eq!(created.asked_by.unwrap().program.split('/').next(), Some("banger-console"));
    let vm = daemon.wait_for("web", VmState::Running);
    browser.get(&format!("/operations/{}", created.id)).says(&["succeeded", "/vms/web\"", "Phases"]);

    let image = format!("href=\"{}\"", browser.path(&format!("/images/{}", vm.spec.image)));
    let page = browser.get("/vms/web");
    let page = page.says(&["running", "fake guest: ready", "team=shop", &image, "→ 80", "Kill…", "Delete…"]);
    assert!(!page.body.contains("Begun."), "it was said once");
    let image = format!("href=\"images/{}\"", vm.spec.image);
    browser.get("/").says(&["href=\"vms/web\"", "running", &image]);

    daemon.guest("web", "listen 80 nginx");
    daemon.wait("web", |vm| vm.sockets.iter().any(|socket| socket.port == 80));
    browser.get("/vms/web").says(&["nginx", "rel=\"noopener noreferrer\""]);

    for (action, state) in
        [("pause", VmState::Paused), ("resume", VmState::Running), ("restart", VmState::Running)]
    {
        let done =
            finish(&daemon, &browser, &browser.submit("/vms/web", &format!("/vms/web/do/{action}"), &[]));
        assert_eq!(done.status, OperationStatus::Succeeded, "{done:?}");
        daemon.wait_for("web", state);
    }

    let added = browser.submit("/vms/web", "/vms/web/forwards", &[("forward", "0:81")]);
    browser.follow(&added).says(&["leads to port 81 of the VM", "→ 81"]);
    let removed = browser.submit("/vms/web", "/vms/web/forwards/remove", &[]);
    browser.follow(&removed).says(&["leads to the VM no more"]);

    let killed = browser.get("/vms/web/kill").says(&["as if its power had failed", "Lost:", "Cancel"]);
    assert!(killed.body.contains(&format!("href=\"{}\"", browser.path("/vms/web"))), "a way back");
    finish(&daemon, &browser, &browser.submit("/vms/web/kill", "/vms/web/kill", &[]));
    daemon.wait_for("web", VmState::Stopped);
    finish(&daemon, &browser, &browser.submit("/vms/web", "/vms/web/do/start", &[]));
    daemon.wait_for("web", VmState::Running);
    finish(&daemon, &browser, &browser.submit("/vms/web", "/vms/web/do/stop", &[]));
    daemon.wait_for("web", VmState::Stopped);

    browser.get("/vms/web/delete").says(&["cannot be undone", "everything that was written in it"]);
    let deleted = finish(&daemon, &browser, &browser.submit("/vms/web/delete", "/vms/web/delete", &[]));
    assert_eq!(deleted.status, OperationStatus::Succeeded);
    let gone = browser.look("/vms/web");
    assert_eq!(gone.status, 404);
    gone.says(&["There is no VM named", "Dashboard"]);
}

#[test]
fn mistakes_are_said_where_they_are_and_nothing_that_was_filled_in_is_lost() {
    let daemon = daemon();
    let browser = browser(&daemon);
    let fields = [("name", "A/B"), ("vcpus", "many"), ("memory", "2G"), ("environment", "EDITOR=vim\nno")];
    let refused = browser.submit("/create", "/create", &fields);
    assert_eq!(refused.status, 422);
    refused.says(&[
        "Nothing was done",
        "href=\"#name\"",
        "not a VM name",
        "value=\"many\"",
        "EDITOR=vim",
        "is not NAME=VALUE",
    ]);
    // What only the daemon can tell.
    let fields = [&SMALL[..3], &[("name", "web"), ("disk", "1")]].concat();
    let refused = browser.submit("/create", "/create", &fields);
    assert_eq!(refused.status, 422);
    refused.says(&["Cannot create", "Because: a disk of 1M", "What to do:", "value=\"web\""]);
    // What is refused after a button is a page with what, why and what to do, and a way back.
    daemon.create("idle", |request| request.no_start = true);
    let key = browser.key();
    let refused = browser.post("/vms/idle/do/pause", &[("key", &key)]);
    assert_eq!(refused.status, 409);
    let back = format!("href=\"{}\"", browser.path("/vms/idle"));
    refused.says(&["Cannot pause", "Because:", "What to do:", "<code>banger vm start idle</code>", &back]);
}

#[test]
fn a_vm_is_changed_by_a_form_and_only_in_what_is_other() {
    let daemon = daemon();
    let browser = browser(&daemon);
    daemon.create("web", |request| {
        request.labels.insert("team".to_owned(), "shop".to_owned());
        request.labels.insert("old".to_owned(), "x".to_owned());
    });
    let page = browser.get("/vms/web/change").says(&["team=shop", "stop it first", "Cancel"]);
    let vm = daemon.vm("web");
    assert!(page.body.contains(&format!("value=\"{}\"", vm.spec.memory)), "{}", page.body);
    let as_it_is = [
        ("vcpus", vm.spec.vcpus.to_string()),
        ("memory", vm.spec.memory.to_string()),
        ("disk", vm.spec.disk.to_string()),
        ("engine", vm.spec.engine.to_string()),
        ("network", vm.spec.network.to_string()),
        ("automatic_forwards", "yes".to_owned()),
    ];
    let as_it_is: Vec<(&str, &str)> = as_it_is.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // It runs: what is as it was is not asked for.
    let rest = [("name", "shop"), ("restart", "always"), ("labels", "team=web\nnew=y")];
    let changed = browser.submit("/vms/web/change", "/vms/web/change", &[&as_it_is[..], &rest].concat());
    browser.follow(&changed).says(&["Changed.", "VM shop", "team=web", "new=y"]);
    let vm = daemon.vm("shop");
    assert_eq!(vm.spec.labels.keys().collect::<Vec<_>>(), ["new", "team"]);
    assert_eq!(vm.spec.restart, RestartPolicy::Always);
    assert!(vm.spec.automatic_forwards && vm.state == VmState::Running);

    // What the daemon refuses, and what is no number, stay as they were filled in.
    let more = [("name", "shop"), ("vcpus", "7"), ("labels", "")];
    let refused = browser.submit("/vms/shop/change", "/vms/shop/change", &[&more, &as_it_is[1..]].concat());
    assert_eq!(refused.status, 409);
    refused.says(&["value=\"7\"", "What to do:"]);
    let wrong =
        browser.submit("/vms/shop/change", "/vms/shop/change", &[("memory", "much"), ("name", "A/B")]);
    assert_eq!(wrong.status, 422);
    wrong.says(&["value=\"much\"", "href=\"#memory\"", "href=\"#name\""]);
    // Somebody else was faster.
    let key = browser.key();
    let late = [("key", key.as_str()), ("generation", "0"), ("name", "late")];
    let late = browser.post("/vms/shop/change", &[&late, &as_it_is[..]].concat());
    assert_eq!(late.status, 409);
    late.says(&["it has changed meanwhile: its generation was 0"]);
    assert_eq!(daemon.vm("shop").spec, vm.spec);
}

#[test]
fn paths_are_completed_while_they_are_typed() {
    let daemon = daemon();
    let browser = browser(&daemon);
    let files = tempfile::tempdir().unwrap();
    std::fs::create_dir(files.path().join("roots")).unwrap();
    for name in ["root.ext4", "root.txt", ".root.ext4"] {
        std::fs::write(files.path().join(name), "x").unwrap();
    }
    let folder = files.path().to_str().unwrap();
    let offered = |kind: &str, path: &str| -> Vec<String> {
        let query = encoded(&[("kind", kind), ("path", path)]);
        let reply = browser.get(&format!("/picker/complete?{query}"));
        assert_eq!(reply.header("content-type"), Some("application/json"));
        serde_json::from_str(&reply.body).unwrap()
    };
    let at = |name: &str| format!("{folder}/{name}");
    assert_eq!(offered("disk", &at("ro")), [at("roots/"), at("root.ext4")]);
    assert_eq!(offered("any", &format!("tar:{}", at("root.t"))), [format!("tar:{}", at("root.txt"))]);
    assert_eq!(offered("disk", &at(".r")), [at(".root.ext4")]);
    assert_eq!(offered("disk", folder), [format!("{folder}/")]);
    for nothing in ["", "root", "/proc/", "/nowhere/at/all", "docker://alpine"] {
        assert_eq!(offered("any", nothing), Vec::<String>::new(), "{nothing}");
    }
    let page = browser.get("/register/image").body;
    assert!(page.contains("data-complete=") && page.contains("<datalist"), "{page}");
}

#[test]
fn pages_move_by_themselves() {
    let daemon = daemon();
    let browser = browser(&daemon);
    let mut dashboard = browser.stream("page=dashboard");
    dashboard.wait_for("There is no VM yet");
    daemon.create("web", |_| ());
    dashboard.wait_for("vms/web");
    let mut page = browser.stream("page=vm&name=web");
    page.wait_for_all(&["fake guest: ready", "What it takes"]);
    daemon.guest("web", "print <script>alert(1)</script>");
    // As text of JSON, which the page puts into a text.
    page.wait_for("<script>alert(1)</script>");
    daemon.succeed(daemon.client.kill_vm("web"));
    page.wait_for("stopped");
    dashboard.wait_for("stopped");
    daemon.succeed(daemon.client.delete_vm("web", false));
    page.wait_for("event: gone");
    page.end();
    // Nobody is kept from ending by those who listen.
    daemon.environment.succeed(&["daemon", "stop"]);
    dashboard.end();
}

#[test]
fn a_pull_is_cancelled_half_way() {
    let daemon = daemon();
    let browser = browser(&daemon);
    let pipe = Pipe::new();
    let begun = browser.submit("/pull/image", "/pull/image", &[("source", &pipe.source()), ("name", "half")]);
    let page = browser.follow(&begun).says(&["http-equiv=\"refresh\"", "Cancel it"]);
    let id =
        begun.header("location").unwrap().split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    assert!(page.body.contains(&format!("data-live=\"{}", browser.path("/live?page=operation"))));
    let cancel = format!("/operations/{id}/cancel");
    browser.get("/").says(&["Going on", &id]);
    let asked = browser.submit(&format!("/operations/{id}"), &cancel, &[]);
    browser.follow(&asked).says(&["being undone"]);
    let operation = daemon.call(daemon.client.operation(&id)).unwrap();
    if !operation.status.is_final() {
        daemon.follow_until(&operation, |operation| operation.status == OperationStatus::Cancelled);
    }
    let page = browser.get(&format!("/operations/{id}")).says(&["cancelled"]);
    assert!(!page.body.contains("http-equiv=\"refresh\""), "it changes no more");
}

#[test]
fn a_file_is_chosen_by_the_picker_and_registered() {
    let daemon = daemon();
    let browser = browser(&daemon);
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("mine.ext4"), vec![0; 5 << 20]).unwrap();
    let typed = format!("{}/", files.path().display());
    let fields = [("rootfs", typed.as_str()), ("name", "mine"), ("browse", "rootfs")];
    let key = browser.key();
    let sent = browser.post("/register/image/browse", &[&fields[..], &[("key", &key)]].concat());
    let place = sent.header("location").unwrap();
    assert!(!place.contains(&key), "{place}");
    let picker = browser.follow(&sent).says(&["mine.ext4", "5.0 MiB", "Cancel"]);
    let taken = picker.body.split("href=\"").find(|link| link.contains("mine.ext4\">mine.ext4")).unwrap();
    let taken = taken.split('"').next().unwrap().replace("&amp;", "&");
    let form = taken.strip_prefix(&browser.session).unwrap();
    let rootfs = files.path().join("mine.ext4");
    browser.get(form).says(&[&format!("value=\"{}\"", rootfs.display()), "value=\"mine\""]);
    let fields = [("rootfs", rootfs.to_str().unwrap()), ("name", "mine")];
    let done = finish(&daemon, &browser, &browser.submit(form, "/register/image", &fields));
    assert_eq!(done.status, OperationStatus::Succeeded, "{done:?}");
    let image = daemon.call(daemon.client.image("mine")).unwrap();
    browser.get("/images").says(&["mine", &format!("/images/{}", image.id)]);
    let page = format!("/images/{}", image.id);
    browser.get(&page).says(&["used where it is", "Configuration", "Create a VM from it"]);
    browser.get(&format!("{page}/delete")).says(&["Its file stays where it is"]);
    finish(&daemon, &browser, &browser.submit(&format!("{page}/delete"), &format!("{page}/delete"), &[]));
    assert!(rootfs.exists());
    assert_eq!(browser.look(&page).status, 404);
}

#[test]
fn every_page_is_there_and_says_what_it_is() {
    let daemon = daemon();
    daemon.create("web", |_| ());
    let browser = browser(&daemon);
    let kernel = daemon.call(daemon.client.kernels()).unwrap().remove(0);
    for (page, words) in [
        ("/", "Dashboard"),
        ("/create", "The same in a terminal"),
        ("/vms/web/log?kind=engine", "Log of VM web"),
        ("/vms/web/change", "Change VM web"),
        ("/vms/web/terminal", "Terminal of VM web"),
        ("/images", seed::PROBE),
        ("/kernels", kernel.name.as_str()),
        (&format!("/kernels/{}", kernel.id), "Can do"),
        (&format!("/kernels/{}/delete", kernel.id), "It is refused while a VM uses it"),
        ("/catalog", "Who says so"),
        ("/pull/image", "dockerfile:"),
        ("/pull/kernel", "Pull a kernel"),
        ("/register/kernel", "Initramfs"),
        ("/operations", "create VM"),
        ("/prune", "What would go"),
        ("/prune?all=yes", "Take them away"),
        ("/doctor", "Root helper, by sudo"),
        ("/logs", "bangerd begins"),
        ("/settings", "BANGER_WEB_LISTEN of the environment"),
    ] {
        let page = browser.get(page).says(&[words, "<!DOCTYPE html>", "lang=\"en\"", "Skip to the content"]);
        assert_eq!(page.body.matches("<h1>").count(), 1, "{}", page.body);
        assert!(
            !page.body.contains("style=") && !page.body.contains("onclick"),
            "nothing inline: {}",
            page.body
        );
        for address in page.body.split(['"', '\'']).filter(|it| it.starts_with("http")) {
            assert!(address.starts_with("http://127.0.0.1"), "nothing from elsewhere: {address}");
        }
    }
    let host = format!("Host: {}", browser.address);
    for asset in ["console.css", "console.js", "icon.svg"] {
        let page = browser.get("/").body;
        let link = page.split('"').find(|it| it.starts_with(&format!("/assets/{asset}"))).unwrap().to_owned();
        let reply = ask(browser.address, &request("GET", &link, &[&host], ""));
        assert_eq!(reply.status, 200, "{link}");
    }
}

#[test]
fn what_nobody_uses_goes_as_it_was_shown() {
    let daemon = daemon();
    daemon.create("web", |request| request.no_start = true);
    let browser = browser(&daemon);
    browser.get("/prune?all=yes").says(&[seed::BUSYBOX, "Nothing that a VM uses"]);
    let done = finish(&daemon, &browser, &browser.submit("/prune?all=yes", "/prune", &[]));
    assert_eq!(done.status, OperationStatus::Succeeded, "{done:?}");
    let left: Vec<_> =
        daemon.call(daemon.client.images()).unwrap().into_iter().map(|image| image.name).collect();
    assert_eq!(left, [seed::PROBE]);
}

#[test]
fn it_listens_where_it_is_told_to_and_on_loopback_alone() {
    let first = daemon();
    let taken = address(&first).to_string();
    // The next port that is free, and that is said.
    let second = Daemon::of(Environment::empty().with_variable(variable::WEB_LISTEN, &taken));
    assert!(address(&second).port() > address(&first).port());
    let note = second.call(second.client.system()).unwrap().web.unwrap().note.unwrap();
    assert!(note.contains(&format!("port {} was taken", address(&first).port())), "{note}");
    let status = second.environment.succeed(&["daemon", "status"]);
    assert!(
        status.contains(&note) && status.contains(&format!("http://{}/sign-in/", address(&second))),
        "{status}"
    );
    let printed = second.environment.succeed(&["web"]);
    assert!(printed.starts_with(&format!("http://{}/sign-in/", address(&second))), "{printed}");

    let off = Environment::empty();
    off.succeed(&["daemon", "start"]);
    assert!(off.succeed(&["daemon", "status"]).contains("Web console:   off"));
    assert!(refuse(&off, 4, &["web"]).contains("because: it is off"));

    let open = Environment::empty().with_variable(variable::WEB_LISTEN, "0.0.0.0:7777");
    let said = refuse(&open, 2, &["daemon", "start"]);
    assert!(said.contains("'0.0.0.0:7777' is not a loopback address"), "{said}");
    let open = Environment::empty();
    open.configure("[web]\nlisten = \"192.168.1.1:80\"\n");
    let said = refuse(&open, 2, &["daemon", "start"]);
    assert!(said.contains("line 2") && said.contains("is not a loopback address"), "{said}");
}

#[test]
fn the_link_is_opened_by_a_file_that_nobody_else_can_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let daemon = daemon();
    let programs = tempfile::tempdir().unwrap();
    let opener = programs.path().join("xdg-open");
    let opened = programs.path().join("opened");
    std::fs::write(&opener, format!("#!/bin/sh\necho \"$@\" > '{}'\n", opened.display())).unwrap();
    std::fs::set_permissions(&opener, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = daemon.environment.banger(&["web", "--open"]);
    let path = format!("{}:/usr/bin:/bin", programs.path().display());
    let outcome = daemon.environment.outcome(command.env("PATH", path));
    assert_eq!((outcome.code, outcome.text().as_str()), (0, ""), "{}", outcome.stderr);
    let arguments = std::fs::read_to_string(opened).unwrap();
    let page = std::path::Path::new(arguments.trim());
    assert!(!arguments.contains("sign-in/"), "others see command lines: {arguments}");
    assert_eq!(std::fs::metadata(page).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        std::fs::read_to_string(page).unwrap().contains(&format!("http://{}/sign-in/", address(&daemon)))
    );
}
