//! Images from a real registry on loopback, by the daemon and its command line.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use banger_testkit::layers::{Layout, Packing, add, archive, gzip};
use banger_testkit::{Builder, Environment, Outcome, Passing, Proxy, Registry, RegistryOptions};
use serde_json::{Value, json};
use tar::EntryType;

use crate::support::names;

/// A layer with one file that does not compress.
fn layer(name: &str, seed: u32, length: usize) -> Vec<u8> {
    let mixed =
        std::iter::successors(Some(seed | 1), |word| Some(word.wrapping_mul(1_664_525).wrapping_add(1)));
    let content: Vec<u8> = mixed.take(length).map(|word| word.to_be_bytes()[0]).collect();
    archive(|b| add(b, EntryType::Regular, name.as_bytes(), b"", &content))
}

/// Puts an image of these layers into a registry.
fn push(registry: &Registry, name: &str, layers: &[Vec<u8>], config: &Value) {
    let directory = tempfile::tempdir().unwrap();
    let layers: Vec<_> = layers.iter().map(|layer| (&layer[..], Packing::Gzip)).collect();
    let layout = Layout::of(&directory.path().join("layout"), &layers, config);
    registry.push(&layout.path, "one", name);
}

fn pull(environment: &Environment, source: &str, name: &str) -> Outcome {
    environment.run(&["image", "pull", source, "--name", name])
}

