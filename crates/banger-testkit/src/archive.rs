//! Root file systems made by the tests.

use std::io::Write;
use std::path::Path;

/// Programs of busybox that tests use.
const APPLETS: &[&str] = &[
    "cat",
    "chmod",
    "dd",
    "df",
    "echo",
    "env",
    "false",
    "grep",
    "halt",
    "head",
    "hostname",
    "id",
    "ip",
    "kill",
    "ls",
    "mkdir",
    "mount",
    "nc",
    "nslookup",
    "ping",
    "poweroff",
    "printf",
    "ps",
    "pwd",
    "reboot",
    "rm",
    "route",
    "sh",
    "sha256sum",
    "sleep",
    "stat",
    "stty",
    "sync",
    "tail",
    "test",
    "touch",
    "true",
    "tty",
    "umount",
    "uname",
    "wc",
    "wget",
    "yes",
];

/// Users of the images: root, and one who is nobody in particular.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n";
const GROUP: &str = "root:x:0:\nalice:x:1000:\nwheel:x:10:alice\n";

struct Archive<W: Write>(tar::Builder<W>);

impl<W: Write> Archive<W> {
    fn entry(&mut self, path: &str, kind: tar::EntryType, mode: u32, owner: u64, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, path, content).expect("write an archive");
    }

    fn directory(&mut self, path: &str, mode: u32, owner: u64) {
        self.entry(path, tar::EntryType::Directory, mode, owner, &[]);
    }

    fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entry(path, tar::EntryType::Regular, mode, 0, content);
    }

    fn symlink(&mut self, path: &str, target: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        self.0.append_link(&mut header, path, target).expect("write an archive");
    }
}

/// Writes an archive with nothing but busybox, two users and a probe.
pub fn busybox_archive(path: &Path, probe: &Path) {
    let busybox = std::fs::read("/bin/busybox").expect("the package busybox-static");
    let probe = std::fs::read(probe).expect("the probe");
    let mut archive = Archive(tar::Builder::new(std::fs::File::create(path).expect("make an archive")));
    for directory in ["bin", "etc", "home", "tmp", "dev", "proc", "sys", "run"] {
        archive.directory(directory, if directory == "tmp" { 0o1777 } else { 0o755 }, 0);
    }
    archive.directory("root", 0o700, 0);
    archive.directory("home/alice", 0o755, 1000);
    archive.file("bin/busybox", 0o755, &busybox);
    archive.file("bin/probe", 0o755, &probe);
    for applet in APPLETS {
        archive.symlink(&format!("bin/{applet}"), "busybox");
    }
    archive.file("etc/passwd", 0o644, PASSWD.as_bytes());
    archive.file("etc/group", 0o644, GROUP.as_bytes());
    archive.0.finish().expect("finish an archive");
}

/// Writes an archive with a single static program and nothing else: no shell, no `/etc`.
pub fn probe_archive(path: &Path, probe: &Path) {
    let probe = std::fs::read(probe).expect("the probe");
    let mut archive = Archive(tar::Builder::new(std::fs::File::create(path).expect("make an archive")));
    archive.file("probe", 0o755, &probe);
    archive.0.finish().expect("finish an archive");
}
