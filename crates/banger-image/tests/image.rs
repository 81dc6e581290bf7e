//! Images from tar archives, friendly and hostile, and from Debian's real packages.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use banger_core::work::Unwatched;
use banger_image::archive::{self, ArchiveError, Compression, Reading, Summary};
use banger_image::rootfs::RootfsWriter;
use banger_image::source::{BuildError, BuildOptions, BuiltRootfs, Content, build};
use banger_testkit::layers::{add, add_pax, archive, header};
use banger_types::digest::Digest;
use banger_types::source::ImageSource;
use sha2::{Digest as _, Sha256};
use support::{Image, Mounted, SeenKind, StdCommands, file, look, noise};
use tar::EntryType;

fn read(archive: &[u8], writer: &mut dyn RootfsWriter) -> Result<Summary, ArchiveError> {
    archive::read(
        archive,
        &Reading { total: Some(archive.len() as u64), ..Reading::default() },
        writer,
        &Unwatched,
    )
}

fn refusal(archive: &[u8]) -> ArchiveError {
    let mut error = None;
    let image = Image::write(|w| error = Some(read(archive, w).unwrap_err()));
    image.check();
    error.unwrap()
}

#[test]
fn a_tar_comes_back_as_it_was() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(250));
    let capability = [1, 0, 0, 2, b'\n', 0x20, 0, 0, 0, 0, 0, 0, b'\n', b'9', 0, 0, 0, 0, 0, 0];
    let bytes = archive(|b| {
        add(b, EntryType::Directory, b"./", b"", b"");
        add(b, EntryType::Directory, b"./bin/", b"", b"");
        add(b, EntryType::Regular, b"/bin/a\xff\xfe", b"", b"absolute");
        add(b, EntryType::Symlink, b"sh", b"../../../../bin/a", b"");
        add(b, EntryType::Link, b"./hard", b"./bin/a\xff\xfe", b"");
        add(b, EntryType::Char, b"./dev/null", b"", b"");
        add(b, EntryType::Block, b"dev/disk", b"", b"");
        add(b, EntryType::Fifo, b"fifo", b"", b"");
        let mut entry = header(EntryType::Regular, 4);
        b.append_data(&mut entry, &long, &b"long"[..]).unwrap();
        add_pax(
            b,
            &[
                (b"SCHILY.xattr.security.capability", &capability),
                (b"SCHILY.xattr.com.apple.provenance", b"x"),
                (b"SCHILY.xattr.user.empty", b""),
                (b"uid", b"4000000000"),
                (b"gid", b"77"),
                (b"mtime", b"1700000000.000000001"),
                (b"path", b"pax\n\xff"),
            ],
        );
        add(b, EntryType::Regular, b"other", b"", &noise(70_000, 1));
    });
    let mut summary = None;
    let image = Image::write(|w| summary = Some(read(&bytes, w).unwrap()));
    image.check();
    let (digest, length) = (Digest::from_bytes(Sha256::digest(&bytes).into()), bytes.len() as u64);
    let expected = Summary {
        digest: Some(digest),
        length,
        unpacked: digest,
        unpacked_length: length,
        compression: Compression::None,
    };
    assert_eq!(summary, Some(expected));

    let Some(mounted) = image.mount("a_tar_comes_back_as_it_was") else { return };
    let seen = look(&mounted.at);
    let at = |name: &[u8]| &seen[name];
    let plain = (0o4751, (1234, 5678), (1_600_000_000, 0));
    for name in [&b""[..], b"bin", b"bin/a\xff\xfe", b"dev/null", b"fifo", long.as_bytes()] {
        let entry = at(name);
        assert_eq!((entry.mode, entry.owner, entry.modified), plain, "{}", name.escape_ascii());
    }
    assert_eq!((&at(b"hard").kind, at(b"hard").links), (&file(b"absolute"), 2));
    assert_eq!(at(b"sh").mode, 0o777);
    assert_eq!(at(b"sh").kind, SeenKind::Link(b"../../../../bin/a".to_vec()));
    assert_eq!(at(b"dev/null").kind, SeenKind::Character(259, 7));
    assert_eq!(at(b"dev/disk").kind, SeenKind::Block(259, 7));
    assert_eq!(at(b"fifo").kind, SeenKind::Fifo);
    assert_eq!(at(long.as_bytes()).kind, file(b"long"));
    let pax = at(b"pax\n\xff");
    assert_eq!((pax.owner, pax.modified), ((4_000_000_000, 77), (1_700_000_000, 1)));
    assert_eq!(pax.kind, file(&noise(70_000, 1)));
    let attributes =
        [(b"security.capability".to_vec(), capability.to_vec()), (b"user.empty".to_vec(), Vec::new())];
    assert_eq!(pax.attributes, BTreeMap::from(attributes));
}