#[track_caller]
fn succeeds(outcome: &Outcome) {
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

#[track_caller]
fn refused(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, code, "{}", outcome.stderr);
    for words in words {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
}

fn images(environment: &Environment) -> Vec<String> {
    let listed = environment.succeed(&["image", "ls", "-q"]);
    let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn shown(environment: &Environment, name: &str) -> Value {
    environment.run(&["image", "show", name, "--json"]).json()
}

/// Returns the lengths of an image's layers unpacked, and the commands that made them. Of each it is known what was transferred.
fn layers_shown(image: &Value) -> Vec<(usize, String)> {
    let shown = |layer: &Value| {
        assert!(layer["digest"].is_string() && layer["stored_size"].as_u64() > Some(0), "{layer}");
        let size = layer["size"].as_u64().unwrap().try_into().unwrap();
        (size, layer["created_by"].as_str().unwrap().to_owned())
    };
    image["layers"].as_array().unwrap().iter().map(shown).collect()
}

fn assert_nothing_left(environment: &Environment) {
    assert_eq!(names(&environment.data().join("images")), [""; 0]);
    assert_eq!(images(environment), [""; 0]);
}

#[test]
fn an_image_is_pulled_once_and_a_new_one_of_its_name_is_a_new_version() {
    let registry = Registry::start(RegistryOptions::default());
    let layers = [layer("a", 1, 200_000), layer("b", 2, 300_000)];
    let config = json!({ "User": "me", "Cmd": ["serve"], "Labels": { "a": "b" }, "StopSignal": "SIGINT" });
    push(&registry, "team/tool:v1", &layers, &config);
    let proxy = Proxy::before(&registry, Passing::default());
    let environment = Environment::empty();
    let source = format!("docker://{}/team/tool:v1", proxy.host());
    let pulled = environment.run(&["image", "pull", &source]);
    succeeds(&pulled);
    assert_eq!(pulled.text(), format!("{source}\n"));
    assert_eq!(proxy.blob_requests(), 3, "a configuration and two layers");
    let first = shown(&environment, &source);
    assert_eq!((&first["config"]["user"], &first["config"]["stop_signal"]), (&json!("me"), &json!("SIGINT")));
    assert_eq!(first["source"], source);
    assert_eq!(
        layers_shown(&first),
        [layers[0].len(), layers[1].len()].map(|size| (size, "a test".to_owned()))
    );

    // Nothing new, nothing transferred.
    succeeds(&environment.run(&["image", "pull", &source]));
    let requests = proxy.requests();
    assert!(requests.iter().filter(|it| it.contains("/manifests/")).count() == 1, "{requests:?}");
    assert!(requests.iter().all(|it| !it.contains("/layers/")), "{requests:?}");
    assert_eq!(shown(&environment, &source)["id"], first["id"]);

    // Another name for the same: its layers are here.
    succeeds(&pull(&environment, &source, "mine"));
    assert_eq!(proxy.blob_requests(), 1, "the configuration alone");
    let mine = shown(&environment, "mine");
    assert_eq!(mine["digest"], first["digest"]);
    assert_eq!(mine["layers"], first["layers"], "those of the registry, although they were read from here");

    // A new version takes the name; the layer that both have is not asked for again.
    push(&registry, "team/tool:v1", &[layers[0].clone(), layer("b", 5, 300_000)], &config);
    succeeds(&environment.run(&["image", "pull", &source]));
    assert_eq!(proxy.blob_requests(), 2, "a configuration and one layer");
    let second = shown(&environment, &source);
    assert_ne!(second["digest"], first["digest"]);
    let before = format!("{source}@{}", first["id"].as_str().unwrap());
    assert_eq!(shown(&environment, &before)["id"], first["id"]);
    assert_eq!(images(&environment), [&source, &before, "mine"].map(str::to_owned));
    // By its digest, which no tag changes.
    let (digest, host) = (first["digest"].as_str().unwrap(), proxy.host());
    succeeds(&pull(&environment, &format!("docker://{host}/team/tool@{digest}"), "by-digest"));
    assert_eq!(shown(&environment, "by-digest")["digest"], digest);
}

#[test]
fn a_layer_that_is_cut_twice_goes_on_where_it_was_cut() {
    let registry = Registry::start(RegistryOptions::default());
    push(&registry, "big", &[layer("a", 1, 3 << 20)], &json!({}));
    // The first is the configuration.
    let passing = Passing { cuts: vec![1 << 30, 1 << 20, 1 << 20], ..Passing::default() };
    let proxy = Proxy::before(&registry, passing);
    let environment = Environment::empty();
    succeeds(&pull(&environment, &format!("docker://{}/big", proxy.host()), "big"));
    assert_eq!(proxy.blob_requests(), 4);
    let cache = environment.data().join("layers/sha256");
    assert_eq!(names(&cache).len(), 1, "{:?}", names(&cache));
}

#[test]
fn images_that_are_pulled_at_once_share_their_layers() {
    let registry = Registry::start(RegistryOptions::default());
    let layers: Vec<_> = (0..6).map(|n| layer(&n.to_string(), n, 500_000)).collect();
    for n in 0..5 {
        push(&registry, &format!("image{n}"), &layers[..=n + 1], &json!({}));
    }
    let proxy = Proxy::before(&registry, Passing::default());
    let environment = Environment::empty();
    environment.succeed(&["image", "ls"]);
    std::thread::scope(|scope| {
        for n in 0..5 {
            let (environment, host) = (&environment, proxy.host());
            scope.spawn(move || {
                succeeds(&pull(environment, &format!("docker://{host}/image{n}"), &format!("image{n}")));
            });
        }
    });
    assert_eq!(proxy.blob_requests(), 5 + 6, "five configurations, and each layer once");
    assert_eq!(images(&environment).len(), 5);
}

#[test]
fn what_is_not_what_the_manifest_says_is_refused_and_leaves_nothing() {
    let registry = Registry::start(RegistryOptions::default());
    push(
        &registry,
        "tool",
        &[layer("a", 1, 100_000)],
        &json!({ "Cmd": [layer("x", 7, 10_000).len().to_string()] }),
    );
    let proxy = Proxy::before(&registry, Passing { spoils: true, ..Passing::default() });
    let environment = Environment::empty();
    let source = format!("docker://{}/tool", proxy.host());
    refused(&pull(&environment, &source, "tool"), 1, &["is not what it should be: its digest is"]);
    assert_nothing_left(&environment);
    assert_eq!(names(&environment.data().join("layers/sha256")), [""; 0]);

    let host = registry.host();
    refused(
        &pull(&environment, &format!("docker://{host}/tool:v9"), "x"),
        1,
        &[&format!("{host} has no 'tool:v9'")],
    );
    refused(
        &pull(&environment, &format!("docker://{host}/none"), "x"),
        1,
        &["has no 'none:latest'", "docker login"],
    );
    refused(&pull(&environment, "docker://127.0.0.1:1/none", "x"), 1, &["127.0.0.1:1", "onnect"]);
    refused(&pull(&environment, "docker://A", "x"), 2, &["is not the name of an image"]);
    assert_nothing_left(&environment);
}

/// A fake, for no Docker daemon runs here: it answers as the Docker Engine API has it for one image.
fn serve_docker(socket: &Path, archive: Vec<u8>) {
    let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|got| got == 1) {
                head.push(byte[0]);
            }
            let known = head.starts_with(b"GET /images/docker%2Eio%2Flibrary%2Ftool%3Alatest/get ");
            let (status, body) = if known {
                ("200 OK", &archive[..])
            } else {
                ("404 Not Found", &br#"{"message":"No such image"}"#[..])
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            client.write_all(&[head.as_bytes(), body].concat()).ok();
        }
    });
}

