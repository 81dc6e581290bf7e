//! VMMs that see no more of the host than they need.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use banger_core::command::{Commands, HostCommand};
use banger_core::engine::{BootPlan, EngineError};
use banger_core::work::Unwatched;
use banger_types::monitor::Program;

/// The program.
const PROGRAM: &str = "banger-confine";
/// Has `banger-confine` find out whether this host's kernel confines, and nothing else.
pub const CHECK: &str = "--check";
/// Before a path that the program reads.
pub const READ: &str = "--read";
/// Before a file that it writes, too.
pub const WRITE: &str = "--write";
/// Before a directory in which it makes sockets, and nothing else.
pub const SOCKETS: &str = "--sockets";
/// It opens sockets of the network.
pub const NETWORK: &str = "--network";
/// It connects sockets to others.
pub const CONNECT: &str = "--connect";

/// Starts VMMs through `banger-confine`, on hosts whose kernel confines.
pub struct Confinement {
    commands: Arc<dyn Commands>,
    program: PathBuf,
    /// Set once the kernel has been seen to do it; that lasts as long as the kernel.
    works: OnceLock<()>,
}

impl std::fmt::Debug for Confinement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Confinement")
            .field("program", &self.program)
            .field("works", &self.works)
            .finish_non_exhaustive()
    }
}

impl Confinement {
    /// Returns what confines, whose program is in this directory.
    pub fn new(commands: Arc<dyn Commands>, programs: &Path) -> Self {
        Self { commands, program: programs.join(PROGRAM), works: OnceLock::new() }
    }

    /// Returns the VMM of a plan as it is started: confined to its files, if this kernel confines. `configuration` is the engine's
    /// own, if it has one, and `connects` whether it connects to anybody.
    pub(crate) fn confine(
        &self,
        engine: &'static str,
        vmm: Program,
        plan: &BootPlan,
        configuration: Option<&Path>,
        connects: bool,
    ) -> Result<Program, EngineError> {
        if !self.works() {
            return Ok(vmm);
        }
        let text = |path: &Path| {
            path.to_str()
                .map(str::to_owned)
                .ok_or_else(|| EngineError::Path { engine, path: path.to_owned() })
        };
        let mut arguments = Vec::new();
        let boots =
            [&plan.kernel, &plan.vmlinux, &plan.initramfs, &plan.base, &plan.modules, &plan.configuration];
        for path in boots.into_iter().chain([&vmm.path]).map(PathBuf::as_path).chain(configuration) {
            arguments.extend([READ.to_owned(), text(path)?]);
        }
        for path in installed_with(&vmm.path) {
            arguments.extend([READ.to_owned(), text(&path)?]);
        }
        arguments.extend([WRITE.to_owned(), text(&plan.private_disk)?]);
        // Those that its monitor, its owner and its daemon have there are not its.
        arguments.extend([SOCKETS.to_owned(), text(&plan.directory)?]);
        if connects {
            arguments.push(CONNECT.to_owned());
        }
        if plan.network.as_ref().is_some_and(|network| network.own_stack.is_some()) {
            arguments.push(NETWORK.to_owned());
        }
        arguments.extend(["--".to_owned(), text(&vmm.path)?]);
        arguments.extend(vmm.arguments);
        Ok(Program { name: vmm.name, path: self.program.clone(), arguments, descriptors: vmm.descriptors })
    }

    /// Whether the kernel does it. What is in the way may pass, and is asked for again.
    fn works(&self) -> bool {
        if self.works.get().is_some() {
            return true;
        }
        let check = HostCommand::new(self.program.to_string_lossy()).argument(CHECK);
        let works = self.commands.run(&check, &Unwatched).is_ok();
        if works {
            let _ = self.works.set(());
        }
        works
    }
}

/// Returns what a program may need that was installed somewhere else than the system's own: its libraries and data (the GNU coding
/// standards, "Directory Variables").
fn installed_with(program: &Path) -> Vec<PathBuf> {
    let programs =
        program.parent().filter(|directory| directory.file_name().is_some_and(|name| name == "bin"));
    let prefix = programs.and_then(Path::parent);
    let directories =
        prefix.map(|prefix| ["lib", "lib64", "share/qemu"].map(|directory| prefix.join(directory)));
    directories.into_iter().flatten().collect()
}

/// Whether a VMM is started confined: at once, or by a program that becomes what does it.
pub fn is_confined(vmm: &Program) -> bool {
    let programs = [Some(vmm.path.as_path()), vmm.arguments.first().map(Path::new)];
    programs.into_iter().flatten().any(|program| program.file_name().is_some_and(|name| name == PROGRAM))
}

#[cfg(test)]
mod tests {
    use banger_core::command::{CommandError, Consumer};
    use banger_core::work::Work;
    use banger_types::vm::Accelerator;

    use super::*;
    use crate::sample;

    /// A host whose kernel confines, or does not.
    struct Kernel(bool);

    impl Commands for Kernel {
        fn run(&self, command: &HostCommand, _: &dyn Work) -> Result<Vec<u8>, CommandError> {
            assert_eq!(command.arguments, [CHECK]);
            let no = || CommandError::Failed {
                command: command.to_string(),
                status: "exit code 1".into(),
                stderr: String::new(),
            };
            if self.0 { Ok(Vec::new()) } else { Err(no()) }
        }
        fn stream(&self, command: &HostCommand, _: &dyn Work, _: Consumer<'_>) -> Result<(), CommandError> {
            panic!("nobody reads the output of {command}")
        }
        fn find(&self, _: &str) -> Option<PathBuf> {
            None
        }
    }

    fn confined(confines: bool) -> Program {
        let vmm = Program {
            name: "vmm".to_owned(),
            path: "/opt/vmm".into(),
            arguments: vec!["-x".to_owned()],
            descriptors: Vec::new(),
        };
        let confinement = Confinement::new(Arc::new(Kernel(confines)), Path::new("/lib/banger"));
        confinement
            .confine("vmm", vmm, &sample::plan("/v", Accelerator::Kvm), Some(Path::new("/v/own")), false)
            .unwrap()
    }

    #[test]
    fn a_vmm_reads_what_it_is_given_and_writes_in_its_own_directory() {
        let program = confined(true);
        assert_eq!(
            (program.name.as_str(), program.path.as_path()),
            ("vmm", Path::new("/lib/banger/banger-confine"))
        );
        let words = program.arguments.join(" ");
        assert!(words.ends_with("--write /v/disk.ext4 --sockets /v -- /opt/vmm -x"), "{words}");
        assert!(is_confined(&program));
        assert!(
            words.contains("--read /v/base.ext4") && words.contains("--read /opt/vmm --read /v/own "),
            "{words}"
        );
        assert!(!words.contains(NETWORK), "{words}");
    }

    #[test]
    fn what_was_installed_with_a_program_is_its_own() {
        let found = installed_with(Path::new("/opt/qemu/bin/qemu-system-x86_64"));
        assert!(found.contains(&PathBuf::from("/opt/qemu/share/qemu")), "{found:?}");
        assert!(installed_with(Path::new("/home/dev/qemu-system-x86_64")).is_empty());
    }

    #[test]
    fn without_the_kernel_it_is_started_as_it_is() {
        let program = confined(false);
        assert_eq!(program.path, Path::new("/opt/vmm"));
        assert!(!is_confined(&program));
    }
}
