//! `/etc/passwd` and `/etc/group`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Longest file that is read, bytes.
const LIMIT: u64 = 4 << 20;
/// Most supplementary groups that the kernel takes (`NGROUPS_MAX`, limits.h).
const MOST_GROUPS: usize = 65_536;
/// Of users whose entry names none.
const DEFAULT_SHELL: &str = "/bin/sh";

/// Who a session runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name; its number when it has none.
    pub name: OsString,
    /// The user's number.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// All supplementary groups; the primary one is among them.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
    /// Whether there is an entry in `/etc/passwd`.
    pub has_entry: bool,
}

/// Why nobody can log in under a name.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// There is no such user.
    #[error("the image has no user '{0}'")]
    NoUser(String),
    /// There is no such group.
    #[error("the image has no group '{0}'")]
    NoGroup(String),
    /// A file could not be read. A missing one counts as empty.
    #[error("cannot read {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Looks up a user in the image whose `/etc` is `etc`. `user` is `name`, `uid`, `name:group` or `uid:gid` (OCI image-spec,
/// config.md, `User`); empty is root.
///
/// A number without an entry is a user as well, at home in `/`, with group 0. When a group is given, it is the only one.
pub fn find(etc: &Path, user: &str) -> Result<Login, LoginError> {
    let passwd = read(&etc.join("passwd"))?;
    let group = read(&etc.join("group"))?;
    resolve(&passwd, &group, user)
}

/// Returns a group's number.
pub fn group_number(etc: &Path, name: &str) -> Option<u32> {
    let group = read(&etc.join("group")).ok()?;
    let mut lines = group.split(|&byte| byte == b'\n').filter_map(parse_group);
    lines.find(|(known, _, _)| *known == name.as_bytes()).map(|(_, gid, _)| gid)
}

fn read(path: &Path) -> Result<Vec<u8>, LoginError> {
    let wrap = |source| LoginError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrap(error)),
    };
    let mut contents = Vec::new();
    file.take(LIMIT).read_to_end(&mut contents).map_err(wrap)?;
    Ok(contents)
}

fn resolve(passwd: &[u8], group: &[u8], user: &str) -> Result<Login, LoginError> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, (!group.is_empty()).then_some(group)),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let mut login = find_user(passwd, user)?;
    if let Some(wanted) = wanted_group {
        login.gid = find_group(group, wanted)?;
        login.groups = vec![login.gid];
    } else {
        login.groups = groups_of(group, &login);
    }
    Ok(login)
}

/// Returns the entry of this name, else of this number, else a user without entry for the number.
fn find_user(passwd: &[u8], user: &str) -> Result<Login, LoginError> {
    // Every kernel has a root, whether the image has heard of it or not.
    let number: Option<u32> = if user == "root" { Some(0) } else { parse_number(user.as_bytes()) };
    let mut by_number = None;
    for line in passwd.split(|&byte| byte == b'\n') {
        let Some(entry) = parse_user(line) else { continue };
        if entry.name.as_encoded_bytes() == user.as_bytes() {
            return Ok(entry);
        }
        if by_number.is_none() && number == Some(entry.uid) {
            by_number = Some(entry);
        }
    }
    match (by_number, number) {
        (Some(entry), _) => Ok(entry),
        (None, Some(uid)) => Ok(Login {
            name: OsString::from(if uid == 0 { "root" } else { user }),
            uid,
            gid: 0,
            groups: Vec::new(),
            home: PathBuf::from("/"),
            shell: PathBuf::from(DEFAULT_SHELL),
            has_entry: false,
        }),
        (None, None) => Err(LoginError::NoUser(user.to_owned())),
    }
}