#[test]
fn an_image_is_taken_from_docker() {
    let directory = tempfile::tempdir().unwrap();
    let layout =
        Layout::of(&directory.path().join("layout"), &[(&layer("a", 1, 5000), Packing::Gzip)], &json!({}));
    let archive = directory.path().join("docker.tar");
    let from = format!("oci:{}:one", layout.path.display());
    let copy =
        ["copy", "--quiet", "--insecure-policy", &from, &format!("docker-archive:{}", archive.display())];
    assert!(std::process::Command::new("skopeo").args(copy).status().unwrap().success());
    let socket = directory.path().join("docker.sock");
    serve_docker(&socket, std::fs::read(&archive).unwrap());
    let host = format!("unix://{}", socket.display());
    let environment = Environment::empty().with_variable("DOCKER_HOST", &host);
    succeeds(&pull(&environment, "docker-daemon:tool", "tool"));
    assert_eq!(names(&environment.data().join("images")).len(), 1);
    refused(
        &pull(&environment, "docker-daemon:other", "x"),
        1,
        &["Docker has no image 'docker.io/library/other:latest'"],
    );
    std::fs::remove_file(socket).unwrap();
    refused(
        &pull(&environment, "docker-daemon:tool", "x"),
        1,
        &["no Docker daemon listens at", "docker info"],
    );
    assert_eq!(images(&environment), ["tool"]);
}

#[test]
fn an_image_comes_from_standard_input() {
    let environment = Environment::empty();
    let tar = layer("a", 1, 2_000_000);
    let pull = |arguments: &[&str], input: &[u8]| {
        environment.run_with_input(&[&["image", "pull", "tar:-"], arguments].concat(), input)
    };
    succeeds(&pull(&["--name", "piped"], &gzip(&tar)));
    assert_eq!(shown(&environment, "piped")["source"], "tar:-");
    refused(&pull(&["--name", "cut"], &tar[..1_000_000]), 1, &["the archive is truncated"]);
    refused(&pull(&[], &tar), 2, &["--name"]);
    refused(&pull(&["--name", "x", "--no-wait"], &tar), 2, &["--no-wait"]);
    assert_eq!(images(&environment), ["piped"]);
}

#[test]
fn a_dockerfile_is_built_and_its_image_taken_from_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    std::fs::create_dir(at("context")).unwrap();
    std::fs::write(at("context/motd"), "hello").unwrap();
    let dockerfile = "FROM scratch AS base\nCOPY motd /etc/motd\nFROM base AS other\nFROM base AS wanted\nARG WHO\nENV WHO=$WHO\nUSER 7\n";
    std::fs::write(at("context/Containerfile.test"), dockerfile).unwrap();
    let builder = Builder::new(&[]);
    let environment = builder.of(Environment::empty());
    let source =
        format!("dockerfile:{}?file=Containerfile.test&target=wanted&arg=WHO=me%26you", at("context"));
    let built = pull(&environment, &source, "built");
    succeeds(&built);
    assert!(built.stderr.contains("image: build it with buildah"), "{}", built.stderr);
    let config = shown(&environment, "built")["config"].clone();
    assert_eq!(config["user"], "7");
    assert!(config["environment"].as_array().unwrap().contains(&json!("WHO=me&you")), "{config}");
    let run = |arguments: &[&str]| {
        let outcome = environment.outcome(environment.command("buildah").args(arguments));
        succeeds(&outcome);
        outcome.text()
    };
    let listed = run(&["images", "--format", "{{.Name}}"]);
    assert!(
        !listed.contains("banger-dockerfile"),
        "what it was called while it was built is forgotten: {listed}"
    );
    refused(&pull(&environment, &format!("dockerfile:{}", at("nowhere")), "x"), 1, &["is no directory"]);
    std::fs::write(at("context/Dockerfile"), "FROM scratch\nCOPY nothing /\n").unwrap();
    refused(
        &pull(&environment, &format!("dockerfile:{}", at("context")), "x"),
        1,
        &["buildah did not build the Dockerfile"],
    );

    run(&[
        "build",
        "--quiet",
        "--tag=localhost/mine:1",
        "--file",
        &at("context/Containerfile.test"),
        &at("context"),
    ]);
    succeeds(&pull(&environment, "containers-storage:localhost/mine:1", "mine"));
    refused(
        &pull(&environment, "containers-storage:localhost/none", "x"),
        1,
        &["skopeo did not read the store"],
    );
    assert_eq!(images(&environment), ["built", "mine"]);
    assert_eq!(names(&environment.data().join("images")).len(), 2);
}

