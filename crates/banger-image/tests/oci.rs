//! Images of layers: from layouts, archives and directories, as the real tools write them, and as nobody should.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use banger_core::work::Unwatched;
use banger_image::source::{BuildError, BuildOptions, BuiltRootfs, Content, build};
use banger_testkit::layers::{Layout, Packing, gzip};
use banger_testkit::layers::{add, archive, header};
use banger_types::source::ImageSource;
use serde_json::{Value, json};
use support::{StdCommands, noise};
use tar::EntryType;

/// Makes the image of a source, as the daemon does.
fn make(
    source: &str,
    directory: &Path,
    options: &BuildOptions,
) -> Result<(BuiltRootfs, Vec<u8>), BuildError> {
    let source: ImageSource = source.parse().unwrap();
    let content = Content::of(&source, options, &StdCommands, &Unwatched)?;
    let destination = tempfile::tempdir_in(directory).unwrap().path().join("image");
    let built = build(&content, options, &destination, &StdCommands, &Unwatched)?;
    let bytes = std::fs::read(destination.join("base.ext4")).unwrap();
    Ok((built, bytes))
}

fn options(directory: &Path) -> BuildOptions {
    BuildOptions::new(directory.to_owned())
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {errors}", arguments.join(" "));
}

/// An image of three layers, each packed otherwise.
fn three_layers() -> [Vec<u8>; 3] {
    [
        archive(|b| {
            add(b, EntryType::Directory, b"etc/", b"", b"");
            add(b, EntryType::Regular, b"etc/motd", b"", b"first");
            add(b, EntryType::Regular, b"etc/gone", b"", &noise(70_000, 1));
            add(b, EntryType::Regular, b"bin/tool", b"", &noise(300_000, 2));
        }),
        archive(|b| {
            add(b, EntryType::Regular, b"etc/motd", b"", b"second");
            add(b, EntryType::Regular, b"etc/.wh.gone", b"", b"");
        }),
        archive(|b| add(b, EntryType::Link, b"bin/same", b"bin/tool", b"")),
    ]
}

fn config() -> Value {
    json!({ "User": "me", "Env": ["A=b"], "Cmd": ["/bin/tool"], "ExposedPorts": { "80/tcp": {} }, "StopSignal": "SIGINT" })
}

fn layout_of_three(directory: &Path) -> Layout {
    let [first, second, third] = three_layers();
    let layers = [(&first[..], Packing::Gzip), (&second[..], Packing::Zstd), (&third[..], Packing::Plain)];
    Layout::of(&directory.join("layout"), &layers, &config())
}

#[test]
fn every_form_of_an_image_gives_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let layout = layout_of_three(directory.path());
    let options = options(directory.path());
    let from = |source: &str| make(source, directory.path(), &options).unwrap();
    let (built, bytes) = from(&format!("oci:{}", at("layout")));
    assert_eq!(built.config.user, "me");
    assert_eq!(built.config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(built.config.exposed_ports, ["80/tcp"]);

    let (layout_path, one) = (layout.path.to_str().unwrap(), format!("oci:{}:one", at("layout")));
    run("tar", &["-C", layout_path, "-cf", &at("archive.tar"), "."]);
    run("tar", &["-C", layout_path, "-czf", &at("archive.tgz"), "."]);
    // Docker has no zstd in its archives, and skopeo of this age does not pack it anew: by way of a plain copy.
    let [first, second, third] = three_layers();
    let plain = [(&first[..], Packing::Gzip), (&second[..], Packing::Gzip), (&third[..], Packing::Gzip)];
    Layout::of(&directory.path().join("plain"), &plain, &config());
    let plain = format!("oci:{}:one", at("plain"));
    for (to, from) in [
        (format!("dir:{}", at("dir")), &one),
        (format!("oci-archive:{}:some", at("skopeo.tar")), &one),
        (format!("docker-archive:{}:example.org/a:b", at("docker.tar")), &plain),
    ] {
        run("skopeo", &["copy", "--quiet", "--insecure-policy", from, &to]);
    }
    for source in [
        one.clone(),
        format!("oci-archive:{}", at("archive.tar")),
        format!("oci-archive:{}:one", at("archive.tgz")),
        format!("oci-archive:{}:some", at("skopeo.tar")),
        format!("dir:{}", at("dir")),
        format!("docker-archive:{}", at("docker.tar")),
        format!("docker-archive:{}:example.org/a:b", at("docker.tar")),
        format!("oci:{}", at("plain")),
    ] {
        let (other, same) = from(&source);
        assert!(same == bytes, "{source}");
        assert_eq!(other.config, built.config, "{source}");
    }
    let names = std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with(".partial")));
}

