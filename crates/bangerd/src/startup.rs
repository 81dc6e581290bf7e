//! From nothing to a daemon that serves, and back.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use banger_console::Console;
use banger_core::command::Commands;
use banger_core::store::{Store, StoreError};
use banger_engine::{Confinement, Firecracker, Qemu};
use banger_host::{
    DirectoryLock, Helper, HostCommands, HostProcesses, LockError, MonitorLauncher, SocketError, SocketFile,
};
use banger_net::Passt;
use banger_store::SqliteStore;
use banger_types::location::{Locations, unusable_data, variable};
use banger_types::web::WebListen;
use banger_types::{ApiError, ErrorKind, Refusal};
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{self, PrivateListener};
use crate::artifact::Artifacts;
use crate::daemon::Daemon;
use crate::event::Events;
use crate::failure::FromStore as _;
use crate::fault::FaultPoint;
use crate::layout::{Layout, vm_file};
use crate::operation::{Operations, Settings};
use crate::programs::Programs;
use crate::ready::Ready;
use crate::reconcile::reconcile;
use crate::settings::LiveSettings;
use crate::ssh::SshConfig;
use crate::vm::{self, Engines, Places, Verdicts, VmDirectory};

/// A log that is longer than this at start is set aside, bytes.
const LOG_LIMIT: u64 = 8 << 20;
/// How long open answers may take to end when the daemon does.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// How long cancelled operations may take to undo what they had begun.
const UNDO_LIMIT: Duration = Duration::from_secs(20);

/// The user's catalog, beside the configuration file.
const CATALOG_FILE: &str = "catalog.toml";

const USAGE: &str = "\
usage: bangerd [--version]

The daemon of banger. `banger` starts it when it is needed; it runs in the foreground and serves
the API on a unix socket. `banger daemon status` says where.
";

/// Runs the daemon.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the one place that speaks to a terminal")]
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        None if std::env::args_os().len() == 1 => {}
        Some("--version" | "-V") => {
            println!("bangerd {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        // For tests; a build for release has none.
        Some("--fault-points") => {
            for point in FaultPoint::ALL {
                println!("{point:?}");
            }
            return ExitCode::SUCCESS;
        }
        Some("--help" | "-h") => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(ErrorKind::Usage.exit_code());
        }
    }
    let mut ready = Ready::from_environment();
    match run(&mut ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = as_api_error(&error);
            eprintln!("bangerd: {error}: {}", error.why.join(": "));
            tracing::error!(%error, why = ?error.why, "cannot go on");
            let code = error.kind.exit_code();
            ready.tell(&Err(error));
            ExitCode::from(code)
        }
    }
}

fn as_api_error(error: &anyhow::Error) -> ApiError {
    error.downcast_ref::<ApiError>().cloned().unwrap_or_else(|| {
        let why = error.chain().map(ToString::to_string).collect();
        ApiError { why, ..ApiError::new(ErrorKind::Failed, "bangerd cannot start") }
    })
}

fn run(ready: &mut Ready) -> anyhow::Result<()> {
    // Everything that the daemon makes is its user's alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let locations = Locations::from_environment(|name| std::env::var_os(name))?;
    let layout = Layout::new(locations.data.clone());
    make_directories(&layout)?;
    let lock = lock(&layout, &locations.socket)?;
    begin_log(&layout.log()).map_err(|error| unusable_data(layout.data(), &error))?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "bangerd begins");
    let settings = Arc::new(LiveSettings::read(&locations)?);
    let programs = Programs::find()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // A daemon that has done its work sleeps soon, and for good.
        .thread_keep_alive(Duration::from_secs(1))
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve(layout, &locations, settings, programs, ready));
    // Work that blocks may be in the middle of a long read; it has nothing left to say.
    runtime.shutdown_background();
    drop(lock);
    result
}

fn make_directories(layout: &Layout) -> Result<(), ApiError> {
    let make = || {
        for directory in layout.directories() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        }
        // One that was there may be open to others.
        fs_err::set_permissions(layout.data(), std::fs::Permissions::from_mode(0o700))
    };
    make().map_err(|error| unusable_data(layout.data(), &error))
}

