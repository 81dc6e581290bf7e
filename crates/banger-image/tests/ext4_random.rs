//! Random sequences of entries, replacements included, against e2fsck and a model.
//!
//! A dozen cases in the daily run; `PROPTEST_CASES=10000` makes 500 of them.

mod support;

use std::collections::BTreeMap;

use banger_image::rootfs::{Special, TreePath};
use proptest::prelude::*;
use support::{Image, SeenKind, attribute, file, look, metadata, noise, path};

#[derive(Debug, Clone)]
enum Step {
    Directory(usize),
    File(usize),
    Link(usize),
    Hard(Vec<u8>),
    Fifo,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    // Few names, so that entries meet; and any bytes, so that nothing is special.
    let few =
        prop::sample::select(vec!["a", "b", "c", "lost+found"]).prop_map(|name| name.as_bytes().to_vec());
    let any = prop::collection::vec(any::<u8>(), 1..=255).prop_map(|mut name| {
        for byte in &mut name {
            if *byte == 0 || *byte == b'/' {
                *byte = b'x';
            }
        }
        if name == b"." || name == b".." { b"dots".to_vec() } else { name }
    });
    prop_oneof![4 => few, 1 => any]
}

fn tree_path() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(name(), 1..4).prop_map(|names| names.join(&b'/'))
}

fn step() -> impl Strategy<Value = (Vec<u8>, Step)> {
    let what = prop_oneof![
        (0usize..600).prop_map(Step::Directory),
        (0usize..200_000).prop_map(Step::File),
        (1usize..4096).prop_map(Step::Link),
        tree_path().prop_map(Step::Hard),
        Just(Step::Fifo),
    ];
    (tree_path(), what)
}

/// The tree as it should be, by path. Hard links are copies.
type Model = BTreeMap<Vec<u8>, SeenKind>;

fn put(model: &mut Model, path: &TreePath, kind: SeenKind) {
    let bytes = path.as_bytes().to_vec();
    let keeps_children = kind == SeenKind::Directory && model.get(&bytes) == Some(&SeenKind::Directory);
    if !keeps_children {
        let beneath = [&bytes[..], b"/"].concat();
        model.retain(|other, _| !other.starts_with(&beneath));
    }
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        model.entry(bytes[..at].to_vec()).or_insert(SeenKind::Directory);
    }
    model.insert(bytes, kind);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_are_sound_and_come_back(steps in prop::collection::vec(step(), 0..120)) {
        let mut model = Model::from([(Vec::new(), SeenKind::Directory)]);
        let image = Image::write(|w| {
            for (seed, (to, step)) in steps.iter().enumerate() {
                let at = path(to);
                let mut data = metadata(0o640);
                let (outcome, kind) = match step {
                    Step::Directory(size) => {
                        data.attributes = vec![attribute("user.x", &noise(*size, 1))];
                        (w.directory(&at, data), Some(SeenKind::Directory))
                    }
                    Step::File(size) => {
                        // Half of it zeros, so that there are holes.
                        let mut content = noise(*size, seed as u64);
                        content[size / 2..].fill(0);
                        (w.file(&at, data, *size as u64, &mut &content[..]), Some(file(&content)))
                    }
                    Step::Link(length) => {
                        let target = vec![b't'; *length];
                        (w.symbolic_link(&at, data, &target), Some(SeenKind::Link(target)))
                    }
                    Step::Hard(target) => {
                        let target = path(target);
                        (w.hard_link(&at, &target), model.get(target.as_bytes()).cloned())
                    }
                    Step::Fifo => (w.special(&at, data, Special::Fifo), Some(SeenKind::Fifo)),
                };
                // An entry with a non-directory above it is refused, and changes nothing.
                if outcome.is_ok() {
                    put(&mut model, &at, kind.unwrap());
                }
            }
        });
        image.check();
        if let Some(mounted) = image.mount("random_trees_are_sound_and_come_back") {
            let seen: Model = look(&mounted.at).into_iter().map(|(path, seen)| (path, seen.kind)).collect();
            let wanted: Model =
                model.into_iter().filter(|(path, _)| !path.starts_with(b"lost+found")).collect();
            let seen: Model = seen.into_iter().filter(|(path, _)| !path.starts_with(b"lost+found")).collect();
            prop_assert_eq!(seen, wanted);
        }
    }
}
