//! Random sequences of entries, replacements included, against e2fsck and a model.
//!
//! A dozen cases in the daily run; `PROPTEST_CASES=10000` makes 500 of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;

use banger_image::rootfs::{Special, TreePath};
use proptest::prelude::*;
use support::{Image, SeenKind, attribute, file, look, metadata, noise, path};

#[derive(Debug, Clone)]
enum Step {
    Directory(usize),
    File(usize),
    Link(Vec<u8>),
    Hard(Vec<u8>),
    Fifo,
    Whiteout,
    Opaque,
    NextLayer,
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
        target().prop_map(Step::Link),
        tree_path().prop_map(Step::Hard),
        Just(Step::Fifo),
        Just(Step::Whiteout),
        Just(Step::Opaque),
        Just(Step::NextLayer),
    ];
    (tree_path(), what)
}

/// A link's target: one that leads somewhere, up, to itself, or nowhere, or a long one.
fn target() -> impl Strategy<Value = Vec<u8>> {
    let way = prop::sample::select(vec!["a", "b", "c", "..", "."]);
    let way = (any::<bool>(), prop::collection::vec(way, 1..5));
    let way = way.prop_map(|(absolute, names)| {
        let start = if absolute { "/" } else { "" };
        format!("{start}{}", names.join("/")).into_bytes()
    });
    prop_oneof![3 => way, 1 => (1usize..4096).prop_map(|length| vec![b't'; length])]
}

/// The tree as it should be, by path, with the last layer that has each entry or something beneath it. Hard links are
/// copies.
struct Model {
    entries: BTreeMap<Vec<u8>, (SeenKind, u32)>,
    layer: u32,
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

impl Model {
    fn new() -> Self {
        Self { entries: BTreeMap::from([(Vec::new(), (SeenKind::Directory, 0))]), layer: 0 }
    }

    /// The place that a path means, symbolic links on the way followed; the directories on it are made, if they may be.
    fn place(&mut self, path: &TreePath, make: bool) -> Option<Vec<u8>> {
        let (parent, last) = path.split_last().unwrap();
        let split = |bytes: &[u8]| -> Vec<Vec<u8>> {
            let names = bytes.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
            names.map(<[u8]>::to_vec).collect()
        };
        let (mut ahead, mut at, mut followed) = (split(parent), Vec::new(), 0);
        while !ahead.is_empty() {
            let name = ahead.remove(0);
            if name == b".." {
                let end = at.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                at.truncate(end);
                continue;
            }
            if name.len() > 255 {
                return None;
            }
            let next = join(&at, &name);
            match self.entries.get(&next).map(|(kind, _)| kind.clone()) {
                Some(SeenKind::Directory) => at = next,
                Some(SeenKind::Link(target)) => {
                    followed += 1;
                    if followed > 40 {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    // What was gone through has something beneath it all the same.
                    ahead.splice(0..0, split(&target));
                    if make {
                        self.entries.get_mut(&next).unwrap().1 = self.layer;
                    }
                    continue;
                }
                None if make => {
                    self.entries.insert(next.clone(), (SeenKind::Directory, self.layer));
                    at = next;
                }
                Some(_) | None => return None,
            }
            if make {
                self.entries.get_mut(&at).unwrap().1 = self.layer;
            }
        }
        Some(join(&at, last))
    }

    fn kind(&mut self, path: &TreePath) -> Option<SeenKind> {
        let at = self.place(path, false)?;
        self.entries.get(&at).map(|(kind, _)| kind.clone())
    }

    fn put(&mut self, path: &TreePath, kind: SeenKind) {
        let at = self.place(path, true).unwrap();
        let there = self.entries.get(&at).map(|(kind, _)| kind.clone());
        if (Some(&kind), &kind) != (there.as_ref(), &SeenKind::Directory) {
            self.entries.retain(|other, _| !other.starts_with(&join(&at, b"")));
        }
        self.entries.insert(at, (kind, self.layer));
    }

    /// Takes away what earlier layers have beneath a place, or there, too.
    fn take_away(&mut self, at: &[u8], itself: bool) {
        let (layer, beneath) = (self.layer, join(at, b""));
        self.entries.retain(|other, (_, of)| {
            let meant = other.starts_with(&beneath) && !other.is_empty() || itself && other == at;
            !meant || *of == layer
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_are_sound_and_come_back(steps in prop::collection::vec(step(), 0..120)) {
        let mut model = Model::new();
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
                    Step::Link(target) => {
                        (w.symbolic_link(&at, data, target), Some(SeenKind::Link(target.clone())))
                    }
                    Step::Hard(target) => {
                        let target = path(target);
                        let kind = model.kind(&target).filter(|kind| *kind != SeenKind::Directory);
                        (w.hard_link(&at, &target).map(drop), kind)
                    }
                    Step::Fifo => (w.special(&at, data, Special::Fifo), Some(SeenKind::Fifo)),
                    Step::Whiteout => {
                        let outcome = w.whiteout(&at);
                        if let Some(at) = model.place(&at, false) {
                            model.take_away(&at, true);
                        }
                        (outcome, None)
                    }
                    Step::Opaque => {
                        let outcome = w.opaque(&at);
                        let at = model.place(&at, true);
                        if let (Some(at), true) = (at, outcome.is_ok()) {
                            model.put(&path(&at), SeenKind::Directory);
                            model.take_away(&at, false);
                        }
                        (outcome, None)
                    }
                    Step::NextLayer => {
                        model.layer += 1;
                        (w.next_layer(), None)
                    }
                };
                match (outcome, kind) {
                    (Ok(()), Some(kind)) => model.put(&at, kind),
                    // An entry with a non-directory above it is refused. What was made on the way stays.
                    (Err(_), Some(_)) => drop(model.place(&at, true)),
                    (_, None) => {}
                }
            }
        });
        image.check();
        if let Some(mounted) = image.mount("random_trees_are_sound_and_come_back") {
            let wanted = model.entries.into_iter().map(|(path, (kind, _))| (path, kind));
            let wanted: BTreeMap<_, _> = wanted.filter(|(path, _)| !path.starts_with(b"lost+found")).collect();
            let seen = look(&mounted.at).into_iter().map(|(path, seen)| (path, seen.kind));
            let seen: BTreeMap<_, _> = seen.filter(|(path, _)| !path.starts_with(b"lost+found")).collect();
            prop_assert_eq!(seen, wanted);
        }
    }
}