/// Writes a file of the user's.
fn write(environment: &Environment, name: &str, content: &str) {
    let path = environment.data().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn a_private_registry_lets_in_whom_it_knows() {
    let registry = Registry::start(RegistryOptions { authentication: true, ..RegistryOptions::default() });
    push(&registry, "private", &[layer("a", 1, 10_000)], &json!({}));
    let host = registry.host();
    let helpers = tempfile::tempdir().unwrap();
    let helper = helpers.path().join("docker-credential-test");
    let asked = helpers.path().join("asked");
    let script = format!(
        "#!/bin/sh\ntest \"$1\" = get && cat > {} && echo '{{\"Username\":\"somebody\",\"Secret\":\"secret\"}}'\n",
        asked.display()
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::join_paths(
        [helpers.path().to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let environment = Environment::empty().with_variable("PATH", path.unwrap().to_str().unwrap());
    let source = format!("docker://{host}/private");
    let docker = ".docker/config.json";
    refused(&pull(&environment, &source, "p"), 1, &["does not let anybody pull 'private'", "docker login"]);
    // "somebody:wrong" in base64.
    write(
        &environment,
        docker,
        &json!({ "auths": { &host: { "auth": "c29tZWJvZHk6d3Jvbmc=" } } }).to_string(),
    );
    refused(&pull(&environment, &source, "p"), 1, &["does not let you pull 'private'"]);
    write(&environment, docker, "{");
    refused(&pull(&environment, &source, "p"), 1, &["cannot understand", docker]);
    assert_nothing_left(&environment);
    // "somebody:secret".
    write(
        &environment,
        docker,
        &json!({ "auths": { &host: { "auth": "c29tZWJvZHk6c2VjcmV0" } } }).to_string(),
    );
    succeeds(&pull(&environment, &source, "by-file"));
    write(&environment, docker, &json!({ "credHelpers": { &host: "test" } }).to_string());
    succeeds(&pull(&environment, &source, "by-helper"));
    assert_eq!(std::fs::read_to_string(asked).unwrap(), host);
    let log = std::fs::read_to_string(environment.data().join("bangerd.log")).unwrap();
    assert!(!log.contains("secret"), "{log}");
}

fn configure(environment: &Environment, text: &str) {
    write(environment, ".config/banger/config.toml", text);
    environment.run(&["daemon", "stop"]);
}

#[test]
fn a_registry_with_a_certificate_of_its_own_authority_is_trusted_when_told_so() {
    let registry = Registry::start(RegistryOptions { tls: true, ..RegistryOptions::default() });
    push(&registry, "tool", &[layer("a", 1, 10_000)], &json!({}));
    let (host, environment) = (registry.host(), Environment::empty());
    let source = format!("docker://{host}/tool");
    refused(&pull(&environment, &source, "tool"), 1, &["certificate"]);
    assert_nothing_left(&environment);
    let settings = |file: &Path| format!("[registry.\"{host}\"]\nca_file = \"{}\"\n", file.display());
    configure(&environment, &settings(Path::new("/nonexistent.pem")));
    refused(&pull(&environment, &source, "tool"), 1, &["cannot read the certificates", "ca_file"]);
    configure(&environment, &settings(&registry.authority()));
    succeeds(&pull(&environment, &source, "tool"));
}

#[test]
fn a_mirror_is_asked_first_and_does_without_the_registry() {
    let registry = Registry::start(RegistryOptions::default());
    push(&registry, "team/tool", &[layer("a", 1, 10_000)], &json!({}));
    let environment = Environment::empty();
    // Nobody has a host of this name (RFC 6761, section 6.4).
    configure(
        &environment,
        &format!("[registry.\"registry.invalid\"]\nmirrors = [\"{}\"]\n", registry.host()),
    );
    succeeds(&pull(&environment, "docker://registry.invalid/team/tool", "tool"));
    let absent = pull(&environment, "docker://registry.invalid/team/other", "other");
    refused(&absent, 1, &["registry.invalid"]);
}
