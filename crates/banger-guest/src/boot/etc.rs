//! Host name, hosts and resolver: the files in `/etc` that a machine has and an image cannot know.
//!
//! What the guest's owner has changed stays as it is: a file in the overlay's upper layer that we did not write is
//! theirs. What the image brought along (often the file of the machine that built it) is replaced.

use banger_types::guest::{GuestConfig, GuestNetwork};

use super::root::RootDirectory;
use crate::log;

/// First line of the files that are ours.
const MARK: &str = "# Written by banger at boot.";
/// Longest file that is read, bytes.
const LIMIT: u64 = 1 << 20;

/// Sets the host name and writes the files. `changed` is the overlay's upper layer.
pub(super) fn configure(root: &RootDirectory, changed: Option<&RootDirectory>, config: &GuestConfig) {
    if let Err(error) = rustix::system::sethostname(config.hostname.as_bytes()) {
        log!("cannot set the host name: {error}");
    }
    let owners = |path: &str| changed.is_some_and(|upper| belongs_to_owner(upper, path));
    if !owners("/etc/hostname") {
        write(root, "/etc/hostname", &format!("{}\n", config.hostname));
    }
    let hosts = root.read("/etc/hosts", LIMIT).unwrap_or_default();
    if let Some(hosts) = complete_hosts(&String::from_utf8_lossy(&hosts), &config.hostname) {
        write(root, "/etc/hosts", &hosts);
    }
    if let Some(network) = &config.network
        && !network.nameservers.is_empty()
        && !owners("/etc/resolv.conf")
    {
        // Often a link to a file that systemd-resolved makes. We replace the link: resolved then takes its servers
        // from our file, and an image without a running resolved resolves, too.
        write(root, "/etc/resolv.conf", &resolver(network));
    }
}

fn write(root: &RootDirectory, path: &str, text: &str) {
    // At every boot but the first it is there already: then nothing is written to the disk.
    if !root.is_link(path) && root.read(path, LIMIT).is_ok_and(|present| present == text.as_bytes()) {
        return;
    }
    if let Err(error) = root.write(path, text.as_bytes(), 0o644) {
        log!("cannot write {path}: {error}");
    }
}

/// Returns whether the upper layer has this file, and not from us.
fn belongs_to_owner(upper: &RootDirectory, path: &str) -> bool {
    match upper.read(path, LIMIT) {
        Ok(contents) => !contents.starts_with(MARK.as_bytes()),
        // A link that leads nowhere in the upper layer alone, perhaps into the image.
        Err(_) => upper.has(path),
    }
}

/// Returns the hosts file with what it lacks; `None` when it lacks nothing.
fn complete_hosts(present: &str, hostname: &str) -> Option<String> {
    let names = |wanted: &str| {
        present.lines().any(|line| {
            let entry = line.split('#').next().unwrap_or_default();
            entry.split_whitespace().skip(1).any(|name| name == wanted)
        })
    };
    let mut added = String::new();
    if !names("localhost") {
        added.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    }
    if !names(hostname) {
        added.push_str("127.0.1.1\t");
        added.push_str(hostname);
        added.push('\n');
    }
    if added.is_empty() {
        return None;
    }
    let separator = if present.is_empty() || present.ends_with('\n') { "" } else { "\n" };
    Some(format!("{present}{separator}{added}"))
}

/// Returns the resolver's configuration (resolv.conf(5)).
fn resolver(network: &GuestNetwork) -> String {
    let mut text = format!("{MARK} Changes are kept when this line is removed.\n");
    if !network.search.is_empty() {
        text.push_str("search ");
        text.push_str(&network.search.join(" "));
        text.push('\n');
    }
    for server in &network.nameservers {
        text.push_str("nameserver ");
        text.push_str(server);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_gets_only_what_it_lacks() {
        assert_eq!(complete_hosts("127.0.0.1 localhost dev\n", "dev"), None);
        assert_eq!(
            complete_hosts("127.0.0.1 localhost", "dev").unwrap(),
            "127.0.0.1 localhost\n127.0.1.1\tdev\n"
        );
        let fresh = complete_hosts("# localhost dev\n", "dev").unwrap();
        assert!(fresh.contains("127.0.0.1\tlocalhost\n") && fresh.contains("127.0.1.1\tdev\n"), "{fresh}");
    }

    #[test]
    fn a_file_is_the_owners_when_it_is_in_the_upper_layer_and_not_marked() {
        let directory = tempfile::tempdir().unwrap();
        let upper = RootDirectory::open(directory.path().canonicalize().unwrap()).unwrap();
        assert!(!belongs_to_owner(&upper, "/etc/resolv.conf"));
        let network = GuestNetwork {
            mac: String::new(),
            mtu: 1500,
            addresses: vec![],
            gateways: vec![],
            nameservers: vec!["10.0.2.3".to_owned()],
            search: vec!["a.example".to_owned(), "b.example".to_owned()],
        };
        upper.write("/etc/resolv.conf", resolver(&network).as_bytes(), 0o644).unwrap();
        assert!(!belongs_to_owner(&upper, "/etc/resolv.conf"));
        upper.write("/etc/resolv.conf", b"nameserver 1.1.1.1\n", 0o644).unwrap();
        assert!(belongs_to_owner(&upper, "/etc/resolv.conf"));
        upper.link("/etc/link", "../run/nowhere").unwrap();
        assert!(belongs_to_owner(&upper, "/etc/link"));
    }

    #[test]
    fn the_resolver_file_is_of_its_format() {
        let network = GuestNetwork {
            mac: String::new(),
            mtu: 1500,
            addresses: vec![],
            gateways: vec![],
            nameservers: vec!["10.0.2.3".to_owned(), "fd00::3".to_owned()],
            search: vec!["a.example".to_owned(), "b.example".to_owned()],
        };
        let text = resolver(&network);
        assert!(
            text.ends_with("search a.example b.example\nnameserver 10.0.2.3\nnameserver fd00::3\n"),
            "{text}"
        );
    }
}