#[test]
fn what_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let mut layout = layout_of_three(directory.path());
    let path = layout.path.display().to_string();
    let refusal = |source: &str| {
        let error = make(source, directory.path(), &options(directory.path())).unwrap_err();
        let mut text = error.to_string();
        let mut source: Option<&dyn std::error::Error> = std::error::Error::source(&error);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    };
    assert_eq!(
        refusal(&format!("oci:{path}:two")),
        format!("there is no image 'two' in '{path}'; there is one")
    );
    let first = layout.image(&[(&three_layers()[0], Packing::Plain)], &config());
    layout.name(&first, Some("other"));
    assert_eq!(
        refusal(&format!("oci:{path}")),
        format!("there is more than one image in '{path}': one, other")
    );
    assert!(refusal("oci:/nonexistent").contains("there is no 'index.json' in '/nonexistent'"));
    assert!(refusal("dir:/nonexistent").contains("there is no 'manifest.json'"));
    assert!(refusal("oci-archive:/nonexistent").contains("there is no 'nonexistent' in '/'"));
    assert!(refusal("docker-archive:/etc/passwd").contains("not a tar archive"));
    assert!(refusal("oci:relative").contains("is relative"));

    // A missing layer, one that was changed, and one that is another's.
    let manifest: Value = serde_json::from_slice(&std::fs::read(layout.file(&first)).unwrap()).unwrap();
    let layer = layout.file(&manifest["layers"][0]);
    let content = std::fs::read(&layer).unwrap();
    std::fs::remove_file(&layer).unwrap();
    assert!(
        refusal(&format!("oci:{path}:other"))
            .starts_with("cannot use layer 1 of 1: there is no 'blobs/sha256/")
    );
    rustix::fs::mkfifoat(rustix::fs::CWD, &layer, rustix::fs::Mode::RUSR).unwrap();
    assert!(refusal(&format!("oci:{path}:other")).contains("it is no regular file"));
    std::fs::remove_file(&layer).unwrap();
    let mut changed = content.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&layer, &changed).unwrap();
    assert!(refusal(&format!("oci:{path}:other")).contains("its digest is sha256:"));
    std::fs::write(&layer, [0; 100]).unwrap();
    assert!(refusal(&format!("oci:{path}:other")).contains("not a tar archive"));
}

#[test]
fn hostile_documents_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = BuildOptions { largest: 20 << 20, ..options(directory.path()) };
    let mut number = 0;
    let mut refusal = |fill: &dyn Fn(&mut Layout) -> Value| {
        number += 1;
        let mut layout = Layout::new(directory.path().join(number.to_string()));
        let top = fill(&mut layout);
        layout.name(&top, None);
        let made = make(&format!("oci:{}", layout.path.display()), directory.path(), &options);
        let error = made.map(|(built, _)| built).unwrap_err();
        let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {why}")
    };
    let tar = archive(|b| add(b, EntryType::Regular, b"a", b"", b"a"));
    let index_type = "application/vnd.oci.image.index.v1+json";
    let index = |of: &Value| json!({ "schemaVersion": 2, "manifests": [of] }).to_string();

    // Indexes in indexes. One that names itself is one that no digest lets be.
    let deep = refusal(&|layout| {
        let image = layout.image(&[(&tar, Packing::Plain)], &json!({}));
        (0..5).fold(image, |of, _| layout.add(index_type, index(&of).as_bytes()))
    });
    assert!(deep.contains("more than 4 deep"), "{deep}");
    let itself = refusal(&|layout| {
        let placeholder = layout.add(index_type, b"{}");
        std::fs::write(layout.file(&placeholder), index(&placeholder)).unwrap();
        placeholder
    });
    assert!(itself.contains("its digest is"), "{itself}");

    let huge = refusal(&|layout| {
        let mut descriptor = layout.add("application/vnd.oci.image.manifest.v1+json", b"{}");
        descriptor["size"] = (100 << 20).into();
        descriptor
    });
    assert!(huge.contains("the manifest has more than 4194304 bytes"), "{huge}");
    // One that lies about its size is not read any further.
    let lying = refusal(&|layout| {
        let mut content = json!({ "schemaVersion": 2 }).to_string().into_bytes();
        content.resize(6 << 20, b' ');
        let mut descriptor = layout.add("application/vnd.oci.image.manifest.v1+json", &content);
        descriptor["size"] = 2.into();
        descriptor
    });
    assert!(lying.contains("the manifest has more than 4194304 bytes"), "{lying}");

    let with_layers = |layout: &Layout, diff_id: &str, layer: Value| {
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        });
        let config = layout.add("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        layout.manifest(&json!({ "schemaVersion": 2, "config": config, "layers": [layer] }))
    };
    let wrong = refusal(&|layout| {
        let layer = layout.layer(&tar, Packing::Gzip);
        with_layers(layout, &format!("sha256:{}", "0".repeat(64)), layer)
    });
    assert!(wrong.contains("it unpacks to what has the digest"), "{wrong}");

    // 10 GiB of zeros in 10 MiB.
    let bomb = refusal(&|layout| {
        let mut header = header(EntryType::Regular, 10 << 30);
        header.as_old_mut().name[0] = b'z';
        header.set_cksum();
        let mut zeros = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        zeros.write_all(&vec![0; 16 << 20]).unwrap();
        let zeros = zeros.finish().unwrap();
        let mut packed = gzip(header.as_bytes());
        (0..640).for_each(|_| packed.extend_from_slice(&zeros));
        let layer = layout.add("application/vnd.oci.image.layer.v1.tar+gzip", &packed);
        assert!(packed.len() < 11 << 20, "{}", packed.len());
        with_layers(layout, &format!("sha256:{}", "0".repeat(64)), layer)
    });
    assert!(bomb.contains("unpacks to more than 20971520 bytes"), "{bomb}");
    let artifact = refusal(&|layout| {
        let config = layout.add("application/vnd.oci.empty.v1+json", b"{}");
        layout.manifest(&json!({ "schemaVersion": 2, "config": config, "layers": [] }))
    });
    assert!(artifact.contains("this is no image"), "{artifact}");
}
