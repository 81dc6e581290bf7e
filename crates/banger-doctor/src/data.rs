//! What banger keeps, and where.

use std::path::PathBuf;

use banger_types::doctor::{Finding, FixStep};
use banger_types::size::binary_bytes;

use crate::check::{DATA, DATABASE, IMAGE, LEFTOVERS, advice, joined, steps};

/// Less than this free is too little for a VM to live in, bytes.
const NOTHING: u64 = 256 << 20;
/// Less than this free is a warning, bytes: an image and a VM want some.
const LITTLE: u64 = 4 << 30;
/// Fewer files that could still be made than this are a warning.
const FEW_FILES: u64 = 10_000;

/// What was seen of the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFacts {
    /// The directory.
    pub path: PathBuf,
    /// What its user may still write there, bytes; `None` if that cannot be told.
    pub free: Option<u64>,
    /// How many files can still be made there; `None` where there is no bound.
    pub free_files: Option<u64>,
    /// The file system.
    pub kind: FileSystemKind,
    /// Whether files there share blocks with their copies (`FICLONE` of `ioctl_ficlone(2)`).
    pub has_reflinks: bool,
    /// Why nothing can be written there.
    pub problem: Option<String>,
    /// Files there that are another user's: the first of them.
    pub of_others: Vec<PathBuf>,
}

/// Kinds of file systems, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystemKind {
    /// One on a disk of this host.
    Disk,
    /// One in memory, which is gone with the host's end.
    Memory,
    /// One of another host, whose locks and syncs mean what that host makes of them.
    Network,
}

/// Judges the data directory.
pub fn data(facts: &DataFacts) -> Finding {
    let path = facts.path.display();
    if let Some(problem) = &facts.problem {
        return DATA.failure(
            format!("nothing can be written to {path}: {problem}"),
            advice("make it your own, or set BANGER_DATA_DIR to a directory that is"),
        );
    }
    let room = match facts.free {
        None => DATA.warning("it cannot be told how much is free", None),
        Some(free) if free < NOTHING => DATA.failure(
            format!("only {} are free in {path}: guests that write are paused", binary_bytes(free)),
            advice("`banger system prune`, or make room otherwise"),
        ),
        Some(free) if free < LITTLE => DATA.warning(
            format!("only {} are free in {path}", binary_bytes(free)),
            advice("`banger system prune`, or make room otherwise"),
        ),
        Some(free) => {
            let shares = if facts.has_reflinks { ", and copies share their blocks" } else { "" };
            DATA.ok(format!("{} are free in {path}{shares}", binary_bytes(free)))
        }
    };
    let files = match facts.free_files {
        Some(files) if files < FEW_FILES => DATA.warning(
            format!("its file system takes only {files} more files"),
            advice("delete files there, or set BANGER_DATA_DIR to a directory of another file system"),
        ),
        _ => DATA.ok("it takes files enough"),
    };
    let kind = match facts.kind {
        FileSystemKind::Disk => DATA.ok("it is on a disk"),
        FileSystemKind::Memory => DATA.warning(
            format!("{path} is in memory: VMs are lost when this host ends"),
            advice("set BANGER_DATA_DIR to a directory on a disk"),
        ),
        FileSystemKind::Network => DATA.warning(
            format!("{path} is on another host, whose syncs VMs' data hangs on"),
            advice("set BANGER_DATA_DIR to a directory on a disk of this host"),
        ),
    };
    let owner = match &facts.of_others[..] {
        [] => DATA.ok("all of it is yours"),
        [first, rest @ ..] => DATA.failure(
            format!("{} and {} more there are another user's", first.display(), rest.len()),
            advice(format!("give it back to yourself: `sudo chown -R $USER {path}`")),
        ),
    };
    let mut found = joined(DATA, vec![room.clone(), files, kind, owner]);
    if found.severity == banger_types::doctor::Severity::Ok {
        found.detail = room.detail;
    }
    found
}

/// What was seen of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseFacts {
    /// There is none yet.
    Missing,
    /// It is whole.
    Whole,
    /// It is of a newer banger.
    Newer(String),
    /// It is damaged; what SQLite said.
    Damaged(String),
    /// It cannot be read.
    Unreadable(String),
}

