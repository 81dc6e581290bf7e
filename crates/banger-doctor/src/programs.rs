//! Programs: engines, tools, the daemon, and who is asked for something.

use banger_types::doctor::{Finding, FixStep};
use banger_types::engine::EngineStatus;
use banger_types::vm::EngineKind;

use crate::check::{CONSOLE, DAEMON, ENGINE, SOURCES, TOOLS, advice, joined, steps};
use crate::packages::{Package, PackageManager, install};

/// What was seen of engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineFacts {
    /// Each of them.
    pub engines: Vec<EngineStatus>,
    /// Whether KVM can be used, as far as it is known.
    pub kvm: bool,
}

/// Judges engines: one that works is enough.
pub fn engines(facts: &EngineFacts, manager: Option<PackageManager>) -> Finding {
    let works = |engine: &&EngineStatus| engine.problem.is_none();
    // Firecracker emulates nothing.
    let runs = |engine: &EngineStatus| works(&engine) && (facts.kvm || engine.kind == EngineKind::Qemu);
    let told = facts.engines.iter().map(|engine| match (&engine.problem, &engine.version) {
        (Some(problem), _) => format!("{}: {problem}", engine.kind),
        (None, version) => {
            format!("{} {}", engine.kind, version.as_deref().unwrap_or_default()).trim_end().to_owned()
        }
    });
    let told = told.collect::<Vec<_>>().join("; ");
    let missing = |kind| facts.engines.iter().find(|engine| engine.kind == kind && engine.problem.is_some());
    let firecracker = || {
        let step = FixStep::run(["banger", "engine", "install"]);
        steps(format!("`{step}`"), [step])
    };
    if facts.engines.iter().any(runs) {
        // Where KVM works, the better engine is worth having.
        return match missing(EngineKind::Firecracker).filter(|_| facts.kvm) {
            Some(_) => ENGINE.warning(told, firecracker()),
            None => ENGINE.ok(told),
        };
    }
    let fix = match missing(EngineKind::Qemu) {
        Some(engine) if engine.version.is_none() => Some(install(manager, Package::Qemu, "QEMU")),
        other => other.and_then(|engine| engine.fix.clone()).map(advice),
    };
    ENGINE.failure(format!("none can run a VM: {told}"), fix)
}

/// A tool that something needs which somebody may ask for, or has chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// What needs it, as a clause: "images from Dockerfiles".
    pub needed_for: &'static str,
    /// The package that has it.
    pub package: Package,
    /// Whether it is there.
    pub is_there: bool,
    /// Whether what needs it is in use: the default image, say.
    pub is_chosen: bool,
}

/// Judges tools. What nobody has asked for is not missed.
pub fn tools(all: &[Tool], manager: Option<PackageManager>) -> Finding {
    let one = |tool: &Tool| match (tool.is_there, tool.is_chosen) {
        (true, _) => TOOLS.ok(tool.name),
        (false, true) => TOOLS.warning(
            format!("there is no {}, which {} needs", tool.name, tool.needed_for),
            install(manager, tool.package, tool.name),
        ),
        (false, false) => TOOLS.ok(format!("no {} (only for {})", tool.name, tool.needed_for)),
    };
    joined(TOOLS, all.iter().map(one).collect())
}

/// What was seen of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonFacts {
    /// Version of the program that was asked.
    pub version: String,
    /// Version of the daemon that runs; `None` when none does.
    pub running: Option<String>,
}

/// Judges the daemon.
pub fn daemon(facts: &DaemonFacts) -> Finding {
    match &facts.running {
        None => {
            DAEMON.ok(format!("it does not run now (version {}); the next command starts it", facts.version))
        }
        Some(running) if *running == facts.version => DAEMON.ok(format!("version {running} runs")),
        Some(running) => DAEMON.warning(
            format!("version {running} runs, and banger is {}", facts.version),
            steps("`banger daemon restart`; VMs go on", [FixStep::run(["banger", "daemon", "restart"])]),
        ),
    }
}

/// What was seen of the web console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsoleFacts {
    /// It is off.
    Off,
    /// It is here, as it was wanted.
    At(String),
    /// It is elsewhere than it was wanted, with a sentence about that.
    Elsewhere(String),
    /// It cannot listen.
    Failed(String),
    /// The daemon does not run.
    NoDaemon,
}

