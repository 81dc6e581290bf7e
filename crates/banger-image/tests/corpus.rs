//! What layers can hold and change, one image for each kind of it, against what umoci makes of the same image.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use banger_core::work::Unwatched;
use banger_image::source::{BuildOptions, Content, build};
use banger_testkit::layers::{Layout, Packing, corpus};
use banger_types::source::ImageSource;
use serde_json::json;
use support::{Image, Seen, SeenKind, StdCommands, look};

/// What umoci makes of an image.
fn reference(layout: &Path, name: &str, directory: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let bundle = directory.join(format!("umoci-{name}"));
    let image = format!("{}:{name}", layout.display());
    let output = Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    look(&bundle.join("rootfs"))
}

fn without_what_differs(mut tree: BTreeMap<Vec<u8>, Seen>) -> BTreeMap<Vec<u8>, Seen> {
    // Nobody says what the root is; and file systems count the links of directories as they like.
    tree.remove(&b""[..]);
    tree.values_mut().filter(|entry| entry.kind == SeenKind::Directory).for_each(|entry| entry.links = 0);
    tree
}

#[test]
fn every_kind_of_layer_gives_the_tree_that_umoci_makes() {
    if !rustix::process::geteuid().is_root() {
        banger_testkit::not_run(
            "every_kind_of_layer_gives_the_tree_that_umoci_makes",
            "only root unpacks devices",
        );
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut layout = Layout::new(directory.path().join("layout"));
    let mut images = corpus::images();
    images.push(("all", corpus::merged()));
    for (name, layers) in &images {
        let layers: Vec<_> = layers.iter().map(|layer| (&layer[..], Packing::Gzip)).collect();
        let image = layout.image(&layers, &json!({}));
        layout.name(&image, Some(name));
    }
    for (name, _) in &images {
        let options = BuildOptions::new(directory.path().to_owned());
        let source: ImageSource = format!("oci:{}:{name}", layout.path.display()).parse().unwrap();
        let content = Content::of(&source, &options, &StdCommands, &Unwatched).unwrap();
        let destination = directory.path().join(name);
        build(&content, &options, &destination, &StdCommands, &Unwatched)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let image = Image { path: destination.join("base.ext4"), directory: tempfile::tempdir().unwrap() };
        image.check();
        let expected = without_what_differs(reference(&layout.path, name, directory.path()));
        let Some(mounted) = image.mount("every_kind_of_layer_gives_the_tree_that_umoci_makes") else {
            return;
        };
        let actual = without_what_differs(look(&mounted.at));
        for (path, entry) in &expected {
            assert_eq!(actual.get(path), Some(entry), "{name}: {}", path.escape_ascii());
        }
        let surplus: Vec<_> = actual.keys().filter(|path| !expected.contains_key(*path)).collect();
        assert!(surplus.is_empty(), "{name}: {surplus:?}");
        assert!(!expected.is_empty());
    }
}
