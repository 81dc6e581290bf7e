//! Dockerfiles: a user's own, and the golden image's.

use std::path::{Path, PathBuf};
use std::process::Command;

use banger_testkit::layers::{Layout, Packing};
use banger_testkit::{Builder, Environment, FileServer, Registry, RegistryOptions, not_run, seed};
use serde_json::json;

use crate::network::Outside;

/// Puts an image of one tar into a registry.
fn push(registry: &Registry, name: &str, tar: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    let layers = [(tar, Packing::Gzip)];
    let layout = Layout::of(&directory.path().join("layout"), &layers, &json!({"Cmd": ["/bin/sh"]}));
    registry.push(&layout.path, "one", name);
}

fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        not_run(test, "Buildah without namespaces of its own needs root");
    }
    is_root
}

/// Returns a registry with a base image, and an environment whose builder has it from there.
fn with_a_base() -> (Registry, Builder, Environment) {
    let registry = Registry::start(RegistryOptions::default());
    push(&registry, "base:1", &std::fs::read(seed::directory().join("busybox.tar")).unwrap());
    let builder = Builder::new(&[&registry.host()]);
    let environment = builder.of(Environment::new());
    (registry, builder, environment)
}

#[test]
fn a_dockerfile_of_three_lines_is_a_shell_in_its_vm_in_two_commands() {
    if !is_root("a_dockerfile_of_three_lines_is_a_shell_in_its_vm_in_two_commands") {
        return;
    }
    let (registry, _builder, environment) = with_a_base();
    let directory = tempfile::tempdir().unwrap();
    let write = |lines: &str| {
        let text = format!("FROM {}/base:1\n{lines}", registry.host());
        std::fs::write(directory.path().join("Dockerfile"), text).unwrap();
    };
    write("RUN echo made by a Dockerfile > /etc/made\nWORKDIR /etc\n");
    // Typed where it is, as a user does.
    let mut pull = environment.banger(&["image", "pull", "dockerfile:.", "--name", "mine"]);
    let pulled = environment.outcome(pull.current_dir(directory.path()));
    assert_eq!(pulled.code, 0, "{}", pulled.stderr);
    assert!(pulled.stderr.contains("build it with buildah"), "{}", pulled.stderr);
    let small = ["--memory", "256M", "--vcpus", "1", "--net", "none"];
    let run = [&["run", "--image", "mine", "--rm"], &small[..]].concat();
    let shell = environment.run_with_input(&run, b"cat /etc/made\nexit 7\n");
    assert_eq!((shell.code, shell.text()), (7, "made by a Dockerfile\n".to_owned()), "{}", shell.stderr);

    // What fails is said in the builder's own words, and leaves nothing.
    let before = std::fs::read_dir(environment.data().join("images")).unwrap().count();
    write("RUN echo these are my words && echo and so are these >&2 && exit 3\n");
    let mut pull = environment.banger(&["image", "pull", "dockerfile:.", "--name", "broken"]);
    let refused = environment.outcome(pull.current_dir(directory.path()));
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    let error = &refused.stderr[refused.stderr.find("\nerror: ").unwrap()..];
    for words in
        ["buildah did not build the Dockerfile", "these are my words", "and so are these", "exit status 3"]
    {
        assert!(error.contains(words), "{words}: {}", refused.stderr);
    }
    assert_eq!(environment.run(&["image", "show", "broken"]).code, 3);
    assert_eq!(std::fs::read_dir(environment.data().join("images")).unwrap().count(), before);
}

#[test]
fn podman_builds_where_buildah_is_not() {
    if !is_root("podman_builds_where_buildah_is_not") {
        return;
    }
    let (registry, _builder, environment) = with_a_base();
    Builder::start_daemon_without(&environment, &["buildah"]);
    let directory = tempfile::tempdir().unwrap();
    let text = format!("FROM {}/base:1\nRUN echo made by Podman > /etc/made\n", registry.host());
    std::fs::write(directory.path().join("Dockerfile"), text).unwrap();
    let source = format!("dockerfile:{}", directory.path().display());
    let pulled = environment.run(&["image", "pull", &source, "--name", "mine"]);
    assert_eq!(pulled.code, 0, "{}", pulled.stderr);
    assert!(pulled.stderr.contains("build it with podman"), "{}", pulled.stderr);
    let small = ["--memory", "256M", "--vcpus", "1", "--net", "none"];
    let run = [&["run", "--image", "mine", "--rm"], &small[..], &["--", "cat", "/etc/made"]].concat();
    let said = environment.run(&run);
    assert_eq!((said.code, said.text()), (0, "made by Podman\n".to_owned()), "{}", said.stderr);
}

/// Returns the repository's own directory of a path.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).canonicalize().unwrap()
}

/// Returns what the golden image's Dockerfile gives a program's argument as its default.
fn argument(dockerfile: &str, program: &str, name: &str) -> String {
    let start = format!("ARG {}_{name}=", program.to_uppercase());
    dockerfile.lines().find_map(|line| line.strip_prefix(&start)).unwrap().to_owned()
}