/// Judges the web console.
pub fn console(facts: &ConsoleFacts) -> Finding {
    match facts {
        ConsoleFacts::Off => CONSOLE.ok("it is off"),
        ConsoleFacts::At(url) => CONSOLE.ok(format!("it is at {url}")),
        ConsoleFacts::Elsewhere(note) => CONSOLE.warning(
            note,
            advice("end what has that port, or `banger config set web.listen 127.0.0.1:7788`; then `banger daemon restart`"),
        ),
        ConsoleFacts::Failed(why) => CONSOLE.warning(
            format!("it cannot listen: {why}"),
            advice("`banger config set web.listen 127.0.0.1:7788`, then `banger daemon restart`"),
        ),
        ConsoleFacts::NoDaemon => CONSOLE.skipped("bangerd does not run"),
    }
}

/// What became of asking somebody for something that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    /// Who, as `https://mirror.example/debian`.
    pub name: String,
    /// The setting that names it.
    pub setting: String,
    /// Why it cannot be reached.
    pub problem: Option<String>,
}

/// Judges who is asked.
pub fn sources(all: &[SourceFacts]) -> Finding {
    if all.is_empty() {
        return SOURCES.ok("the configuration names none");
    }
    let one = |source: &SourceFacts| match &source.problem {
        None => SOURCES.ok(format!("{} answers", source.name)),
        Some(problem) => SOURCES.warning(
            format!("{} ({}): {problem}", source.name, source.setting),
            advice(format!("see whether this host is connected, and `banger config get {}`", source.setting)),
        ),
    };
    joined(SOURCES, all.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use banger_types::doctor::Severity;

    use super::*;

    fn engine(kind: EngineKind, problem: Option<&str>) -> EngineStatus {
        EngineStatus {
            kind,
            program: None,
            version: problem.is_none().then(|| "1.0".to_owned()),
            problem: problem.map(str::to_owned),
            fix: None,
        }
    }

    fn judged(firecracker: Option<&str>, qemu: Option<&str>, kvm: bool) -> Finding {
        let all = vec![engine(EngineKind::Firecracker, firecracker), engine(EngineKind::Qemu, qemu)];
        engines(&EngineFacts { engines: all, kvm }, Some(PackageManager::Apt))
    }

    #[test]
    fn one_engine_that_can_run_a_vm_is_enough() {
        assert_eq!(judged(None, None, true).severity, Severity::Ok);
        assert_eq!(judged(None, Some("missing"), true).severity, Severity::Ok);
        assert_eq!(judged(Some("missing"), None, false).severity, Severity::Ok, "it could not be used");
        let better = judged(Some("missing"), None, true);
        assert_eq!(better.severity, Severity::Warning);
        assert_eq!(better.fix.unwrap().steps[0].to_string(), "banger engine install");
        let none = judged(None, Some("missing"), false);
        assert_eq!(none.severity, Severity::Failure);
        assert!(none.fix.unwrap().advice.contains("qemu-system-x86"));
    }

    #[test]
    fn a_tool_is_missed_by_who_needs_it() {
        let tool = |is_there, is_chosen| Tool {
            name: "buildah",
            needed_for: "images from Dockerfiles",
            package: Package::Buildah,
            is_there,
            is_chosen,
        };
        assert_eq!(tools(&[tool(true, true), tool(false, false)], None).severity, Severity::Ok);
        let found = tools(&[tool(true, true), tool(false, true)], Some(PackageManager::Dnf));
        assert_eq!(found.severity, Severity::Warning);
        assert_eq!(found.detail, "there is no buildah, which images from Dockerfiles needs");
        assert_eq!(found.fix.unwrap().steps[0].to_string(), "sudo dnf install --assumeyes buildah");
    }

    #[test]
    fn the_daemon_the_console_and_who_is_asked() {
        let of = |running: Option<&str>| {
            daemon(&DaemonFacts { version: "2".to_owned(), running: running.map(str::to_owned) }).severity
        };
        assert_eq!([of(None), of(Some("2")), of(Some("1"))], [Severity::Ok, Severity::Ok, Severity::Warning]);
        assert_eq!(console(&ConsoleFacts::Off).severity, Severity::Ok);
        assert_eq!(console(&ConsoleFacts::Failed("taken".to_owned())).severity, Severity::Warning);
        assert_eq!(console(&ConsoleFacts::NoDaemon).severity, Severity::Skipped);
        let source = |problem: Option<&str>| SourceFacts {
            name: "https://m".to_owned(),
            setting: "debian.mirror".to_owned(),
            problem: problem.map(str::to_owned),
        };
        assert_eq!(sources(&[]).severity, Severity::Ok);
        let found = sources(&[source(None), source(Some("no route"))]);
        assert_eq!(
            (found.severity, found.detail.as_str()),
            (Severity::Warning, "https://m (debian.mirror): no route")
        );
    }
}
