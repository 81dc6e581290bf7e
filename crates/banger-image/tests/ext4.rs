//! The ext4 writer against the real e2fsck and the real kernel.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use banger_image::rootfs::ext4::Ext4Writer;
use banger_image::rootfs::{HardLink, Metadata, RootfsWriter, Special, Timestamp, TreePath, WriteError};
use support::{Image, Seen, SeenKind, attribute, file, look, metadata, noise, path};

/// `vfs_cap_data` of version 2 (linux/capability.h) with `CAP_NET_RAW` permitted and effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn seen(kind: SeenKind, metadata: &Metadata, links: u64) -> Seen {
    Seen {
        kind,
        mode: metadata.mode.into(),
        owner: (metadata.uid, metadata.gid),
        modified: (metadata.modified.seconds, metadata.modified.nanoseconds.into()),
        attributes: metadata.attributes.iter().map(|a| (a.name.clone(), a.value.clone())).collect(),
        links,
    }
}

#[test]
fn every_kind_of_entry_comes_back_as_it_was() {
    let implicit = Metadata { mode: 0o755, ..Metadata::default() };
    let mut expected: BTreeMap<Vec<u8>, Seen> = BTreeMap::new();
    let mut expect = |path: &[u8], kind, metadata: &Metadata, links| {
        expected.insert(path.to_vec(), seen(kind, metadata, links));
    };
    let access_list: Vec<u8> = [
        &2u32.to_le_bytes()[..], // version
        &[1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff],
        &[2, 0, 5, 0, 0x11, 0x22, 0, 0],
        &[4, 0, 4, 0, 0xff, 0xff, 0xff, 0xff],
        &[16, 0, 5, 0, 0xff, 0xff, 0xff, 0xff],
        &[32, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    ]
    .concat();
    let image = Image::write(|w| {
        let root = Metadata { mode: 0o711, uid: 5, ..metadata(0) };
        w.directory(&TreePath::default(), root.clone()).unwrap();
        expect(b"", SeenKind::Directory, &root, 8);

        let setuid = metadata(0o4755);
        w.file(&path(b"usr/bin/su\xff\xfe\n x"), setuid.clone(), 3, &mut &b"abc"[..]).unwrap();
        expect(b"usr/bin/su\xff\xfe\n x", file(b"abc"), &setuid, 1);
        expect(b"usr", SeenKind::Directory, &implicit, 3);
        expect(b"usr/bin", SeenKind::Directory, &implicit, 2);

        let sticky = metadata(0o1777);
        w.directory(&path("tmp"), sticky.clone()).unwrap();
        expect(b"tmp", SeenKind::Directory, &sticky, 2);
        w.directory(&path("a/deep/er"), metadata(0o2750)).unwrap();
        expect(b"a", SeenKind::Directory, &implicit, 3);
        expect(b"a/deep", SeenKind::Directory, &implicit, 3);
        expect(b"a/deep/er", SeenKind::Directory, &metadata(0o2750), 2);

        let mut capable = metadata(0o755);
        capable.attributes = vec![attribute("security.capability", &CAPABILITY)];
        w.file(&path("ping"), capable.clone(), 5000, &mut &noise(5000, 1)[..]).unwrap();
        expect(b"ping", file(&noise(5000, 1)), &capable, 1);

        let mut many = metadata(0o640);
        many.attributes = vec![
            attribute("user.large", &noise(3000, 2)),
            attribute("user.empty", b""),
            attribute("user.b\u{e4}", b"12345"),
            attribute("trusted.x", b"y"),
            attribute("system.posix_acl_access", &access_list),
        ];
        w.file(&path("attributes"), many.clone(), 0, &mut std::io::empty()).unwrap();
        // The group bits of the mode show the list's mask.
        expect(b"attributes", file(b""), &many, 1);
        let mut both = metadata(0o700);
        both.attributes = vec![attribute("user.x", b"in the inode"), attribute("user.y", &[7; 200])];
        w.directory(&path("dir"), both.clone()).unwrap();
        expect(b"dir", SeenKind::Directory, &both, 2);

        let link = Metadata { mode: 0o777, ..metadata(0) };
        for (name, length) in [("short", 59), ("long", 60), ("longest", 4095)] {
            let target = vec![b'\xf0'; length];
            w.symbolic_link(&path(name), link.clone(), &target).unwrap();
            expect(name.as_bytes(), SeenKind::Link(target), &link, 1);
        }
        w.file(&path("one"), metadata(0o600), 2, &mut &b"hl"[..]).unwrap();
        w.hard_link(&path("tmp/two"), &path("one")).unwrap();
        w.hard_link(&path("new/three"), &path("tmp/two")).unwrap();
        w.hard_link(&path("one"), &path("one")).unwrap();
        expect(b"new", SeenKind::Directory, &implicit, 2);
        for name in [&b"one"[..], b"tmp/two", b"new/three"] {
            expect(name, file(b"hl"), &metadata(0o600), 3);
        }
        for (name, special, kind) in [
            ("null", Special::CharacterDevice { major: 1, minor: 3 }, SeenKind::Character(1, 3)),
            (
                "big",
                Special::CharacterDevice { major: 4095, minor: 0xf_ffff },
                SeenKind::Character(4095, 0xf_ffff),
            ),
            ("nvme", Special::BlockDevice { major: 259, minor: 300 }, SeenKind::Block(259, 300)),
            ("fifo", Special::Fifo, SeenKind::Fifo),
            ("socket", Special::Socket, SeenKind::Socket),
        ] {
            w.special(&path(name), metadata(0o600), special).unwrap();
            expect(name.as_bytes(), kind, &metadata(0o600), 1);
        }
        for (name, seconds) in
            [("y1902", -(1 << 31)), ("y1969", -1), ("y2038", 1 << 31), ("y2446", 15_032_385_535)]
        {
            let old =
                Metadata { modified: Timestamp { seconds, nanoseconds: 999_999_999 }, ..metadata(0o444) };
            w.file(&path(name), old.clone(), 0, &mut std::io::empty()).unwrap();
            expect(name.as_bytes(), file(b""), &old, 1);
        }
        let longest = vec![b'n'; 255];
        w.directory(&path(&longest), metadata(0o755)).unwrap();
        expect(&longest, SeenKind::Directory, &metadata(0o755), 2);
    });
    image.check();
    let Some(mounted) = image.mount("every_kind_of_entry_comes_back_as_it_was") else { return };
    let mut actual = look(&mounted.at);
    // lost+found and 6 directories in the root, besides its own two names.
    let root_links = actual.get(&b""[..]).unwrap().links;
    assert_eq!(root_links, 2 + 1 + 6);
    actual.get_mut(&b""[..]).unwrap().links = 8;
    for (path, expected) in &expected {
        assert_eq!(actual.get(path), Some(expected), "{}", path.escape_ascii());
    }
    assert_eq!(actual.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let plain = || metadata(0o644);
    let image = Image::write(|w| {
        w.file(&path("d/sub/file"), plain(), 9000, &mut &noise(9000, 1)[..]).unwrap();
        w.file(&path("kept"), plain(), 4, &mut &b"kept"[..]).unwrap();
        w.hard_link(&path("d/kept"), &path("kept")).unwrap();
        w.file(&path("d"), plain(), 1, &mut &b"f"[..]).unwrap();
        w.directory(&path("d"), metadata(0o700)).unwrap();
        w.directory(&path("e"), metadata(0o700)).unwrap();
        w.file(&path("e/x"), plain(), 1, &mut &b"x"[..]).unwrap();
        w.directory(&path("e"), metadata(0o711)).unwrap();
        w.symbolic_link(&path("kept"), metadata(0o777), b"/etc/passwd").unwrap();
        w.symbolic_link(&path("e/link"), metadata(0o777), b"/").unwrap();
        w.file(&path("f"), plain(), 300_000, &mut &noise(300_000, 3)[..]).unwrap();
        w.file(&path("f"), plain(), 3, &mut &b"new"[..]).unwrap();
        w.file(&path("g/only"), plain(), 4, &mut &b"only"[..]).unwrap();
        w.hard_link(&path("g"), &path("g/only")).unwrap();
    });
    image.check();
    assert!(image.disk_usage() < 200_000, "freed blocks are given back: {}", image.disk_usage());
    let Some(mounted) = image.mount("a_later_entry_replaces_an_earlier_one") else { return };
    let seen = look(&mounted.at);
    let names: Vec<_> = seen.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(names, ["", "d", "e", "e/link", "e/x", "f", "g", "kept"]);
    assert_eq!(seen[&b"d"[..]].kind, SeenKind::Directory);
    assert_eq!(seen[&b"e"[..]].mode, 0o711);
    assert_eq!(seen[&b"f"[..]].kind, file(b"new"));
    assert_eq!((&seen[&b"g"[..]].kind, seen[&b"g"[..]].links), (&file(b"only"), 1));
    assert_eq!(seen[&b"kept"[..]].kind, SeenKind::Link(b"/etc/passwd".to_vec()));
}

#[test]
fn what_cannot_be_written_is_refused_and_leaves_a_sound_file_system() {
    let image = Image::write(|w| {
        let plain = || metadata(0o644);
        let empty = || std::io::empty();
        w.file(&path("file"), plain(), 0, &mut empty()).unwrap();
        w.symbolic_link(&path("link"), plain(), b"/tmp").unwrap();
        w.directory(&path("dir"), plain()).unwrap();
        let error = w.file(&path("file/x"), plain(), 0, &mut empty()).unwrap_err();
        assert_eq!(error.to_string(), "cannot make '/file/x': '/file' is not a directory");
        assert!(matches!(
            w.file(&path("file/x/y"), plain(), 0, &mut empty()),
            Err(WriteError::ParentIsNoDirectory { .. })
        ));
        assert!(matches!(
            w.hard_link(&path("h"), &path("link/file")),
            Err(WriteError::LinkTargetMissing { .. })
        ));
        w.symbolic_link(&path("round"), plain(), b"dir/../round").unwrap();
        assert!(matches!(
            w.file(&path("round/x"), plain(), 0, &mut empty()),
            Err(WriteError::LinkLoop { .. })
        ));
        w.symbolic_link(&path("to-file"), plain(), b"file").unwrap();
        w.symbolic_link(&path("long"), plain(), &[b'n'; 300]).unwrap();
        for parent in ["to-file", "long"] {
            let below = path(format!("{parent}/x"));
            let refused = w.file(&below, plain(), 0, &mut empty());
            assert!(matches!(refused, Err(WriteError::ParentIsNoDirectory { .. })), "{parent}");
        }
        assert!(matches!(w.hard_link(&path("h"), &path("dir")), Err(WriteError::LinkToDirectory { .. })));
        assert!(matches!(w.hard_link(&path("h"), &path("")), Err(WriteError::LinkToDirectory { .. })));
        assert!(matches!(w.file(&path(""), plain(), 0, &mut empty()), Err(WriteError::RootIsDirectory)));
        let error =
            w.file(&path("short"), plain(), 5_000_000, &mut noise(3_000_000, 1).take_all()).unwrap_err();
        assert_eq!(error.to_string(), "the content of '/short' ends 2000000 bytes too soon");
        for target in [&b""[..], b"a\0b", &[b'x'; 4096]] {
            assert!(matches!(
                w.symbolic_link(&path("s"), plain(), target),
                Err(WriteError::LinkTarget { .. })
            ));
        }
        let device = Special::BlockDevice { major: 4096, minor: 0 };
        assert!(matches!(w.special(&path("s"), plain(), device), Err(WriteError::DeviceNumber { .. })));
        for (name, value) in [
            ("nothing.x", vec![]),
            ("user.", vec![]),
            ("user.x", vec![0; 4097]),
            ("system.posix_acl_access", vec![1]),
            (&*format!("user.{}", "x".repeat(256)), vec![]),
        ] {
            let odd = Metadata { attributes: vec![attribute(name, &value)], ..plain() };
            assert!(matches!(w.directory(&path("s"), odd), Err(WriteError::Attribute { .. })), "{name}");
        }
        let two = vec![attribute("user.a", &[1; 2500]), attribute("user.b", &[1; 2500])];
        let odd = Metadata { attributes: two, ..plain() };
        assert!(matches!(w.directory(&path("s"), odd), Err(WriteError::AttributesTooLarge { .. })));
        w.file(&path("after"), plain(), 5, &mut &b"after"[..]).unwrap();
    });
    image.check();
    let Some(mounted) = image.mount("what_cannot_be_written_is_refused") else { return };
    let seen = look(&mounted.at);
    assert_eq!(seen.len(), 8, "{:?}", seen.keys());
    assert_eq!(seen[&b"after"[..]].kind, file(b"after"));
}

#[test]
fn links_on_the_way_lead_within_the_root() {
    let image = Image::write(|w| {
        let plain = || metadata(0o644);
        w.directory(&path("usr/bin"), metadata(0o755)).unwrap();
        for (name, target) in [
            ("bin", &b"usr/bin"[..]),
            ("usr/up", b"../../../../usr/./bin/"),
            ("absolute", b"/usr"),
            ("twice", b"absolute/up"),
            ("nowhere", b"made/by/this"),
            ("usr/bin/root", b"/"),
        ] {
            w.symbolic_link(&path(name), metadata(0o777), target).unwrap();
        }
        for (name, content) in [
            ("bin/a", &b"a"[..]),
            ("usr/up/b", b"b"),
            ("twice/c", b"c"),
            ("nowhere/d", b"d"),
            ("usr/bin/root/e", b"e"),
        ] {
            w.file(&path(name), plain(), 1, &mut { content }).unwrap();
        }
        w.hard_link(&path("absolute/f"), &path("twice/a")).unwrap();
        // The last name is never followed: this takes the link's place.
        w.file(&path("nowhere"), plain(), 1, &mut &b"n"[..]).unwrap();
    });
    image.check();
    let Some(mounted) = image.mount("links_on_the_way_lead_within_the_root") else { return };
    let seen = look(&mounted.at);
    let files = [
        (&b"usr/bin/a"[..], &b"a"[..]),
        (b"usr/bin/b", b"b"),
        (b"usr/bin/c", b"c"),
        (b"made/by/this/d", b"d"),
        (b"e", b"e"),
        (b"usr/f", b"a"),
        (b"nowhere", b"n"),
    ];
    for (name, content) in files {
        assert_eq!(seen.get(name).map(|it| &it.kind), Some(&file(content)), "{}", name.escape_ascii());
    }
    assert_eq!(seen[&b"usr/f"[..]].links, 2);
}

/// The names in an image of several layers.
fn names_of(test: &str, fill: impl FnOnce(&mut dyn RootfsWriter)) -> Option<Vec<String>> {
    let image = Image::write(fill);
    image.check();
    let mounted = image.mount(test)?;
    let names = look(&mounted.at).into_keys().filter(|name| !name.is_empty());
    Some(names.map(|name| String::from_utf8(name).unwrap()).collect())
}

#[test]
fn a_layer_takes_away_what_those_before_it_have_and_nothing_of_its_own() {
    let fill = |w: &mut dyn RootfsWriter| {
        let add = |w: &mut dyn RootfsWriter, name: &str| {
            w.file(&path(name), metadata(0o644), 5, &mut &b"layer"[..]).unwrap();
        };
        for name in
            ["kept", "gone", "dir/old", "dir/sub/old", "opaque/old", "opaque/sub/old", "linked", "tree/x"]
        {
            add(w, name);
        }
        w.symbolic_link(&path("link"), metadata(0o777), b"dir").unwrap();
        w.next_layer().unwrap();
        w.whiteout(&path("gone")).unwrap();
        w.whiteout(&path("never/was/there")).unwrap();
        // Through a link.
        w.whiteout(&path("link/sub")).unwrap();
        add(w, "dir/new");
        // Its own entries come before what takes away as well as after it.
        add(w, "opaque/before");
        add(w, "opaque/sub/before");
        w.opaque(&path("opaque")).unwrap();
        add(w, "opaque/after");
        w.hard_link(&path("further"), &path("linked")).unwrap();
        w.whiteout(&path("linked")).unwrap();
        add(w, "tree/y/z");
        w.whiteout(&path("tree")).unwrap();
        w.whiteout(&path("tree")).unwrap();
        w.opaque(&path("empty/new")).unwrap();
        w.next_layer().unwrap();
        w.whiteout(&path("opaque/sub/before")).unwrap();
        add(w, "gone");
    };
    let Some(names) = names_of("a_layer_takes_away", fill) else { return };
    let expected = [
        "dir",
        "dir/new",
        "dir/old",
        "empty",
        "empty/new",
        "further",
        "gone",
        "kept",
        "link",
        "opaque",
        "opaque/after",
        "opaque/before",
        "opaque/sub",
        "tree",
        "tree/y",
        "tree/y/z",
    ];
    assert_eq!(names, expected);
    let Some(names) = names_of("a_layer_takes_everything_away", |w| {
        w.file(&path("a/b"), metadata(0o644), 0, &mut std::io::empty()).unwrap();
        w.next_layer().unwrap();
        w.opaque(&TreePath::default()).unwrap();
        w.directory(&path("c"), metadata(0o755)).unwrap();
    }) else {
        return;
    };
    assert_eq!(names, ["c"]);
}

#[test]
fn a_file_has_more_names_than_a_file_can_have() {
    let content = noise(100_000, 3);
    let mut copies = 0;
    let image = Image::write(|w| {
        w.file(&path("first"), metadata(0o640), content.len() as u64, &mut &content[..]).unwrap();
        for n in 1..130_500 {
            // By way of the first name, and of the one before, which may be the copy's.
            let target = if n % 2 == 0 { "first".to_owned() } else { format!("{}/{}", (n - 1) % 10, n - 1) };
            let target = if n == 1 { "first".to_owned() } else { target };
            let made = w.hard_link(&path(format!("{}/{n}", n % 10)), &path(target)).unwrap();
            copies += usize::from(made == HardLink::Copied);
        }
    });
    assert_eq!(copies, 2);
    image.check();
    let Some(mounted) = image.mount("a_file_has_more_names") else { return };
    let mut names = std::collections::HashMap::<u64, u64>::new();
    for (name, entry) in look_at_links(&mounted.at) {
        assert_eq!(entry.len(), 100_000, "{}", name.display());
        *names.entry(entry.nlink()).or_default() += 1;
    }
    assert_eq!(names, [(65_000, 130_000), (500, 500)].into());
    for name in ["first", "9/129999", "1/130491"] {
        assert!(std::fs::read(mounted.at.join(name)).unwrap() == content, "{name}");
    }
}

/// Every file in the root and one directory below.
fn look_at_links(root: &std::path::Path) -> Vec<(std::path::PathBuf, std::fs::Metadata)> {
    let list = |directory: &std::path::Path| -> Vec<_> {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let all = list(root).into_iter().flat_map(|path| if path.is_dir() { list(&path) } else { vec![path] });
    all.map(|path| (path.clone(), std::fs::symlink_metadata(path).unwrap())).collect()
}

#[test]
fn more_entries_than_may_be_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("image");
    let mut writer = Ext4Writer::create(&image, "test").unwrap().with_most_entries(100);
    let mut add = |n: u32| writer.directory(&path(n.to_string()), metadata(0o755));
    (0..99).for_each(|n| add(n).unwrap());
    assert_eq!(add(99).unwrap_err().to_string(), "cannot add '/99': more than 100 entries");
    assert!(add(98).is_ok(), "which is there");
}

trait TakeAll {
    fn take_all(self) -> std::io::Cursor<Vec<u8>>;
}

impl TakeAll for Vec<u8> {
    fn take_all(self) -> std::io::Cursor<Vec<u8>> {
        std::io::Cursor::new(self)
    }
}

/// A file with a MiB of data at the start of each of `pieces` stretches of `stretch` bytes.
fn sparse_file(pieces: usize, stretch: usize) -> impl Read {
    (0..pieces).fold(Box::new(std::io::empty()) as Box<dyn Read>, |before, piece| {
        let data = std::io::Cursor::new(noise(1 << 20, piece as u64));
        let zeros = std::io::repeat(0).take((stretch - (1 << 20)) as u64);
        Box::new(before.chain(data).chain(zeros))
    })
}

#[test]
fn large_files_need_extents_beyond_the_inode() {
    const MIB: usize = 1 << 20;
    // Dense beyond 128 MiB (the longest extent), sparse beyond 600 MiB, with 21 pieces.
    let (dense, pieces, stretch) = (150 * MIB, 21, 30 * MIB);
    let image = Image::write(|w| {
        let mut content = noise(dense, 7).take_all();
        w.file(&path("dense"), metadata(0o644), dense as u64, &mut content).unwrap();
        let size = (pieces * stretch) as u64;
        w.file(&path("sparse"), metadata(0o644), size, &mut sparse_file(pieces, stretch)).unwrap();
        // Fragmented beyond four extents and then dense across 5 * 128 MiB in one go would take too
        // long here; a hole at the very end is the other odd case.
        w.file(&path("hole"), metadata(0o644), 1 << 30, &mut std::io::repeat(0).take(1 << 30)).unwrap();
        w.file(&path("last"), metadata(0o644), 1, &mut &b"x"[..]).unwrap();
    });
    image.check();
    let disk = image.disk_usage();
    assert!(disk < ((dense + (pieces + 3) * MIB) as u64), "{disk}");
    let Some(mounted) = image.mount("large_files_need_extents_beyond_the_inode") else { return };
    let digest = |mut reader: Box<dyn Read>| {
        let mut hash = <sha2::Sha256 as sha2::Digest>::new();
        let size = std::io::copy(&mut reader, &mut hash).unwrap();
        SeenKind::File(size, sha2::Digest::finalize(hash).into())
    };
    let seen = look(&mounted.at);
    assert_eq!(seen[&b"dense"[..]].kind, file(&noise(dense, 7)));
    assert_eq!(seen[&b"sparse"[..]].kind, digest(Box::new(sparse_file(pieces, stretch))));
    assert_eq!(seen[&b"hole"[..]].kind, digest(Box::new(std::io::repeat(0).take(1 << 30))));
    assert_eq!(seen[&b"last"[..]].kind, file(b"x"));
    let blocks = |name: &str| std::fs::metadata(mounted.at.join(name)).unwrap().blocks() * 512;
    assert_eq!(blocks("hole"), 0);
    assert!(blocks("sparse") < (pieces * 2 * MIB) as u64, "{}", blocks("sparse"));
}

#[test]
fn large_directories_and_many_entries() {
    let image = Image::write(|w| {
        for n in 0..20_000 {
            let name = format!("large/{n:05}-{}", "x".repeat(n % 200));
            w.file(&path(name), metadata(0o644), 0, &mut std::io::empty()).unwrap();
        }
        for n in 0..65_100 {
            w.directory(&path(format!("wide/{n}")), metadata(0o755)).unwrap();
        }
        for n in 0..66_000u32 {
            w.symbolic_link(&path(format!("links/{}/{n}", n % 97)), metadata(0o777), b"t").unwrap();
        }
    });
    image.check();
    let Some(mounted) = image.mount("large_directories_and_many_entries") else { return };
    let entries = |name: &str| std::fs::read_dir(mounted.at.join(name)).unwrap().count();
    assert_eq!((entries("large"), entries("wide")), (20_000, 65_100));
    assert_eq!(std::fs::metadata(mounted.at.join("wide")).unwrap().nlink(), 1, "more than can be counted");
    for n in [0, 1, 4_711, 19_999] {
        let name = format!("large/{n:05}-{}", "x".repeat(n % 200));
        assert!(mounted.at.join(&name).exists(), "{name}");
    }
    assert!(!mounted.at.join("large/none").exists());
    let links: usize = (0..97).map(|n| entries(&format!("links/{n}"))).sum();
    assert_eq!(links, 66_000);
}

#[test]
fn the_same_entries_give_the_same_bytes() {
    let write = |seed| {
        let image = Image::write(|w| {
            for n in 0..200u64 {
                let content = noise(usize::try_from(n * 97).unwrap(), seed + n);
                let size = content.len() as u64;
                let name = path(format!("d{}/f{n}", n % 7));
                w.file(&name, metadata(0o644), size, &mut &content[..]).unwrap();
            }
        });
        std::fs::read(&image.path).unwrap()
    };
    assert!(write(1) == write(1));
    assert!(write(1) != write(2));
}

#[test]
fn an_empty_tree_is_a_sound_file_system() {
    let image = Image::write(|_| {});
    image.check();
    let size = std::fs::metadata(&image.path).unwrap().len();
    assert!(size <= 128 << 10, "{size}");
    assert!(image.disk_usage() <= 40 << 10, "{}", image.disk_usage());
    let Some(mounted) = image.mount("an_empty_tree_is_a_sound_file_system") else { return };
    assert_eq!(look(&mounted.at).len(), 1);
}