/// The real GNU tar packs a real directory in each of its formats; the tree must come back.
#[test]
fn archives_of_gnu_tar_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    std::fs::create_dir_all(tree.join("sub/deeper")).unwrap();
    let sparse = std::fs::File::create(tree.join("sparse")).unwrap();
    for piece in 0..40u64 {
        let at = piece * 1_000_000;
        std::os::unix::fs::FileExt::write_all_at(&sparse, &noise(4096, piece), at).unwrap();
    }
    sparse.set_len(50_000_000).unwrap();
    std::fs::write(tree.join("sub/deeper/file"), noise(123_457, 9)).unwrap();
    std::fs::hard_link(tree.join("sub/deeper/file"), tree.join("sub/hard")).unwrap();
    std::os::unix::fs::symlink("x".repeat(180), tree.join("link")).unwrap();
    std::fs::write(tree.join(format!("sub/{}", "ü".repeat(120))), "long").unwrap();
    rustix::fs::lsetxattr(tree.join("sub"), "user.banger", b"a\nb\0c", rustix::fs::XattrFlags::empty())
        .unwrap();
    for options in [
        &["--format=gnu"][..],
        &["--format=pax", "--xattrs"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=0.0"],
    ] {
        let mut command = Command::new("tar");
        command.args(options).args(["--sparse", "-C"]).arg(&tree).args(["-cf", "-", "."]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let image =
            Image::write(|w| assert_eq!(read(&output.stdout, w).unwrap().compression, Compression::None));
        image.check();
        assert!(image.disk_usage() < 2_000_000, "{options:?}: {}", image.disk_usage());
        let Some(mounted) = image.mount("archives_of_gnu_tar_come_back") else { return };
        let (mut expected, mut actual) = (look(&tree), look(&mounted.at));
        for entries in [&mut expected, &mut actual] {
            for entry in entries.values_mut() {
                if !options.contains(&"--xattrs") {
                    entry.attributes.clear();
                }
                if options.contains(&"--format=gnu") {
                    entry.modified.1 = 0;
                }
            }
            // One of them has lost+found.
            entries.get_mut(&b""[..]).unwrap().links = 0;
        }
        for (path, entry) in &expected {
            assert_eq!(actual.get(path), Some(entry), "{options:?} {}", path.escape_ascii());
        }
        assert_eq!(actual.len(), expected.len());
    }
}

/// Work that is cancelled when it takes much longer than it ever should, so that a test of what takes no
/// time fails and does not run for hours.
struct Impatient(std::time::Instant);

impl banger_core::work::Work for Impatient {
    fn stage(&self, _: &str) {}
    fn progress(&self, _: u64, _: Option<u64>, _: banger_types::operation::Unit) {}
    fn log(&self, _: &str) {}
    fn check(&self) -> Result<(), banger_core::work::Cancelled> {
        if self.0.elapsed().as_secs() > 60 { Err(banger_core::work::Cancelled) } else { Ok(()) }
    }
    fn on_cancel(&self, _: Box<dyn FnOnce() + Send>) -> banger_core::work::CancelGuard {
        banger_core::work::CancelGuard::new(|| {})
    }
}

/// A file of almost 16 TiB in an archive of 6 KiB, and one that has more holes than a file can have
/// extents, so that most of them get blocks.
#[test]
fn holes_of_any_size_take_no_time() {
    const LARGEST: u64 = (1 << 44) - 4096;
    let middle = 1 << 43;
    let bytes = archive(|b| {
        let (map, size) = (format!("{middle},5,{LARGEST},0"), LARGEST.to_string());
        add_pax(b, &[(b"GNU.sparse.map", map.as_bytes()), (b"GNU.sparse.size", size.as_bytes())]);
        add(b, EntryType::Regular, b"huge", b"", b"there");
        let (pieces, apart) = (1000, 1u64 << 20);
        let map: Vec<_> = (0..pieces).map(|piece| format!("{},1", piece * apart + 4095)).collect();
        let (map, size) = (map.join(","), (pieces * apart).to_string());
        add_pax(b, &[(b"GNU.sparse.map", map.as_bytes()), (b"GNU.sparse.size", size.as_bytes())]);
        add(b, EntryType::Regular, b"many", b"", &[b'x'; 1000]);
        add(b, EntryType::Regular, b"after", b"", b"after");
    });
    let write = || {
        Image::write(|w| {
            let work = Impatient(std::time::Instant::now());
            archive::read(&bytes[..], &Reading::default(), w, &work).unwrap();
        })
    };
    let image = write();
    image.check();
    assert!(image.disk_usage() < 16 << 20, "{}", image.disk_usage());
    let Some(mounted) = image.mount("holes_of_any_size_take_no_time") else { return };
    let huge = std::fs::File::open(mounted.at.join("huge")).unwrap();
    assert_eq!(huge.metadata().unwrap().len(), LARGEST);
    let mut around = [1; 7];
    std::os::unix::fs::FileExt::read_exact_at(&huge, &mut around, middle - 1).unwrap();
    assert_eq!(&around, b"\0there\0");
    let many = std::fs::File::open(mounted.at.join("many")).unwrap();
    for piece in 0..1000 {
        let mut around = [1; 3];
        std::os::unix::fs::FileExt::read_exact_at(&many, &mut around, (piece << 20) + 4094).unwrap();
        assert_eq!(&around, b"\0x\0", "{piece}");
    }
    assert_eq!(std::fs::read(mounted.at.join("after")).unwrap(), b"after");
    drop(mounted);
    let same = std::process::Command::new("cmp").args([&image.path, &write().path]).status().unwrap();
    assert!(same.success(), "the same archive gives the same bytes");
}

#[test]
fn hostile_archives_are_refused() {
    let one = |kind, name: &[u8], link: &[u8]| archive(|b| add(b, kind, name, link, b""));
    for (bytes, expected) in [
        (one(EntryType::Regular, b"../etc/passwd", b""), "'../etc/passwd' contains '..'"),
        (one(EntryType::Regular, b"/a/../../b", b""), "contains '..'"),
        (one(EntryType::Link, b"a", b"../../etc/shadow"), "contains '..'"),
        (one(EntryType::Link, b"a", b"/etc/shadow"), "there is no '/etc/shadow'"),
        (one(EntryType::Symlink, b"a", b""), "is empty"),
        (one(EntryType::Regular, b"", b""), "root of the file system"),
        (one(EntryType::new(b'Q'), b"a", b""), "unknown type 'Q'"),
        (
            archive(|b| {
                add(b, EntryType::Symlink, b"a", b"b", b"");
                add(b, EntryType::Symlink, b"b", b"a", b"");
                add(b, EntryType::Regular, b"a/passwd", b"", b"root");
            }),
            "more than 40 symbolic links",
        ),
        (one(EntryType::Link, b"a", b"a"), "there is no '/a'"),
        (archive(|b| add_pax(b, &[(b"path", b"a")])), "truncated"),
        (
            archive(|b| {
                add(b, EntryType::XHeader, b"pax", b"", b"99 a=b\n");
                add(b, EntryType::Regular, b"a", b"", b"");
            }),
            "PAX record",
        ),
        (
            archive(|b| {
                add_pax(b, &[(b"size", b"18446744073709551615")]);
                add(b, EntryType::Regular, b"a", b"", b"");
            }),
            "no possible size",
        ),
        (
            archive(|b| {
                add_pax(b, &[(b"uid", b"4294967296")]);
                add(b, EntryType::Regular, b"a", b"", b"");
            }),
            "beyond 32 bits",
        ),
        (
            archive(|b| {
                add_pax(b, &[(b"path", b"a\0b")]);
                add(b, EntryType::Regular, b"a", b"", b"");
            }),
            "NUL byte",
        ),
        (
            archive(|b| {
                add_pax(b, &[(b"GNU.sparse.map", b"0,5,3,9"), (b"GNU.sparse.size", b"100")]);
                add(b, EntryType::Regular, b"a", b"", b"12345678901234");
            }),
            "map of a sparse file",
        ),
    ] {
        let error = refusal(&bytes);
        let text = format!(
            "{error}: {}",
            std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
        );
        assert!(text.contains(expected), "{text} / {expected}");
    }
    // Each header is within its limit; all of them would be an attribute of any size.
    let endless = archive(|b| {
        for number in 0..40u8 {
            let name = [b"SCHILY.xattr.user.", [number + b'0'].as_slice()].concat();
            add_pax(b, &[(&name, &vec![b'x'; 1 << 17])]);
        }
        add(b, EntryType::Regular, b"a", b"", b"");
    });
    let error = refusal(&endless).to_string();
    assert!(error.contains("the names and PAX records of a file have more than 4 MiB"), "{error}");
    // A name that claims to be huge is refused before it is read.
    let mut huge = header(EntryType::GNULongName, 1 << 40);
    huge.set_cksum();
    assert!(matches!(refusal(huge.as_bytes()), ArchiveError::Malformed(_)));
}

/// Packs bytes with the real programs.
fn packed(command: &[&str], bytes: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tar");
    std::fs::write(&path, bytes).unwrap();
    let output = Command::new(command[0]).args(&command[1..]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn packed_archives_come_back_as_they_were() {
    let plain = archive(|b| {
        add(b, EntryType::Directory, b"d/", b"", b"");
        add(b, EntryType::Regular, b"d/file", b"", &noise(300_000, 2));
        add(b, EntryType::Regular, b"d/zeros", b"", &vec![0; 3_000_000]);
    });
    let mut expected = None;
    let unpacked = Image::write(|w| expected = Some(read(&plain, w).unwrap()));
    let expected = expected.unwrap();
    let whole = std::fs::read(&unpacked.path).unwrap();
    let (head, tail) = plain.split_at(plain.len() / 2);
    let gzip = |bytes| packed(&["gzip", "-c"], bytes);
    let zstd = |bytes| packed(&["zstd", "-qc"], bytes);
    for (bytes, compression) in [
        (gzip(&plain), Compression::Gzip),
        // Of two members, as eStargz has many.
        ([gzip(head), gzip(tail)].concat(), Compression::Gzip),
        (zstd(&plain), Compression::Zstd),
        ([zstd(head), zstd(tail)].concat(), Compression::Zstd),
        (packed(&["zstd", "-qc", "--ultra", "-22"], &plain), Compression::Zstd),
        (packed(&["xz", "-c"], &plain), Compression::Xz),
    ] {
        let mut summary = None;
        let image = Image::write(|w| summary = Some(read(&bytes, w).unwrap()));
        let summary = summary.unwrap();
        assert_eq!(summary.compression, compression);
        assert_eq!(summary.digest, Some(Digest::from_bytes(Sha256::digest(&bytes).into())));
        assert_eq!(summary.length, bytes.len() as u64);
        assert_eq!((summary.unpacked, summary.unpacked_length), (expected.unpacked, expected.length));
        assert!(std::fs::read(&image.path).unwrap() == whole, "{compression}");
        // Cut anywhere, and with a bit that is wrong.
        for length in [bytes.len() / 3, bytes.len() - 3] {
            let error = refusal(&bytes[..length]);
            assert!(matches!(error, ArchiveError::Truncated), "{compression}: {error}");
        }
        let mut damaged = bytes.clone();
        damaged[bytes.len() / 2] ^= 0x10;
        let error = refusal(&damaged);
        assert!(matches!(error, ArchiveError::Packing(..)), "{compression}: {error}");
    }
}

#[test]
fn an_archive_that_unpacks_to_more_than_it_may_is_refused() {
    let bytes = archive(|b| add(b, EntryType::Regular, b"zeros", b"", &vec![0; 10 << 20]));
    let limited = |bytes: &[u8], limit| {
        let reading = Reading { limit, ..Reading::default() };
        let mut outcome = None;
        let image = Image::write(|w| outcome = Some(archive::read(bytes, &reading, w, &Unwatched)));
        image.check();
        outcome.unwrap()
    };
    for bytes in [&bytes[..], &packed(&["gzip", "-c"], &bytes)] {
        let error = limited(bytes, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "the archive unpacks to more than 1048576 bytes");
        assert!(limited(bytes, 11 << 20).is_ok());
    }
}

#[test]
fn names_of_a_layer_that_take_away_are_no_files() {
    let lower = archive(|b| {
        for name in [&b"kept/file"[..], b"kept/gone", b"opaque/gone", b".wh.in-a-tree"] {
            add(b, EntryType::Regular, name, b"", b"x");
        }
    });
    let upper = archive(|b| {
        for name in
            [&b"kept/.wh.gone"[..], b"opaque/.wh..wh..opq", b".wh..wh.plnk/1.2", b".wh..wh.aufs", b"new"]
        {
            add(b, EntryType::Regular, name, b"", b"");
        }
    });
    let layer = Reading { meaning: archive::Meaning::Layer, ..Reading::default() };
    let image = Image::write(|w| {
        read(&lower, w).unwrap();
        w.next_layer().unwrap();
        archive::read(&upper[..], &layer, w, &Unwatched).unwrap();
        for bad in [&b".wh."[..], b"kept/.wh..", b"kept/.wh..."] {
            let bad = archive(|b| add(b, EntryType::Regular, bad, b"", b""));
            let refused = archive::read(&bad[..], &layer, w, &Unwatched);
            assert!(matches!(refused, Err(ArchiveError::Malformed(_))), "{refused:?}");
        }
    });
    image.check();
    let Some(mounted) = image.mount("names_of_a_layer_that_take_away") else { return };
    let names: Vec<_> = look(&mounted.at).into_keys().map(|name| String::from_utf8(name).unwrap()).collect();
    assert_eq!(names, ["", ".wh.in-a-tree", "kept", "kept/file", "new", "opaque"]);
}

#[test]
fn a_layer_may_be_empty_and_end_without_a_word() {
    let whole = archive(|b| add(b, EntryType::Regular, b"file", b"", &noise(1000, 1)));
    let layer = Reading { meaning: archive::Meaning::Layer, ..Reading::default() };
    for (bytes, names) in [
        (&[][..], &[""][..]),
        (&[0; 1024], &[""]),
        (&whole[..whole.len() - 1024], &["", "file"]),
        (&whole, &["", "file"]),
    ] {
        let image = Image::write(|w| assert!(archive::read(bytes, &layer, w, &Unwatched).is_ok()));
        image.check();
        let Some(mounted) = image.mount("a_layer_may_be_empty_and_end_without_a_word") else { return };
        let seen: Vec<_> =
            look(&mounted.at).into_keys().map(|name| String::from_utf8(name).unwrap()).collect();
        assert_eq!(seen, names);
    }
    Image::write(|w| {
        for length in [whole.len() - 1025, whole.len() - 1500, 300] {
            let cut = archive::read(&whole[..length], &layer, w, &Unwatched);
            assert!(matches!(cut, Err(ArchiveError::Truncated | ArchiveError::NotATar)), "{length}");
        }
    });
}

#[test]
fn what_is_no_whole_tar_is_said_so() {
    for (bytes, program) in [(&b"BZh9rest"[..], "bzip2"), (b"\x04\x22\x4d\x18rest", "lz4")] {
        let error = refusal(bytes);
        assert!(error.to_string().contains(&format!("compressed with {program}")), "{error}");
    }
    for bytes in [&b"\x1f\x8b\x08\0rest"[..], b"\x28\xb5\x2f\xfdrest", b"\xfd7zXZ\0rest"] {
        let error = refusal(bytes);
        assert!(matches!(error, ArchiveError::Packing(..) | ArchiveError::Truncated), "{error}");
    }
    for bytes in [&b""[..], b"hello", &noise(4096, 1), b"<html>".repeat(500).as_slice()] {
        assert!(matches!(refusal(bytes), ArchiveError::NotATar));
    }
    let whole = archive(|b| {
        add(b, EntryType::Directory, b"d/", b"", b"");
        add(b, EntryType::Regular, b"d/file", b"", &noise(3000, 2));
        add(b, EntryType::Regular, b"d/zeros", b"", &[0; 1024]);
    });
    assert_eq!(whole.len() % 512, 0);
    for length in (1..whole.len() - 1024).step_by(128) {
        let error = refusal(&whole[..length]);
        let expected = matches!(error, ArchiveError::Truncated)
            || (length < 512 && matches!(error, ArchiveError::NotATar));
        assert!(expected, "{length}: {error}");
    }
    let mut damaged = whole.clone();
    damaged[512] ^= 1;
    assert!(matches!(refusal(&damaged), ArchiveError::Malformed("a header's checksum is wrong")));
}

fn make_image(source: &ImageSource, destination: &Path) -> Result<BuiltRootfs, BuildError> {
    let options = BuildOptions::new(destination.parent().unwrap().to_owned());
    let content = Content::of(source, &options, &StdCommands, &Unwatched)?;
    build(&content, &options, destination, &StdCommands, &Unwatched)
}

#[test]
fn an_image_of_a_tar_is_published_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rootfs.tar");
    let destination = directory.path().join("images/one");
    let make = |bytes: &[u8], path: &Path| {
        std::fs::write(directory.path().join("rootfs.tar"), bytes).unwrap();
        make_image(&ImageSource::Tar(path.into()), &destination)
    };
    let whole = archive(|b| add(b, EntryType::Regular, b"init", b"", b"#!"));
    assert!(matches!(make(&whole[..700], &path), Err(BuildError::Archive { .. })));
    assert!(matches!(make(&whole, Path::new("rootfs.tar")), Err(BuildError::RelativePath(_))));
    assert!(matches!(make(&whole, Path::new("/nonexistent/x.tar")), Err(BuildError::Open(_))));
    let bzip2 = make(b"BZh9123", &path).unwrap_err();
    assert_eq!(bzip2.fix(), Some(format!("bunzip2 '{}'", path.display())));
    assert_eq!(std::fs::read_dir(directory.path().join("images")).unwrap().count(), 0);
    let built = make(&whole, &path).unwrap();
    assert_eq!(built.size, std::fs::metadata(destination.join("base.ext4")).unwrap().len());
    let json = std::fs::read(destination.join("config.json")).unwrap();
    assert_eq!(serde_json::from_slice::<BuiltRootfs>(&json).unwrap(), built);
    assert!(matches!(make(&whole, &path), Err(BuildError::Publish(_))));
}

#[test]
fn a_cancelled_read_says_so() {
    struct Cancelled;
    impl banger_core::work::Work for Cancelled {
        fn stage(&self, _: &str) {}
        fn progress(&self, _: u64, _: Option<u64>, _: banger_types::operation::Unit) {}
        fn log(&self, _: &str) {}
        fn check(&self) -> Result<(), banger_core::work::Cancelled> {
            Err(banger_core::work::Cancelled)
        }
        fn on_cancel(&self, _: Box<dyn FnOnce() + Send>) -> banger_core::work::CancelGuard {
            banger_core::work::CancelGuard::new(|| {})
        }
    }
    let bytes = archive(|b| add(b, EntryType::Regular, b"init", b"", b"#!"));
    Image::write(|w| {
        assert!(matches!(
            archive::read(&bytes[..], &Reading::default(), w, &Cancelled),
            Err(ArchiveError::Cancelled(_))
        ));
    });
}

/// One real image of Debian's packages, as it is made for users.
#[test]
fn real_debian_image() {
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().join("one");
    let source: ImageSource = "debian:bookworm+file".parse().unwrap();
    let built = make_image(&source, &destination).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(built.config.user, "dev");
    let image = Image { path: destination.join("base.ext4"), directory };
    image.check();
    let Some(Mounted { at }) = &image.mount("real_debian_image") else { return };
    let seen = look(at);
    for program in ["git", "curl", "sudo", "tmux", "rsync", "ssh", "less", "ps", "file", "systemctl"] {
        assert!(seen.contains_key(format!("usr/bin/{program}").as_bytes()), "{program}");
    }
    assert_eq!(seen[&b"usr/bin/sudo"[..]].mode, 0o4755);
    assert_eq!(seen[&b"dev/null"[..]].kind, SeenKind::Character(1, 3));
    assert!(matches!(&seen[&b"usr/sbin/init"[..]].kind, SeenKind::Link(_)));
    let text = |name: &str| {
        let mut text = String::new();
        std::fs::File::open(at.join(name)).unwrap().read_to_string(&mut text).unwrap();
        text
    };
    assert!(text("etc/passwd").contains("dev:x:1000:1000::/home/dev:/bin/bash"));
    assert!(text("etc/shadow").lines().all(|line| matches!(line.split(':').nth(1), Some("*" | "!" | "!*"))));
    assert_eq!(text("etc/sudoers.d/dev"), "dev ALL=(ALL:ALL) NOPASSWD: ALL\n");
    assert_eq!(seen[&b"etc/sudoers.d/dev"[..]].mode, 0o440);
    assert_eq!(seen[&b"home/dev/.bashrc"[..]].owner, (1000, 1000));
    assert_eq!(text("etc/machine-id"), "");
    assert!(!seen.contains_key(&b"etc/hostname"[..]) && !seen.contains_key(&b"etc/resolv.conf"[..]));
    let has =
        |prefix: &[u8], suffix: &[u8]| seen.keys().any(|k| k.starts_with(prefix) && k.ends_with(suffix));
    assert!(!has(b"var/lib/apt/lists/", b"Packages") && !has(b"var/cache/apt/", b".deb"));
    assert!(text("etc/apt/sources.list").contains("bookworm-security main"));
}