/// Returns a file that the golden image's Dockerfile downloads from npm, which it finds by its own arguments: downloaded once.
fn from_npm(dockerfile: &str, program: &str) -> (String, Vec<u8>) {
    let version = argument(dockerfile, program, "VERSION");
    let variable = format!("${{{}_VERSION}}", program.to_uppercase());
    let path = argument(dockerfile, program, "URL").replace("${NPM}/", "").replace(&variable, &version);
    let kept = seed::scratch().join(format!("npm-{program}-{version}.tgz"));
    if !kept.exists() {
        let partial = kept.with_extension("partial");
        let url = format!("https://registry.npmjs.org/{path}");
        let mut curl = Command::new("curl");
        let ended = curl.args(["-fsSL", "--retry", "3", "-o"]).arg(&partial).arg(url).status().unwrap();
        assert!(ended.success());
        std::fs::rename(partial, &kept).unwrap();
    }
    (path, std::fs::read(kept).unwrap())
}

/// Returns a Debian as small as a container's base image.
fn minimal_debian(environment: &Environment) -> Vec<u8> {
    let tar = seed::scratch().join("minimal-debian.tar");
    if !tar.exists() {
        let partial = tar.with_extension("partial.tar");
        let mut command = environment.command("mmdebstrap");
        command.args(["--quiet", "--variant=minbase", "bookworm"]).arg(&partial);
        let made = environment.outcome(&mut command);
        assert_eq!(made.code, 0, "{}", made.stderr);
        std::fs::rename(partial, &tar).unwrap();
    }
    std::fs::read(tar).unwrap()
}

#[test]
fn the_golden_image_is_built_and_docker_works_in_its_vm() {
    if !is_root("the_golden_image_is_built_and_docker_works_in_its_vm") {
        return;
    }
    let golden = repository("images/golden");
    let dockerfile = std::fs::read_to_string(golden.join("Dockerfile")).unwrap();
    let registry = Registry::start(RegistryOptions::default());
    let builder = Builder::new(&[&registry.host()]);
    let environment = builder.of(Environment::empty());
    push(&registry, "debian:bookworm", &minimal_debian(&environment));
    let files = ["mise", "opencode"].map(|program| from_npm(&dockerfile, program));
    let npm = FileServer::start(banger_testkit::Serving { files: files.into(), ..Default::default() });
    let source = format!(
        "dockerfile:{}?arg=BASE={}/debian:bookworm&arg=NPM={}",
        golden.display(),
        registry.host(),
        npm.url("").trim_end_matches('/')
    );
    environment.succeed(&["image", "pull", &source, "--name", "golden"]);
    let shown = environment.run(&["image", "show", "golden", "--json"]).json();
    assert_eq!(
        (&shown["config"]["user"], &shown["config"]["labels"]["banger.needs"]),
        (&json!("dev"), &json!("containers"))
    );

    let outside = Outside::new();
    // The normal user may use Docker, and has an image of it from its standard input.
    let script = "docker import - local >&2 && exec docker run --rm local /bin/busybox echo in a container";
    let create = ["vm", "run", "--name", "golden", "--image", "golden", "--memory", "1G", "--disk", "8G"];
    let busybox = std::fs::read(seed::directory().join("busybox.tar")).unwrap();
    let first = environment.run_with_input(&[&create[..], &["--", "sh", "-c", script]].concat(), &busybox);
    assert_eq!((first.code, first.text().as_str()), (0, "in a container\n"), "{}", first.stderr);
    let exec = |program: &[&str]| environment.succeed(&[&["exec", "golden", "--"], program].concat());
    let run = |program: &[&str]| exec(&[&["docker", "run", "--rm", "local"], program].concat());
    assert_eq!(exec(&["docker", "info", "--format", "{{.Driver}}"]), "overlay2\n");
    let mounted = run(&["/bin/busybox", "sh", "-c", "busybox grep ' / ' /proc/mounts"]);
    assert!(mounted.starts_with("overlay / overlay"), "{mounted}");
    // Out of the container through the VM and its host; and into one by a port of the VM's.
    run(&["/bin/probe", "ask", &outside.address]);
    drop(outside);
    // It ends with its standard input, which "-i" keeps open.
    let serve = ["docker", "run", "-di", "-p", "8080:80", "local", "/bin/probe", "serve", "0.0.0.0:80"];
    exec(&serve);
    let ask = ["docker", "run", "--rm", "--network", "host", "local", "/bin/probe", "ask", "127.0.0.1:8080"];
    exec(&ask);
    for program in ["mise", "opencode"] {
        let (said, pinned) = (exec(&[program, "--version"]), argument(&dockerfile, program, "VERSION"));
        assert!(said.contains(&pinned), "{program}: {said}");
    }
    assert!(exec(&["git", "--version"]).starts_with("git version 2."));
    assert!(exec(&["tmux", "-V"]).starts_with("tmux 3."));
    let shell = environment.succeed(&["ssh", "golden", "--", "echo $0; id -nG; sudo id -un; echo $PATH"]);
    assert!(shell.contains("docker") && shell.contains("root") && shell.contains("mise/shims"), "{shell}");
}
