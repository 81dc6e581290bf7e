//! `banger-helper`, which does the little that needs root: whether it can be asked, and asking it.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use banger_core::command::{CommandError, Commands, HostCommand};
use banger_core::helper::{HelperError, RootHelper};
use banger_core::work::Unwatched;
use banger_types::VmId;
use banger_types::helper::{
    HELPER_PREFIX, HELPER_PROTOCOL, HelperAnswer, HelperReadiness, HelperRequest, HelperVerb, RUN_VMM,
};
use banger_types::monitor::Program;

/// What sudo says when it may not ask for the password that it wants (sudo(8), "-n"), in whatever words around it.
const WANTS_PASSWORD: &str = "password";
/// What sudo says of somebody who may not run the program.
const NOT_ALLOWED: [&str; 2] = ["not allowed", "not in the sudoers"];

const SUDO: &str = "sudo";

/// The helper of this version of banger.
pub struct Helper {
    commands: Arc<dyn Commands>,
    path: PathBuf,
    /// Whether this process is root, and needs no sudo.
    root: bool,
}

impl std::fmt::Debug for Helper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Helper").field("path", &self.path).field("root", &self.root).finish_non_exhaustive()
    }
}

impl Helper {
    /// Returns the helper of this version, where its root-owned copy has its place.
    pub fn new(commands: Arc<dyn Commands>) -> Self {
        let path = PathBuf::from(format!("{HELPER_PREFIX}{}", env!("CARGO_PKG_VERSION")));
        Self { commands, path, root: rustix::process::geteuid().is_root() }
    }
}

impl RootHelper for Helper {
    /// By asking it for nothing.
    fn readiness(&self) -> HelperReadiness {
        match self.ask(HelperVerb::Hello) {
            Ok(_) => HelperReadiness::Ready,
            Err(HelperError::NotReady(readiness)) => readiness,
            Err(error) => HelperReadiness::NotInstalled(banger_types::error::chain(&error)),
        }
    }

    fn ask(&self, verb: HelperVerb) -> Result<HelperAnswer, HelperError> {
        self.check().map_err(HelperError::NotReady)?;
        let request = HelperRequest { protocol: HELPER_PROTOCOL, verb };
        let request = serde_json::to_vec(&request).map_err(|error| not_understood(&error))?;
        let path = self.path.to_string_lossy().into_owned();
        let command = if self.root {
            // As sudo would say: who this was before it was root is nobody's business.
            HostCommand::new(path).variable("SUDO_UID", "0").variable("SUDO_USER", "root")
        } else {
            // What sudo says is understood in one language.
            HostCommand::new(SUDO).arguments(["-n", "--"]).argument(path).variable("LC_ALL", "C")
        };
        let answer = self.commands.run(&command.input(request), &Unwatched).map_err(not_run)?;
        match serde_json::from_slice(&answer).map_err(|error| not_understood(&error))? {
            HelperAnswer::Refused(refusal) => Err(HelperError::Refused(refusal)),
            answer => Ok(answer),
        }
    }

    fn runner(&self, vm: &VmId) -> Program {
        let (path, mut arguments) = self.invocation();
        arguments.extend([RUN_VMM.to_owned(), vm.to_string()]);
        Program { name: "firecracker".to_owned(), path, arguments, descriptors: Vec::new() }
    }
}

impl Helper {
    /// Returns the program that is to be started, and what comes before the helper's own arguments.
    fn invocation(&self) -> (PathBuf, Vec<String>) {
        if self.root {
            return (self.path.clone(), Vec::new());
        }
        let sudo = self.commands.find(SUDO).unwrap_or_else(|| PathBuf::from(SUDO));
        (sudo, vec!["-n".to_owned(), "--".to_owned(), self.path.to_string_lossy().into_owned()])
    }

    /// Makes sure that what would be run as root is root's, and has been.
    fn check(&self) -> Result<(), HelperReadiness> {
        check_path(&self.path, |path| std::fs::symlink_metadata(path)).map_err(|problem| match problem {
            Problem::Insecure(why) => HelperReadiness::Insecure(why),
            Problem::Missing => self.missing(),
        })
    }

    /// Returns what there is in the helper's place.
    fn missing(&self) -> HelperReadiness {
        let prefix = Path::new(HELPER_PREFIX).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let entries = self.path.parent().and_then(|place| std::fs::read_dir(place).ok());
        let others: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some(entry.file_name().to_str()?.strip_prefix(&prefix)?.to_owned()))
            .collect();
        if others.is_empty() {
            HelperReadiness::NotInstalled(format!("there is no {}", self.path.display()))
        } else {
            let (others, wanted) = (others.join(", "), env!("CARGO_PKG_VERSION"));
            HelperReadiness::WrongVersion(format!("there is {others}, and this is banger {wanted}"))
        }
    }
}

/// What is wrong with a program.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    Missing,
    Insecure(String),
}