/// Reads `name:password:uid:gid:comment:home:shell`.
fn parse_user(line: &[u8]) -> Option<Login> {
    let mut fields = line.split(|&byte| byte == b':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.contains(&0))?;
    let uid = parse_number(fields.nth(1)?)?;
    let gid = parse_number(fields.next()?)?;
    let home = fields.nth(1).unwrap_or_default();
    let shell = fields.next().unwrap_or_default();
    let path = |bytes: &[u8], default: &str| {
        let usable = bytes.starts_with(b"/") && !bytes.contains(&0);
        PathBuf::from(if usable { OsString::from_vec(bytes.to_vec()) } else { OsString::from(default) })
    };
    Some(Login {
        name: OsString::from_vec(name.to_vec()),
        uid,
        gid,
        groups: Vec::new(),
        home: path(home, "/"),
        shell: path(shell, DEFAULT_SHELL),
        has_entry: true,
    })
}

/// Reads `name:password:gid:members`.
fn parse_group(line: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    let mut fields = line.split(|&byte| byte == b':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = parse_number(fields.nth(1)?)?;
    Some((name, gid, fields.next().unwrap_or_default()))
}

fn find_group(group: &[u8], wanted: &str) -> Result<u32, LoginError> {
    let mut lines = group.split(|&byte| byte == b'\n').filter_map(parse_group);
    lines
        .find(|(name, _, _)| *name == wanted.as_bytes())
        .map(|(_, gid, _)| gid)
        .or_else(|| parse_number(wanted.as_bytes()))
        .ok_or_else(|| LoginError::NoGroup(wanted.to_owned()))
}

fn groups_of(group: &[u8], login: &Login) -> Vec<u32> {
    let mut groups = vec![login.gid];
    if login.has_entry {
        let name = login.name.as_encoded_bytes();
        let lines = group.split(|&byte| byte == b'\n').filter_map(parse_group);
        let member =
            lines.filter(|(_, _, members)| members.split(|&byte| byte == b',').any(|one| one == name));
        groups.extend(member.map(|(_, gid, _)| gid));
    }
    groups.sort_unstable();
    groups.dedup();
    groups.truncate(MOST_GROUPS);
    groups
}

/// Reads a user's or group's number: decimal digits alone. The largest means "no user" to the kernel (chown(2)).
fn parse_number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        # a comment\n\
        broken line\n\
        dev:x:1000:1000:Dev,,,:/home/dev:/bin/zsh\n\
        2000:x:3000:3000::/home/two:\n\
        odd\xff:x:4000:4000::relative:/bin/sh\n\
        last:x:5000:5000::/home/last:/bin/sh";
    const GROUP: &[u8] =
        b"root:x:0:\nsudo:x:27:dev,other\ndev:x:1000:\ndocker:x:999:other,dev\nxdev:x:77:xdev\n";

    fn get(user: &str) -> Login {
        resolve(PASSWD, GROUP, user).unwrap()
    }

    #[test]
    fn a_name_has_its_entry_and_all_its_groups() {
        let login = get("dev");
        assert_eq!((login.uid, login.gid), (1000, 1000));
        assert_eq!(login.groups, [27, 999, 1000]);
        assert_eq!(login.home, Path::new("/home/dev"));
        assert_eq!(login.shell, Path::new("/bin/zsh"));
        assert_eq!(get("last").uid, 5000, "the last line needs no newline");
    }

    #[test]
    fn a_number_is_a_user_with_or_without_an_entry() {
        assert_eq!(get("1000"), get("dev"));
        let nobody = get("12345");
        assert_eq!((nobody.uid, nobody.gid, nobody.has_entry), (12345, 0, false));
        assert_eq!(nobody.home, Path::new("/"));
        assert_eq!(nobody.shell, Path::new("/bin/sh"));
        assert_eq!(get("2000").uid, 3000, "a name wins over a number");
        assert_eq!(get(""), get("root"));
        for root in ["", "0", "root"] {
            let login = resolve(b"", b"", root).unwrap();
            assert_eq!(
                (login.name.to_str(), login.uid),
                (Some("root"), 0),
                "an image without any file has root"
            );
        }
    }

    #[test]
    fn a_group_that_is_given_is_the_only_one() {
        let login = get("dev:docker");
        assert_eq!((login.uid, login.gid, login.groups), (1000, 999, vec![999]));
        assert_eq!(get("1000:4711").groups, [4711]);
        assert_eq!(get("dev:").groups, get("dev").groups);
        assert!(
            matches!(resolve(PASSWD, GROUP, "dev:nope"), Err(LoginError::NoGroup(name)) if name == "nope")
        );
    }

    #[test]
    fn unknown_names_and_strange_entries_are_nobody() {
        for user in ["nope", "dev2", "-1", "4294967295", "99999999999", "broken line", "# a comment", "+5"] {
            assert!(matches!(resolve(PASSWD, GROUP, user), Err(LoginError::NoUser(_))), "{user}");
        }
        assert_eq!(find_user(PASSWD, "4000").unwrap().home, Path::new("/"), "a relative home is none");
        assert_eq!(get("2000").shell, Path::new("/bin/sh"));
    }

    #[test]
    fn root_needs_no_entry() {
        let login = find_user(b"", "root").unwrap();
        assert_eq!((login.uid, login.gid, login.has_entry), (0, 0, false));
        assert!(matches!(find_user(b"", "alice"), Err(LoginError::NoUser(_))));
    }
}