/// Judges the database.
pub fn database(facts: &DatabaseFacts, path: &std::path::Path) -> Finding {
    match facts {
        DatabaseFacts::Missing => DATABASE.ok("there is none yet"),
        DatabaseFacts::Whole => DATABASE.ok("it is whole"),
        DatabaseFacts::Newer(why) => DATABASE.failure(why.clone(), advice("use that newer version; nothing was changed")),
        DatabaseFacts::Damaged(why) => DATABASE.failure(
            format!("it is damaged: {why}"),
            advice(format!(
                "put a copy from a backup in its place, or begin with an empty list: `banger daemon stop`, then move '{0}', '{0}-wal' and '{0}-shm' away; VMs' disks stay",
                path.display()
            )),
        ),
        DatabaseFacts::Unreadable(why) => DATABASE.failure(format!("it cannot be read: {why}"), None),
    }
}

/// What belongs to nothing that there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LeftoverFacts {
    /// Processes of VMs that there are not, each by its number and its name.
    pub processes: Vec<(u32, String)>,
    /// Devices and bridges that the root helper has made, and nobody uses.
    pub devices: Vec<String>,
    /// Files in the data directory that nobody knows.
    pub files: Vec<PathBuf>,
    /// Folders of VMs that the database does not know, each with a disk: never deleted.
    pub unknown_vms: Vec<PathBuf>,
    /// VMs whose folder is gone.
    pub lost_vms: Vec<String>,
}

/// Judges leftovers.
pub fn leftovers(facts: &LeftoverFacts) -> Finding {
    let mut parts = Vec::new();
    // What a start of the daemon finds it sweeps.
    let restart =
        || steps("`banger daemon restart` takes them away", [FixStep::run(["banger", "daemon", "restart"])]);
    if !facts.processes.is_empty() {
        let named = facts
            .processes
            .iter()
            .map(|(pid, name)| format!("{name} ({pid})"))
            .collect::<Vec<_>>()
            .join(", ");
        // By number, which another process may have by the time that somebody has been asked: so it is not done by itself.
        let look = advice("look at them, and end them");
        parts.push(LEFTOVERS.warning(format!("processes of VMs that there are not: {named}"), look));
    }
    if !facts.devices.is_empty() {
        parts.push(
            LEFTOVERS.warning(format!("devices that nobody uses: {}", facts.devices.join(", ")), restart()),
        );
    }
    if !facts.files.is_empty() {
        parts.push(
            LEFTOVERS.warning(format!("files that belong to nothing: {}", listed(&facts.files)), restart()),
        );
    }
    if !facts.unknown_vms.is_empty() {
        parts.push(LEFTOVERS.warning(
            format!("folders of VMs that the database does not know: {}", listed(&facts.unknown_vms)),
            advice("look at them, and delete those that you do not need"),
        ));
    }
    if !facts.lost_vms.is_empty() {
        parts.push(LEFTOVERS.failure(
            format!("the folders of these VMs are gone: {}", facts.lost_vms.join(", ")),
            advice("put them back from a backup, or `banger vm rm` them"),
        ));
    }
    if parts.is_empty() { LEFTOVERS.ok("there are none") } else { joined(LEFTOVERS, parts) }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// What was seen of the image that a VM gets for which none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultImageFacts {
    /// Its name, or its source.
    pub name: String,
    /// Whether it is here.
    pub is_here: bool,
    /// Whether the catalog has it, or it is a source by itself.
    pub can_be_had: bool,
    /// Why a catalog could not be asked.
    pub problems: Vec<String>,
}

/// Judges the default image: good if it is here, and good if it can be had, for the first VM gets it then.
pub fn default_image(facts: &DefaultImageFacts) -> Finding {
    let name = &facts.name;
    if facts.is_here {
        return IMAGE.ok(format!("'{name}' is here"));
    }
    if facts.can_be_had {
        return IMAGE.ok(format!("'{name}' is in the catalog; the first VM gets it"));
    }
    let why =
        if facts.problems.is_empty() { String::new() } else { format!(" ({})", facts.problems.join("; ")) };
    IMAGE.failure(
        format!("'{name}' is neither here nor in the catalog{why}"),
        advice("`banger image catalog` shows what can be had, `banger config set vm.image NAME` chooses"),
    )
}