fn lock(layout: &Layout, socket: &Path) -> anyhow::Result<DirectoryLock> {
    DirectoryLock::take(layout.data()).map_err(|error| match error {
        LockError::Held { .. } => {
            ApiError::caused_by(ErrorKind::Conflict, "bangerd is running already", &error)
                .fix(format!("it should answer on {}", socket.display()))
                .into()
        }
        LockError::Io { source, .. } => unusable_data(layout.data(), &source).into(),
    })
}

/// Logs to a file. One that has grown long is set aside at start, and one older is kept.
fn begin_log(path: &Path) -> std::io::Result<()> {
    if fs_err::metadata(path).is_ok_and(|log| log.len() > LOG_LIMIT) {
        let mut older = path.to_owned().into_os_string();
        older.push(".1");
        fs_err::rename(path, PathBuf::from(older))?;
    }
    let file = fs_err::OpenOptions::new().create(true).append(true).open(path)?.into_file();
    let filter = std::env::var(variable::LOG).unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(&filter).unwrap_or_default())
        .with_ansi(false)
        .with_target(false)
        .with_writer(std::sync::Mutex::new(file))
        .init();
    Ok(())
}

async fn serve(
    layout: Layout,
    locations: &Locations,
    settings: Arc<LiveSettings>,
    programs: Programs,
    ready: &mut Ready,
) -> anyhow::Result<()> {
    let console = open_console(settings.last().configuration.web.listen);
    let console_scripts = programs.directory.join("console");
    let artifacts = compose(layout, locations, settings, programs)?;
    let unknown_vms = reconcile(&artifacts).await?;
    artifacts.context().ssh.update(artifacts.context()).await;
    let listener = banger_host::bind_private(&locations.socket).map_err(|error| socket_error(&error))?;
    let socket = SocketFile::at(&locations.socket).map_err(|error| socket_error(&error))?;
    let listener = PrivateListener::new(listener)?;
    let door = console.as_ref().map(Console::door).map_err(ApiError::clone);
    let daemon = Daemon::new(Arc::clone(&artifacts), locations.socket.clone(), unknown_vms, door);
    let daemon = Arc::new(daemon);
    end_on_signals(&daemon)?;
    let forget = Arc::clone(&artifacts.context().operations).prune_until(daemon.shutdown().clone());
    tokio::spawn(forget);
    ready.tell(&Ok(daemon.system().await?));
    let shutdown = daemon.shutdown().clone();
    // On the runtime's threads, where its clients are served: this one would have to be woken for each of them.
    let server = tokio::spawn(api::serve(listener, api::router(Arc::clone(&daemon)), shutdown.clone()));
    // A client of the API like any other: there is no second way in.
    let console = console.ok().map(|console| {
        let client = banger_api::Client::new(&locations.socket);
        tokio::spawn(console.serve(client, console_scripts, shutdown.clone()))
    });
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    };
    tokio::select! {
        ended = server => ended?,
        () = drained => tracing::warn!("some answers were cut off"),
    }
    // Whoever looks at it now has nobody left to ask.
    if let Some(console) = console {
        console.abort();
    }
    artifacts.context().operations.end();
    end_operations(&artifacts).await;
    artifacts.context().store("consolidate", |store| store.consolidate()).await?;
    if let Err(error) = socket.remove() {
        tracing::warn!(%error, "the socket stays");
    }
    tracing::info!("bangerd ends");
    Ok(())
}

