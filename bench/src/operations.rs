//! What operations cost that do nothing: begun, ended, stored, listed. And how soon a guest's new port is known.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use banger_api::Client;
use banger_api::request::PullRequest;
use banger_core::store::Store as _;
use banger_store::SqliteStore;
use banger_testkit::Environment;
use banger_testkit::seed::PROBE;
use banger_types::OperationId;
use banger_types::guest::ListeningSocket;
use banger_types::operation::{Operation, OperationStatus};
use banger_types::vm::Vm;

use crate::banger::Banger;
use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::Samples;

/// How many are begun in a row, and may take two seconds.
const BEGUN: u32 = 1_000;
/// How many are stored.
const STORED: u32 = 10_000;
/// The port that a guest's program listens on.
const PORT: u16 = 6200;

/// Measures all of it.
pub(crate) fn measure(banger: &Banger, rounds: &Rounds) -> Result<Comparison> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let environment = Environment::empty();
    environment.configure("[operations]\nat_once = 1\n");
    environment.succeed(&["daemon", "start"]);
    let client = Client::new(environment.data().join("run/bangerd.sock"));
    let sync = syncs(environment.data(), rounds)?;
    let few = runtime.block_on(lists(&client, rounds))?;
    let (empty, begun) = runtime.block_on(nothing(&client, environment.data(), rounds))?;
    environment.crash_daemon();
    store(&environment)?;
    environment.succeed(&["daemon", "start"]);
    let many = runtime.block_on(lists(&client, rounds))?;
    drop(environment);
    let heard = runtime.block_on(listens(banger, rounds))?;
    Ok(Comparison {
        title: "Operations and events".to_owned(),
        method: "Over the socket, one connection each. An operation that does nothing waits for its turn and is cancelled: \
                 three changes, each in SQLite with `synchronous = FULL` before anybody hears of it; beside it one write \
                 of 4 KiB with `fdatasync` on the same disk. The list is the first page of a hundred, with hardly any and with \
                 10,000 stored. From a guest's word that it listens, through SSH, to the event that says so: less than nothing is \
                 an event that was there first."
            .to_owned(),
        rows: vec![
            Row::of("an operation that does nothing", empty).against("a write with fdatasync", &sync).mark(Mark::AtMost(5.0)),
            Row::of("1,000 begun in a row, all of them", begun).mark(Mark::AtMost(2000.0)),
            Row::of("a list, 10,000 stored", many).against("hardly any", &few).mark(Mark::AtMost(50.0)),
            Row::of("a guest's `listen()` to the event", heard).mark(Mark::AtMost(100.0)),
        ],
    })
}

/// Writes and waits until it is on the disk.
fn syncs(directory: &Path, rounds: &Rounds) -> Result<Samples> {
    use std::io::Write as _;
    let mut file = tempfile::tempfile_in(directory)?;
    let mut took = Samples::times();
    for _ in 0..rounds.exec {
        let begun = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    Ok(took)
}

async fn lists(client: &Client, rounds: &Rounds) -> Result<Samples> {
    let mut took = Samples::times();
    for _ in 0..rounds.exec {
        let begun = Instant::now();
        client.newest_operations(100).await?;
        took.push(begun.elapsed());
    }
    Ok(took)
}

/// Returns what an operation takes that does nothing, and what many take to begin. They wait for one that never ends.
async fn nothing(client: &Client, directory: &Path, rounds: &Rounds) -> Result<(Samples, Samples)> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let pipe = directory.join("pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?;
    let source = format!("tar:{}", pipe.display());
    let pull = |name: String| PullRequest { source: source.clone(), name: Some(name) };
    client.pull_image(&pull("endless".to_owned())).await?;
    let mut empty = Samples::times();
    for number in 0..rounds.exec {
        let request = pull(format!("empty{number}"));
        let begun = Instant::now();
        let operation = client.pull_image(&request).await?;
        client.cancel_operation(operation.id.as_str()).await?;
        let ended = ended(client, operation).await?;
        empty.push(begun.elapsed());
        ensure!(ended.status == OperationStatus::Cancelled, "{ended:?}");
    }
    let mut all = Samples::times();
    let begun = Instant::now();
    for number in 0..BEGUN {
        client.pull_image(&pull(format!("begun{number}"))).await?;
    }
    all.push(begun.elapsed());
    Ok((empty, all))
}

async fn ended(client: &Client, mut operation: Operation) -> Result<Operation> {
    let mut changes = client.watch_operation(operation.id.as_str()).await?;
    while let Some(change) = changes.next().await? {
        operation = change;
    }
    Ok(operation)
}

/// Puts operations that have ended into a database that no daemon uses.
fn store(environment: &Environment) -> Result<()> {
    let store = SqliteStore::open(&environment.data().join("banger.db"))?;
    let mut operation = store.unfinished_operations()?.pop().context("no operation is under way")?;
    operation.status = OperationStatus::Succeeded;
    for number in 0..STORED {
        operation.id = OperationId::from_random(u64::from(number));
        operation.created_at += Duration::from_millis(1);
        store.put_operation(&operation)?;
    }
    Ok(())
}

/// Returns how long after a guest has said that it listens the event comes.
async fn listens(banger: &Banger, rounds: &Rounds) -> Result<Samples> {
    const VM: &str = "listens";
    banger.run(&["vm", "create", VM, "--image", PROBE, "--net", "none"])?;
    let client = Client::new(banger.data().join("run/bangerd.sock"));
    let mut took = Samples::times();
    for number in 0..u16::try_from(rounds.boot)? {
        let port = PORT + number;
        let mut changes = client.watch_vm(VM).await?;
        let mut serve = banger.command("banger");
        serve.args(["exec", "-i", VM, "--", "/probe", "serve", &format!("127.0.0.1:{port}")]);
        let server = Server::start(serve)?;
        let has_it = |vm: &Vm| vm.sockets.iter().any(|socket: &ListeningSocket| socket.port == port);
        let seen = loop {
            let vm = changes.next().await?.context("the VM is gone")?;
            if has_it(&vm) {
                break Instant::now();
            }
        };
        took.push(seen.saturating_duration_since(server.said()?));
    }
    banger.remove(VM)?;
    Ok(took)
}

/// A program in a guest that says when it listens. It ends with this.
struct Server {
    process: Child,
    said: Receiver<Instant>,
}

impl Server {
    fn start(mut command: Command) -> Result<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = process.stdout.take().context("no standard output")?;
        let (sender, said) = channel();
        std::thread::spawn(move || {
            if BufReader::new(output).read_line(&mut String::new()).is_ok() {
                sender.send(Instant::now()).ok();
            }
        });
        Ok(Self { process, said })
    }

    /// Waits until it has said so, and returns when that was.
    fn said(&self) -> Result<Instant> {
        Ok(self.said.recv()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}