/// Looks whether a program and all that leads to it belongs to root, and nobody else can change any of it.
fn check_path(path: &Path, look: impl Fn(&Path) -> io::Result<Metadata>) -> Result<(), Problem> {
    let mut ways: Vec<&Path> = path.ancestors().collect();
    ways.reverse();
    for way in ways {
        let found = look(way).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Problem::Missing,
            _ => Problem::Insecure(format!("{} cannot be looked at: {error}", way.display())),
        })?;
        let why = if found.file_type().is_symlink() {
            "is a link"
        } else if found.uid() != 0 {
            "does not belong to root"
        } else if found.mode() & 0o022 != 0 {
            "can be written by others than root"
        } else if way == path && !found.is_file() {
            "is no file"
        } else {
            continue;
        };
        return Err(Problem::Insecure(format!("{} {why}", way.display())));
    }
    Ok(())
}

fn not_understood(error: &serde_json::Error) -> HelperError {
    HelperError::Answer(error.to_string())
}

/// Returns why sudo, or the helper, was not run to its end.
fn not_run(error: CommandError) -> HelperError {
    match error {
        CommandError::NotInstalled { program } => {
            HelperError::NotReady(HelperReadiness::NotInstalled(format!("there is no {program}")))
        }
        CommandError::Failed { stderr, .. } if NOT_ALLOWED.iter().any(|words| stderr.contains(words)) => {
            HelperError::NotReady(HelperReadiness::NotInstalled("sudo does not let you run it".to_owned()))
        }
        CommandError::Failed { stderr, .. } if stderr.contains(WANTS_PASSWORD) => {
            HelperError::NotReady(HelperReadiness::NeedsPassword)
        }
        error => HelperError::Run(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use banger_core::command::Consumer;
    use banger_core::work::Work;

    use super::*;

    /// A host on which a command ends so.
    struct Ends(fn() -> Result<&'static str, CommandError>);

    impl Commands for Ends {
        fn run(&self, _: &HostCommand, _: &dyn Work) -> Result<Vec<u8>, CommandError> {
            self.0().map(|text| text.as_bytes().to_vec())
        }
        fn stream(&self, command: &HostCommand, _: &dyn Work, _: Consumer<'_>) -> Result<(), CommandError> {
            panic!("nobody reads the output of {command}")
        }
        fn find(&self, _: &str) -> Option<PathBuf> {
            None
        }
    }

    fn failed(stderr: &str) -> CommandError {
        CommandError::Failed { command: "sudo".into(), status: "exit code 1".into(), stderr: stderr.into() }
    }

    /// Returns a helper whose program is this test's own directory's, all of whose ways belong to root.
    fn helper(directory: &Path, ends: fn() -> Result<&'static str, CommandError>) -> Helper {
        let path = directory.join("banger-helper-0");
        std::fs::write(&path, "").unwrap();
        Helper { commands: Arc::new(Ends(ends)), path, root: false }
    }

    #[test]
    fn sudo_and_the_helper_say_whether_it_can_be_asked() {
        let directory = tempfile::tempdir_in("/usr/local").or_else(|_| tempfile::tempdir()).unwrap();
        let is_no_file = Problem::Insecure(format!("{} is no file", directory.path().display()));
        if check_path(directory.path(), |path| std::fs::symlink_metadata(path)) != Err(is_no_file) {
            banger_testkit::not_run(
                "sudo_and_the_helper_say_whether_it_can_be_asked",
                "nothing here is root's alone",
            );
            return;
        }
        let readiness = |ends| helper(directory.path(), ends).readiness();
        assert_eq!(readiness(|| Ok(r#"{"hello":{"version":"0.1.0"}}"#)), HelperReadiness::Ready);
        assert_eq!(readiness(|| Err(failed("sudo: a password is required"))), HelperReadiness::NeedsPassword);
        let missing = |ends| matches!(readiness(ends), HelperReadiness::NotInstalled(_));
        assert!(missing(|| Err(CommandError::NotInstalled { program: "sudo".into() })));
        assert!(missing(|| Err(failed(
            "Sorry, user plain is not allowed to execute '/usr/libexec/…' as root"
        ))));
        assert!(missing(|| Ok("hello, world")));
        let error = helper(directory.path(), || {
            Ok(r#"{"refused":{"kind":"not_permitted","message":"it is another's"}}"#)
        })
        .ask(HelperVerb::Hello)
        .unwrap_err();
        assert_eq!(error.to_string(), "the root helper refuses: it is another's");
    }

    #[test]
    fn what_somebody_could_have_changed_is_insecure() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("helper");
        std::fs::write(&path, "").unwrap();
        // Only the last two of the way are of interest: what leads here is the host's.
        let look = |looked: &Path| {
            let shown = if looked.starts_with(directory.path()) { looked } else { Path::new("/") };
            std::fs::symlink_metadata(shown)
        };
        let problem = || match check_path(&path, look) {
            Ok(()) => String::new(),
            Err(Problem::Insecure(why)) => why.rsplit('/').next().unwrap().to_owned(),
            Err(Problem::Missing) => "missing".to_owned(),
        };
        if !rustix::process::geteuid().is_root() {
            assert!(problem().ends_with("does not belong to root"), "{}", problem());
            return;
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(problem(), "");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o775)).unwrap();
        assert_eq!(problem(), "helper can be written by others than root");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(&path, Some(1001), None).unwrap();
        assert_eq!(problem(), "helper does not belong to root");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(problem(), "missing");
        std::os::unix::fs::symlink("/bin/true", &path).unwrap();
        assert_eq!(problem(), "helper is a link");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(problem().ends_with("can be written by others than root"));
    }
}