#[cfg(test)]
mod tests {
    use banger_types::doctor::Severity;

    use super::*;

    fn facts() -> DataFacts {
        DataFacts {
            path: "/d".into(),
            free: Some(40 << 30),
            free_files: Some(1 << 20),
            kind: FileSystemKind::Disk,
            has_reflinks: true,
            problem: None,
            of_others: Vec::new(),
        }
    }

    #[test]
    fn room_files_kind_and_owner_are_judged_together() {
        let good = data(&facts());
        assert_eq!(
            (good.severity, good.detail.as_str()),
            (Severity::Ok, "40.0 GiB are free in /d, and copies share their blocks")
        );
        assert_eq!(data(&DataFacts { free: Some(1 << 30), ..facts() }).severity, Severity::Warning);
        assert_eq!(data(&DataFacts { free: Some(1 << 20), ..facts() }).severity, Severity::Failure);
        assert_eq!(data(&DataFacts { free_files: Some(3), ..facts() }).severity, Severity::Warning);
        assert_eq!(data(&DataFacts { kind: FileSystemKind::Memory, ..facts() }).severity, Severity::Warning);
        assert_eq!(data(&DataFacts { kind: FileSystemKind::Network, ..facts() }).severity, Severity::Warning);
        let others = DataFacts { of_others: vec!["/d/a".into(), "/d/b".into()], ..facts() };
        let found = data(&others);
        assert_eq!(
            (found.severity, found.detail.as_str()),
            (Severity::Failure, "/d/a and 1 more there are another user's")
        );
        assert_eq!(
            data(&DataFacts { problem: Some("read-only".to_owned()), ..facts() }).severity,
            Severity::Failure
        );
    }

    #[test]
    fn the_default_image_is_good_here_and_good_in_the_catalog() {
        let of = |is_here, can_be_had| {
            let problems = vec!["https://c: no route".to_owned()];
            default_image(&DefaultImageFacts { name: "golden".to_owned(), is_here, can_be_had, problems })
        };
        assert_eq!(of(true, false).severity, Severity::Ok);
        assert_eq!(of(false, true).severity, Severity::Ok);
        let neither = of(false, false);
        assert_eq!(neither.severity, Severity::Failure);
        assert!(
            neither.detail.ends_with("neither here nor in the catalog (https://c: no route)"),
            "{}",
            neither.detail
        );
    }

    #[test]
    fn what_belongs_to_nothing_is_named() {
        assert_eq!(leftovers(&LeftoverFacts::default()).severity, Severity::Ok);
        let found = leftovers(&LeftoverFacts {
            processes: vec![(7, "firecracker".to_owned())],
            devices: vec!["bngr0".to_owned()],
            ..LeftoverFacts::default()
        });
        assert_eq!(found.severity, Severity::Warning);
        assert_eq!(
            found.detail,
            "processes of VMs that there are not: firecracker (7); devices that nobody uses: bngr0"
        );
        let steps = found.fix.unwrap().steps;
        assert_eq!(steps.iter().map(ToString::to_string).collect::<Vec<_>>(), ["banger daemon restart"]);
        let lost = LeftoverFacts { lost_vms: vec!["web".to_owned()], ..LeftoverFacts::default() };
        assert_eq!(leftovers(&lost).severity, Severity::Failure);
    }

    #[test]
    fn the_database_is_whole_or_not() {
        let of = |facts| database(&facts, std::path::Path::new("/d/banger.db"));
        assert_eq!(of(DatabaseFacts::Missing).severity, Severity::Ok);
        assert_eq!(of(DatabaseFacts::Whole).severity, Severity::Ok);
        let damaged = of(DatabaseFacts::Damaged("malformed".to_owned()));
        assert_eq!(damaged.severity, Severity::Failure);
        assert!(
            damaged
                .fix
                .unwrap()
                .advice
                .contains("move '/d/banger.db', '/d/banger.db-wal' and '/d/banger.db-shm' away")
        );
        assert_eq!(of(DatabaseFacts::Newer("newer".to_owned())).severity, Severity::Failure);
    }
}
