//! Wrong input at the command line: refused with its exit code, what, why and what to do; nothing is lost or left.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use banger_testkit::Environment;
use tar::{Builder, EntryType, Header};

use crate::support::{SMALL, assert_left, names, refuse};

/// How many images and kernels a seed has.
const SEED: (usize, usize) = (3, 1);

#[test]
fn values_that_make_no_sense_are_refused_with_what_would() {
    let environment = Environment::with_fake_vmm();
    environment.succeed(&[&["vm", "create", "taken", "--no-start", "--disk", "1G"], &SMALL[..]].concat());
    let long = "a".repeat(300);
    let mut said = String::new();
    for (code, arguments) in [
        (4, ["vm", "create", "taken"].as_slice()),
        (2, &["vm", "create", "a/b"]),
        (2, &["vm", "create", ".."]),
        (2, &["vm", "create", "--", "-x"]),
        (2, &["vm", "create", &long]),
        (3, &["vm", "create", "x", "--image", "Nowhere"]),
        (2, &["vm", "create", "x", "--image", "nowhere:a b"]),
        (3, &["vm", "create", "x", "--kernel", "nowhere"]),
        (2, &["vm", "create", "x", "--memory", "1"]),
        (2, &["vm", "create", "x", "--memory", "much"]),
        (2, &["vm", "create", "x", "--vcpus", "0"]),
        (2, &["vm", "create", "x", "--disk", "0"]),
        (2, &["vm", "create", "x", "--disk", "1"]),
        (2, &["vm", "create", "x", "--disk", "17T"]),
        (2, &["vm", "create", "x", "--disk", "99999999999999T"]),
        (2, &["vm", "set", "taken", "--disk", "512M"]),
        (2, &["vm", "set", "taken", "--memory", "1"]),
        (2, &["vm", "rename", "taken", "a/b"]),
    ] {
        let shown = arguments.join(" ").replace(&long, "aaa…");
        writeln!(said, "$ banger {shown}\n{}", refuse(&environment, code, arguments).replace(&long, "aaa…"))
            .unwrap();
    }
    insta::assert_snapshot!(said, @"
    $ banger vm create taken
    error: cannot call a VM 'taken'
      because: the name is taken
      try: choose another name, or `banger vm rm taken`

    $ banger vm create a/b
    error: invalid value 'a/b' for '[NAME]': 'a/b' is not a VM name: use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends

    For more information, try '--help'.

    $ banger vm create ..
    error: invalid value '..' for '[NAME]': '..' is not a VM name: use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends

    For more information, try '--help'.

    $ banger vm create -- -x
    error: invalid value '-x' for '[NAME]': '-x' is not a VM name: use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends

    For more information, try '--help'.

    $ banger vm create aaa…
    error: invalid value 'aaa…' for '[NAME]': 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' is not a VM name: use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends

    For more information, try '--help'.

    $ banger vm create x --image Nowhere
    error: there is no image named 'Nowhere'
      because: 'Nowhere' is not the name of an image in a registry: its parts are lower-case letters and digits, with one '.', one or two '_', or any '-' between them
      try: `banger image ls` shows those that are here, `banger image catalog` those that can be had by name

    $ banger vm create x --image nowhere:a b
    error: there is no image named 'nowhere:a b'
      because: 'nowhere:a b' is not the name of an image in a registry: its tag is not 1 to 128 letters, digits, '_', '.' and '-', the first no '.' or '-'
      try: `banger image ls` shows those that are here, `banger image catalog` those that can be had by name

    $ banger vm create x --kernel nowhere
    error: there is no kernel named 'nowhere'
      because: 'nowhere' is not a kernel source; write debian:SUITE, as in debian:bookworm, or https://…#sha256=DIGITS
      try: `banger kernel ls` shows those that are here, `banger kernel catalog` those that can be had by name

    $ banger vm create x --memory 1
    error: cannot create 'x'
      because: 1M of memory is less than 128M
      try: --memory 128M, or more; without a unit it is MiB

    $ banger vm create x --memory much
    error: invalid value 'much' for '--memory <SIZE>': 'much' is not a size; write a number with M, G or T, as in 512M or 2G

    For more information, try '--help'.

    $ banger vm create x --vcpus 0
    error: invalid value '0' for '--vcpus <N>': 0 is not in 1..=4294967295

    For more information, try '--help'.

    $ banger vm create x --disk 0
    error: invalid value '0' for '--disk <SIZE>': '0' is not a whole, positive number of MiB

    For more information, try '--help'.

    $ banger vm create x --disk 1
    error: cannot create 'x'
      because: a disk of 1M is not between 64M and 15T
      try: --disk with a size as 20G; it takes space only as it fills

    $ banger vm create x --disk 17T
    error: cannot create 'x'
      because: a disk of 17T is not between 64M and 15T
      try: --disk with a size as 20G; it takes space only as it fills

    $ banger vm create x --disk 99999999999999T
    error: invalid value '99999999999999T' for '--disk <SIZE>': '99999999999999T' is not a whole, positive number of MiB

    For more information, try '--help'.

    $ banger vm set taken --disk 512M
    error: cannot change 'taken'
      because: its disk has 1G and can only grow, not shrink to 512M
      try: create another VM with a smaller disk, and copy what is needed with `banger vm cp`

    $ banger vm set taken --memory 1
    error: cannot change 'taken'
      because: 1M of memory is less than 128M
      try: --memory 128M, or more; without a unit it is MiB

    $ banger vm rename taken a/b
    error: invalid value 'a/b' for '<NEW>': 'a/b' is not a VM name: use 1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends

    For more information, try '--help'.
    ");
    assert_eq!(environment.vm("taken")["spec"]["disk"], 1024);
    assert_left(&environment, 1, SEED.0, SEED.1);
}

#[test]
fn more_than_the_host_has_is_refused() {
    let environment = Environment::with_fake_vmm();
    environment.succeed(&[&["vm", "create", "taken", "--no-start"], &SMALL[..]].concat());
    for (arguments, words) in [
        (["vm", "create", "x", "--memory", "9T"], "because: 9T of memory is more than this host's "),
        (
            ["vm", "create", "x", "--vcpus", "4096"],
            "because: 4096 virtual CPUs is not between 1 and this host's ",
        ),
        (
            ["vm", "set", "taken", "--vcpus", "4096"],
            "because: 4096 virtual CPUs is not between 1 and this host's ",
        ),
    ] {
        let said = refuse(&environment, 2, &arguments);
        assert!(said.contains(words), "{said}");
    }
    assert_left(&environment, 1, SEED.0, SEED.1);
}

#[test]
fn a_disk_that_could_outgrow_its_host_is_a_warning() {
    let environment = Environment::with_fake_vmm();
    let created =
        environment.run(&[&["vm", "create", "large", "--disk", "15T", "--no-start"], &SMALL[..]].concat());
    assert_eq!(created.code, 0, "{}", created.stderr);
    let warning = "the disk of 15T may still grow by 16.4 TB, and the host's file system has";
    assert!(created.stderr.contains(&format!("warning: {warning}")), "{}", created.stderr);
    let shown = environment.vm("large");
    assert!(shown["warnings"][0].as_str().unwrap().starts_with(warning), "{shown}");
    assert!(shown["disk_usage"].as_u64().unwrap() < 64 << 20, "it takes next to nothing yet: {shown}");
}

/// An entry of an archive, as it is on the disk: none of its values is looked at.
struct Entry<'a> {
    kind: EntryType,
    name: &'a [u8],
    link: &'a [u8],
    content: &'a [u8],
    /// The size that it claims to have.
    size: u64,
}

