//! What the host's administrator wants settings to be: sysctl.d(5).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where its files are. One in an earlier of them stands for those of its name in the later.
const DIRECTORIES: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];
/// The file that is read after all of them (sysctl(8), `--system`).
const LAST: &str = "/etc/sysctl.conf";

/// Returns what a setting is to be, if somebody has said so.
pub(super) fn wanted(setting: &str) -> Option<String> {
    wanted_in(&DIRECTORIES.map(PathBuf::from), Path::new(LAST), setting)
}

fn wanted_in(directories: &[PathBuf], last: &Path, setting: &str) -> Option<String> {
    let mut files: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in directories {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "conf") {
                files.entry(entry.file_name()).or_insert(path);
            }
        }
    }
    // The last that says something counts; one that cannot be read says nothing.
    let texts = [last.to_owned()].into_iter().chain(files.into_values().rev());
    texts.map(|path| std::fs::read_to_string(path).unwrap_or_default()).find_map(|text| value(&text, setting))
}

/// Returns what a file says of a setting: the last word counts.
fn value(text: &str, setting: &str) -> Option<String> {
    let meant = |line: &str| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (name, value) = line.split_once('=')?;
        // Without a word about what goes wrong.
        let name = name.trim().trim_start_matches('-');
        (path(name) == setting).then(|| value.trim().to_owned())
    };
    text.lines().rev().find_map(meant)
}

/// Returns a setting's path below `/proc/sys`. Where the first separator is a dot, dots and slashes change places.
fn path(name: &str) -> String {
    let is_dotted = name.find(['.', '/']).is_some_and(|first| name[first..].starts_with('.'));
    let swap = |character| match character {
        '.' if is_dotted => '/',
        '/' if is_dotted => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_all_files_counts() {
        let root = tempfile::tempdir().unwrap();
        let directories = ["etc", "usr"].map(|name| root.path().join(name));
        for directory in &directories {
            std::fs::create_dir(directory).unwrap();
        }
        let last = root.path().join("sysctl.conf");
        let wanted = || wanted_in(&directories, &last, "net/ipv4/ip_forward");
        let write = |path: PathBuf, text: &str| std::fs::write(path, text).unwrap();
        assert_eq!(wanted(), None);
        write(directories[1].join("50-a.conf"), "net.ipv4.ip_forward=0\n");
        write(directories[1].join("99-vpn.conf"), "-net/ipv4/ip_forward = 1\n");
        write(directories[1].join("99-z.txt"), "net.ipv4.ip_forward=7\n");
        assert_eq!(wanted().unwrap(), "1");
        write(directories[0].join("99-vpn.conf"), "# net.ipv4.ip_forward = 1\nnet.ipv4.ip_forwards = 3");
        assert_eq!(wanted().unwrap(), "0", "the later of the same name is not read");
        write(last.clone(), "; net.ipv4.ip_forward = 3\nnet.ipv4.ip_forward = 2\n net.ipv4.ip_forward=1");
        assert_eq!(wanted().unwrap(), "1");
    }

    #[test]
    fn names_have_dots_or_slashes() {
        assert_eq!(path("net.ipv4.conf.eth0/100.forwarding"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(path("net/ipv4/conf/eth0.100/forwarding"), "net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(path("kernel"), "kernel");
    }
}
