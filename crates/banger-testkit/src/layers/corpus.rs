//! One image for each kind of thing that layers can hold and do.

use tar::{Builder, EntryType};

use super::{add, add_pax, archive, header};

type Tar = Builder<Vec<u8>>;

fn directories(b: &mut Tar, names: &[&str]) {
    for name in names {
        add(b, EntryType::Directory, format!("{name}/").as_bytes(), b"", b"");
    }
}

fn files(b: &mut Tar, names: &[&str]) {
    for name in names {
        add(b, EntryType::Regular, name.as_bytes(), b"", name.as_bytes());
    }
}

fn link(b: &mut Tar, name: &str, target: &str) {
    add(b, EntryType::Symlink, name.as_bytes(), target.as_bytes(), b"");
}

/// `vfs_cap_data` of version 2 (linux/capability.h) with a newline in it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, b'\n', 0x20, 0, 0, 0, 0, 0, 0, b'\n', b'9', 0, 0, 0, 0, 0, 0];

/// An image: its name, and its layers, the lowest first. Every directory is named, so that none is made up.
pub type Example = (&'static str, Vec<Vec<u8>>);

/// Returns all of them.
pub fn images() -> Vec<Example> {
    [changes(), kinds()].concat()
}

/// Returns the layers of them all, for one image.
pub fn merged() -> Vec<Vec<u8>> {
    images().into_iter().flat_map(|(_, layers)| layers).collect()
}

/// The directories at the top that they have.
pub const TOP: [&str; 10] =
    ["white", "opaque", "hard", "merged", "change", "attributes", "modes", "names", "sparse", "many"];

/// What a layer does to those before it.
fn changes() -> Vec<Example> {
    vec![
        (
            "whiteouts",
            vec![
                archive(|b| {
                    directories(b, &["white", "white/dir", "white/dir/deeper"]);
                    files(b, &["white/file", "white/kept", "white/dir/file", "white/dir/deeper/file"]);
                    link(b, "white/link", "kept");
                }),
                archive(|b| {
                    directories(b, &["white"]);
                    files(b, &["white/.wh.file", "white/.wh.dir", "white/.wh.link", "white/.wh.never"]);
                    files(b, &["white/new"]);
                }),
                archive(|b| files(b, &["white/.wh.new"])),
            ],
        ),
        (
            "opaque",
            vec![
                archive(|b| {
                    directories(b, &["opaque", "opaque/sub"]);
                    files(b, &["opaque/a", "opaque/sub/b"]);
                }),
                archive(|b| {
                    directories(b, &["opaque"]);
                    files(b, &["opaque/.wh..wh..opq", "opaque/after"]);
                    directories(b, &["opaque/sub"]);
                    files(b, &["opaque/sub/new"]);
                }),
            ],
        ),
        (
            "hard-links",
            vec![
                archive(|b| {
                    directories(b, &["hard"]);
                    files(b, &["hard/one", "hard/other"]);
                    add(b, EntryType::Link, b"hard/two", b"hard/one", b"");
                }),
                archive(|b| {
                    // Names of what lower layers have; and one that is taken away where the others stay.
                    add(b, EntryType::Link, b"hard/three", b"hard/two", b"");
                    add(b, EntryType::Link, b"hard/four", b"./hard/three", b"");
                    files(b, &["hard/.wh.one"]);
                    files(b, &["hard/other"]);
                }),
            ],
        ),
        (
            "symlinked-parents",
            vec![
                archive(|b| {
                    directories(b, &["merged", "merged/usr", "merged/usr/bin"]);
                    link(b, "merged/bin", "usr/bin");
                    link(b, "merged/up", "../../../../merged/usr");
                    link(b, "merged/absolute", "/merged/usr/bin");
                    link(b, "merged/twice", "up/bin");
                }),
                archive(|b| {
                    files(b, &["merged/bin/a", "merged/up/b", "merged/absolute/c", "merged/twice/d"]);
                }),
                archive(|b| files(b, &["merged/absolute/.wh.a"])),
            ],
        ),
        (
            "replacements",
            vec![
                archive(|b| {
                    directories(b, &["change", "change/dir", "change/dir/sub", "change/kept"]);
                    files(b, &["change/file", "change/dir/sub/x", "change/kept/y", "change/to-link"]);
                    link(b, "change/link", "dir");
                }),
                archive(|b| {
                    directories(b, &["change/file"]);
                    files(b, &["change/file/within", "change/dir", "change/link"]);
                    link(b, "change/to-link", "file");
                    // A directory over a directory keeps what is in it.
                    let mut private = header(EntryType::Directory, 0);
                    private.as_old_mut().name[..12].copy_from_slice(b"change/kept/");
                    private.set_mode(0o700);
                    private.set_cksum();
                    b.append(&private, &[][..]).expect("write a layer");
                }),
            ],
        ),
    ]
}

/// What a layer holds.
fn kinds() -> Vec<Example> {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(250));
    vec![
        (
            "special",
            vec![archive(|b| {
                directories(b, &["dev"]);
                add(b, EntryType::Char, b"dev/character", b"", b"");
                add(b, EntryType::Block, b"dev/block", b"", b"");
                add(b, EntryType::Fifo, b"dev/fifo", b"", b"");
            })],
        ),
        (
            "attributes",
            vec![archive(|b| {
                directories(b, &["attributes"]);
                add_pax(
                    b,
                    &[(b"SCHILY.xattr.security.capability", &CAPABILITY), (b"SCHILY.xattr.user.a", b"b\0c")],
                );
                files(b, &["attributes/capable"]);
                add_pax(b, &[(b"SCHILY.xattr.user.on-a-directory", b"value")]);
                directories(b, &["attributes/dir"]);
            })],
        ),
        (
            "modes",
            vec![archive(|b| {
                directories(b, &["modes"]);
                for mode in [0o4755, 0o2755, 0o1777, 0o000, 0o6711] {
                    let mut header = header(EntryType::Regular, 1);
                    let name = format!("modes/{mode:o}");
                    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                    header.set_mode(mode);
                    header.set_cksum();
                    b.append(&header, &b"m"[..]).expect("write a layer");
                }
            })],
        ),
        (
            "names",
            vec![archive(|b| {
                directories(b, &["names"]);
                let mut entry = header(EntryType::Directory, 0);
                b.append_data(&mut entry, format!("names/{}/", "d".repeat(120)), &[][..])
                    .expect("write a layer");
                let mut entry = header(EntryType::Regular, 4);
                b.append_data(&mut entry, format!("names/{long}"), &b"long"[..]).expect("write a layer");
                add_pax(
                    b,
                    &[(b"path", b"names/pax"), (b"mtime", b"1700000000.123456789"), (b"uid", b"3000000000")],
                );
                files(b, &["other"]);
                add(b, EntryType::Regular, b"names/\xff\xfe not utf-8", b"", b"x");
                add(b, EntryType::Regular, b"names/new\nline", b"", b"x");
                let mut entry = header(EntryType::Symlink, 0);
                b.append_link(&mut entry, "names/far", "t".repeat(300)).expect("write a layer");
            })],
        ),
        (
            "sparse",
            vec![archive(|b| {
                directories(b, &["sparse"]);
                let map = (&b"GNU.sparse.map"[..], &b"1000000,5,30000000,3"[..]);
                add_pax(b, &[(b"GNU.sparse.size", b"40000000"), (b"GNU.sparse.numblocks", b"2"), map]);
                add(b, EntryType::Regular, b"sparse/holes", b"", b"datamor!");
                add(b, EntryType::Regular, b"sparse/zeros", b"", &[0; 300_000]);
                add(b, EntryType::Regular, b"sparse/noise", b"", &super::noise(123_457, 1));
            })],
        ),
        (
            "many",
            vec![archive(|b| {
                directories(b, &["many"]);
                (0..3000).for_each(|n| files(b, &[&format!("many/{n}")]));
            })],
        ),
    ]
}