/// Puts everything together.
fn compose(
    layout: Layout,
    locations: &Locations,
    settings: Arc<LiveSettings>,
    programs: Programs,
) -> anyhow::Result<Arc<Artifacts>> {
    let effective = settings.last();
    let configuration = &effective.configuration;
    let store: Arc<dyn Store> = Arc::new(open_store(&layout)?);
    let commands: Arc<dyn Commands> = Arc::new(HostCommands);
    let events = Arc::new(Events::new());
    let limits = Settings {
        at_once: configuration.operations.at_once.get().into(),
        kept: configuration.operations.kept,
    };
    let operations = Operations::new(Arc::clone(&store), layout.clone(), Arc::clone(&events), limits);
    let operations = Arc::new(operations.map_err(ApiError::from_store("list operations"))?);
    let confinement = Arc::new(Confinement::new(Arc::clone(&commands), &programs.directory));
    let firecracker = Firecracker::new(
        Arc::clone(&commands),
        Arc::new(HostProcesses),
        layout.engines(),
        Arc::clone(&confinement),
    );
    let context = vm::Context {
        engines: Engines::new(Arc::new(firecracker), Arc::new(Qemu::new(Arc::clone(&commands), confinement))),
        verdicts: Verdicts::new(layout.kvm_verdicts()),
        networks: Arc::new(Passt::new(Arc::clone(&commands), programs.directory.clone())),
        places: Arc::new(Places::new(Arc::new(Helper::new(Arc::clone(&commands))), layout.clone())),
        commands,
        launcher: MonitorLauncher::new(programs.monitor.clone()),
        vms: VmDirectory::default(),
        ssh: SshConfig::new(programs.client.clone(), locations.socket.clone()),
        layout,
        store,
        programs,
        operations,
        events,
        settings,
    };
    let catalog = locations.configuration.as_ref().map(|path| path.with_file_name(CATALOG_FILE));
    Ok(Arc::new(Artifacts::new(Arc::new(context), configuration, catalog)))
}

fn open_store(layout: &Layout) -> anyhow::Result<SqliteStore> {
    SqliteStore::open(&layout.database()).map_err(|error| {
        let fix = match &error {
            StoreError::Newer { .. } => Some("use that newer version; nothing was changed".to_owned()),
            StoreError::Damaged { path, .. } => Some(format!(
                "put a copy from a backup in its place, or begin with an empty list: mv '{0}' '{0}.damaged'",
                path.display()
            )),
            StoreError::Full { .. } => {
                Some(format!("make room on the file system of {}", layout.data().display()))
            }
            StoreError::ReadOnly { path } => {
                Some(format!("give it back to yourself, as with: sudo chown $USER '{}'*", path.display()))
            }
            _ => None,
        };
        let damaged = matches!(error, StoreError::Damaged { .. });
        let mut told = ApiError::from_store("open the database")(error);
        if damaged {
            let disks = layout.vms().join("*").join(vm_file::DISK);
            told = told.because(format!("nothing was changed: the VMs' disks are {}", disks.display()));
        }
        ApiError { fix: fix.or(told.fix), ..told }.into()
    })
}

fn socket_error(error: &SocketError) -> ApiError {
    let told = ApiError::caused_by(ErrorKind::NotPermitted, "cannot listen for clients", error);
    ApiError { fix: error.fix(), ..told }
}

/// Returns the web console, or why there is none. That keeps nobody from the rest.
fn open_console(listen: WebListen) -> Result<Console, ApiError> {
    const FIX: &str = "give it an address by `listen` of `[web]` in the configuration, or BANGER_WEB_LISTEN, and `banger daemon restart`";
    let refused = || ApiError::refused(Refusal::State, "there is no web console to sign in to").fix(FIX);
    match Console::bind(listen) {
        Ok(Some(console)) => Ok(console),
        Ok(None) => Err(refused().because("it is off")),
        Err(error) => {
            tracing::warn!(%error, "the web console cannot listen");
            Err(refused().because(format!("it cannot listen on {listen}: {error}")))
        }
    }
}

fn end_on_signals(daemon: &Arc<Daemon>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = daemon.shutdown().clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to end by a signal");
        shutdown.cancel();
    });
    Ok(())
}

/// What only this daemon can do is cancelled and undone. Starts and stops are left to the monitors and to the next daemon:
/// VMs do not end with this one. Pulls and the like are left to the next daemon, too, as if this one had been killed.
async fn end_operations(artifacts: &Arc<Artifacts>) {
    let operations = &artifacts.context().operations;
    let mut cancelled = Vec::new();
    for id in operations.to_be_undone() {
        let Some(watch) = operations.watch(&id) else { continue };
        if operations.cancel(&id).is_ok() {
            cancelled.push(watch);
        }
    }
    let all_ended = async {
        for mut watch in cancelled {
            watch.wait_for(|operation| operation.status.is_final()).await.map(drop).ok();
        }
    };
    if tokio::time::timeout(UNDO_LIMIT, all_ended).await.is_err() {
        tracing::warn!("some operations did not end in time; the next start undoes them");
    }
}