fn entry<'a>(kind: EntryType, name: &'a str, link: &'a str) -> Entry<'a> {
    Entry { kind, name: name.as_bytes(), link: link.as_bytes(), content: b"", size: 0 }
}

fn file<'a>(name: &'a str, content: &'a [u8]) -> Entry<'a> {
    Entry { content, size: content.len() as u64, ..entry(EntryType::Regular, name, "") }
}

fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(entry.size);
        header.as_old_mut().name[..entry.name.len()].copy_from_slice(entry.name);
        header.as_old_mut().linkname[..entry.link.len()].copy_from_slice(entry.link);
        if matches!(entry.kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        builder.append(&header, entry.content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn archives_that_are_none_and_hostile_ones_are_refused_and_leave_nothing() {
    let environment = Environment::with_fake_vmm();
    let path = environment.data().with_file_name("hostile.tar");
    let source = format!("tar:{}", path.display());
    let whole = archive(&[file("a", &[b'x'; 5000])]);
    let escape = "../../../../../../../../../../../../tmp/banger-escaped";
    let huge = Entry { size: 1 << 62, ..file("huge", b"x") };
    environment.succeed(&["daemon", "start"]);
    let daemon = environment.daemon_pid();
    let mut said = String::new();
    for (case, bytes) in [
        ("truncated in a file", whole[..2000].to_vec()),
        ("truncated in a header", whole[..300].to_vec()),
        ("a text", b"this is no archive\n".repeat(100)),
        ("nothing", Vec::new()),
        ("a name with ..", archive(&[file(escape, b"x")])),
        ("a name with .. within", archive(&[file("/a/../../b", b"x")])),
        ("a hard link out", archive(&[entry(EntryType::Link, "a", escape)])),
        ("a hard link to the host's", archive(&[entry(EntryType::Link, "a", "/etc/shadow")])),
        ("a file through links in a circle", {
            archive(&[
                entry(EntryType::Symlink, "out", "back"),
                entry(EntryType::Symlink, "back", "out"),
                file("out/banger-escaped", b"x"),
            ])
        }),
        ("a size beyond all", archive(&[huge])),
        ("a name of lines", archive(&[file("a\nerror: b\x1b[2J/../c", b"x")])),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let text = refuse(&environment, 1, &["image", "pull", &source, "--name", "bad"]);
        writeln!(said, "{case}\n{}", text.replace(path.to_str().unwrap(), "[TAR]")).unwrap();
        assert_left(&environment, 0, SEED.0, SEED.1);
    }
    insta::assert_snapshot!(said, @r"
    truncated in a file
    error: cannot make the image 'bad'
      because: cannot use the archive '[TAR]'
      because: the archive is truncated
      try: get or make the archive anew; `tar -tvf` shows how far it is whole

    truncated in a header
    error: cannot make the image 'bad'
      because: cannot use the archive '[TAR]'
      because: this is not a tar archive
      try: make one of a directory: tar -cf FILE.tar -C DIRECTORY .

    a text
    error: cannot make the image 'bad'
      because: cannot use the archive '[TAR]'
      because: this is not a tar archive
      try: make one of a directory: tar -cf FILE.tar -C DIRECTORY .

    nothing
    error: cannot make the image 'bad'
      because: cannot use the archive '[TAR]'
      because: this is not a tar archive
      try: make one of a directory: tar -cf FILE.tar -C DIRECTORY .

    a name with ..
    error: cannot make the image 'bad'
      because: cannot use the archive '[TAR]'
      because: the archive has an entry that cannot be part of a root file system
      because: the path '../../../../../../../../../../../../tmp/banger-escaped' contains '..'
      try: make it of a directory with: tar -cf FILE.tar -C DIRECTORY . (names within it, without '..')

    a name with .. within
    error: cannot make the image 'bad'
      because: cannot use the archive '[TAR]'
      because: the archive has an entry that cannot be part of a root file system
      because: the path '/a/../../b' contains '..'
      try: make it of a directory with: tar -cf FILE.tar -C DIRECTORY . (names within it, without '..')

    a hard link out
    error: cannot make the image 'bad'
      because: cannot use the archive '[TAR]'
      because: the archive has an entry that cannot be part of a root file system
      because: the path '../../../../../../../../../../../../tmp/banger-escaped' contains '..'
      try: make it of a directory with: tar -cf FILE.tar -C DIRECTORY . (names within it, without '..')

    a hard link to the host's
    error: cannot make the image 'bad'
      because: cannot use the archive '[TAR]'
      because: cannot make the hard link '/a': there is no '/etc/shadow'

    a file through links in a circle
    error: cannot make the image 'bad'
      because: cannot use the archive '[TAR]'
      because: cannot make '/out/banger-escaped': more than 40 symbolic links are on the way

    a size beyond all
    error: cannot make the image 'bad'
      because: cannot use the archive '[TAR]'
      because: cannot add '/huge': a file has at most 16 TiB

    a name of lines
    error: cannot make the image 'bad'
      because: cannot use the archive '[TAR]'
      because: the archive has an entry that cannot be part of a root file system
      because: the path 'a\nerror: b\u{1b}[2J/../c' contains '..'
      try: make it of a directory with: tar -cf FILE.tar -C DIRECTORY . (names within it, without '..')
    ");
    assert!(!Path::new("/tmp/banger-escaped").exists());
    assert_eq!(environment.daemon_pid(), daemon, "the daemon went on");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_leads_out_of_an_archive_leads_nowhere_but_into_the_image() {
    let environment = Environment::with_fake_vmm();
    let path = environment.data().with_file_name("odd.tar");
    let odd = "name\nof lines";
    std::fs::write(
        &path,
        archive(&[
            file("/etc/absolute", b"absolute"),
            entry(EntryType::Symlink, "shadow", "../../../../etc/shadow"),
            // What goes through links stays within, as it would for a process whose root this is.
            entry(EntryType::Symlink, "out", "/tmp"),
            file("out/banger-escaped", b"within"),
            entry(EntryType::Symlink, "up", "../../../../../../tmp"),
            file("up/banger-climbed", b"within"),
            entry(EntryType::Char, "null", ""),
            file(odd, b"odd"),
        ]),
    )
    .unwrap();
    environment.succeed(&["image", "pull", &format!("tar:{}", path.display()), "--name", "odd"]);
    for path in ["/etc/absolute", "/tmp/banger-escaped", "/tmp/banger-climbed"] {
        assert!(!Path::new(path).exists(), "{path}");
    }
    let images = environment.run(&["image", "ls", "--json"]).json();
    let image = images.as_array().unwrap().iter().find(|image| image["name"] == "odd").unwrap();
    let base = environment.data().join("images").join(image["id"].as_str().unwrap()).join("base.ext4");
    let see = |request: &str| {
        let outcome =
            environment.outcome(environment.command("/sbin/debugfs").args(["-R", request]).arg(&base));
        outcome.text()
    };
    assert_eq!(see("cat /etc/absolute"), "absolute");
    assert_eq!(
        (see("cat /tmp/banger-escaped"), see("cat /tmp/banger-climbed")),
        ("within".into(), "within".into())
    );
    let link = see("stat /shadow");
    assert!(link.contains("symlink") && link.contains("\"../../../../etc/shadow\""), "{link}");
    assert!(see("stat /null").contains("character special"), "{}", see("stat /null"));
    let checked = environment.outcome(environment.command("/sbin/e2fsck").args(["-fn"]).arg(&base));
    assert_eq!(checked.code, 0, "{}", checked.text());
    let mut bytes = Vec::new();
    std::fs::File::open(&base).unwrap().read_to_end(&mut bytes).unwrap();
    assert!(bytes.windows(odd.len()).any(|window| window == odd.as_bytes()), "the name is as it was");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_source_that_cannot_be_read_is_said_so() {
    let environment = Environment::with_fake_vmm();
    environment.succeed(&["daemon", "start"]);
    let directory = environment.data().join("vms");
    let mut said = String::new();
    for source in ["/nonexistent.tar", directory.to_str().unwrap(), "/dev/null"] {
        let arguments = ["image", "pull", &format!("tar:{source}"), "--name", "bad"];
        writeln!(said, "{}", refuse(&environment, 1, &arguments)).unwrap();
    }
    insta::assert_snapshot!(said, @"
    error: cannot make the image 'bad'
      because: cannot open the archive
      because: failed to open file `/nonexistent.tar`: No such file or directory (os error 2)
      try: see that the path is that of a file which you may read

    error: cannot make the image 'bad'
      because: cannot use the archive '[DATA]/vms'
      because: cannot read the archive
      because: failed to read from file `[DATA]/vms`: Is a directory (os error 21)
      try: see that the path is that of a file which you may read

    error: cannot make the image 'bad'
      because: cannot use the archive '/dev/null'
      because: this is not a tar archive
      try: make one of a directory: tar -cf FILE.tar -C DIRECTORY .
    ");
    assert_eq!(environment.succeed(&["image", "ls", "-q"]).lines().count(), SEED.0);
    assert_eq!(names(&environment.data().join("images")).len(), SEED.0);
}
