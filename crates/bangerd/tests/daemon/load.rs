//! Many clients at once, for a while: a few seconds every day, a minute in the full run.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use banger_api::Client;
use banger_api::request::{EventQuery, PullRequest};
use banger_testkit::is_full_run;
use banger_types::operation::{Operation, OperationStatus};
use tokio::task::JoinSet;

use crate::support::{Daemon, Pipe, request, resident};

/// How long a client thinks between two requests.
const THINKS: Duration = Duration::from_secs(1);

/// How many clients ask a server that does nothing: what such a crowd on such a machine costs anybody.
const CONTROL: u32 = 16;

/// How many operations are listed.
const NEWEST: u32 = 20;

/// Who does what.
struct Crowd {
    listen: usize,
    create: usize,
    cancel: usize,
    list: u32,
    duration: Duration,
}

fn crowd() -> Crowd {
    if is_full_run() {
        let duration = Duration::from_mins(1);
        Crowd { listen: 20, create: 10, cancel: 10, list: 160, duration }
    } else {
        Crowd { listen: 5, create: 3, cancel: 3, list: 29, duration: Duration::from_secs(5) }
    }
}

/// What everybody needs.
#[derive(Clone)]
struct Scene {
    client: Client,
    over: Arc<AtomicBool>,
    source: String,
}

impl Scene {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Lists once, and adds how long each list took.
    async fn list_once(&self, took: &mut Vec<Duration>) {
        let begun = Instant::now();
        self.client.vms().await.unwrap();
        took.push(begun.elapsed());
        let begun = Instant::now();
        self.client.newest_operations(NEWEST).await.unwrap();
        took.push(begun.elapsed());
    }

    /// Returns how long each list took.
    async fn list(self, part: f64) -> Vec<Duration> {
        // They do not all ask in the same moment.
        tokio::time::sleep(THINKS.mul_f64(part)).await;
        let mut took = Vec::new();
        while self.goes_on() {
            self.list_once(&mut took).await;
            tokio::time::sleep(THINKS).await;
        }
        took
    }

    /// Returns how long each list takes when nobody else asks for anything. There is as much to list as in the load.
    async fn list_idle(&self) -> Vec<Duration> {
        for number in 0..NEWEST {
            let create = request("idle", |request| request.no_start = true);
            let begun = match number % 2 {
                0 => self.client.create_vm(&create).await,
                _ => self.client.delete_vm("idle", true).await,
            };
            self.end(begun.unwrap()).await;
        }
        let mut took = Vec::new();
        for _ in 0..100 {
            // Nobody asks without a pause in the load either.
            tokio::time::sleep(THINKS / 50).await;
            self.list_once(&mut took).await;
        }
        took
    }

    async fn create(self, number: usize) {
        let name = format!("vm{number}");
        let create = request(&name, |request| request.no_start = true);
        while self.goes_on() {
            let made = self.client.create_vm(&create).await.unwrap();
            self.end(made).await;
            tokio::time::sleep(THINKS).await;
            let gone = self.client.delete_vm(&name, true).await.unwrap();
            self.end(gone).await;
            tokio::time::sleep(THINKS).await;
        }
    }

    /// Waits for the end of an operation, which must be a good one.
    async fn end(&self, operation: Operation) {
        let mut changes = self.client.watch_operation(operation.id.as_str()).await.unwrap();
        let mut last = operation;
        while let Some(change) = changes.next().await.unwrap() {
            last = change;
        }
        assert_eq!(last.status, OperationStatus::Succeeded, "{last:?}");
    }

    async fn cancel(self, number: usize) {
        let pull = PullRequest { source: self.source.clone(), name: Some(format!("image{number}")) };
        while self.goes_on() {
            let begun = self.client.pull_image(&pull).await.unwrap();
            tokio::time::sleep(THINKS).await;
            self.client.cancel_operation(begun.id.as_str()).await.unwrap();
            tokio::time::sleep(THINKS).await;
        }
    }

    /// Returns how many events came. One that does not read has none.
    async fn listen(self, reads: bool) -> usize {
        let mut events = self.client.events(&EventQuery::default()).await.unwrap();
        let mut count = 0;
        while self.goes_on() {
            if !reads {
                tokio::time::sleep(THINKS).await;
            } else if let Ok(event) = tokio::time::timeout(THINKS, events.next()).await {
                event.unwrap().unwrap();
                count += 1;
            }
        }
        count
    }
}

/// Answers every request with an empty list, on threads of its own.
fn idle_server(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    // It ends with the test's program.
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || answer_with_nothing(client));
        }
    });
}

fn answer_with_nothing(mut client: UnixStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]";
    let (mut asked, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        asked.extend_from_slice(&buffer[..length]);
        if asked.ends_with(b"\r\n\r\n") {
            client.write_all(ANSWER).ok();
            asked.clear();
        }
    }
}

fn percentile(sorted: &[Duration], part: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a short list"
    )]
    let place = ((sorted.len() - 1) as f64 * part) as usize;
    sorted[place]
}

#[test]
fn many_clients_are_served_and_nothing_grows() {
    let daemon = Daemon::new();
    let pipe = Pipe::new();
    let scene = Scene {
        client: daemon.client.clone(),
        over: Arc::new(AtomicBool::new(false)),
        source: pipe.source(),
    };
    let pid = daemon.environment.daemon_pid();
    let Crowd { listen, create, cancel, list, duration } = crowd();
    let mut idle = daemon.call(scene.list_idle());
    idle.sort();
    // What they measure is not to be what this program itself takes for all the others.
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("idle.sock");
    idle_server(&socket);
    let control = Scene { client: Client::new(socket), ..scene.clone() };
    let apart = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut took, mut control, memory) = daemon.call(async {
        let (mut listers, mut controls, mut others) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
        for number in 0..create {
            others.spawn(scene.clone().create(number));
        }
        for number in 0..cancel {
            others.spawn(scene.clone().cancel(number));
        }
        for number in 0..listen {
            let listening = scene.clone().listen(number > 0);
            others.spawn(async move { assert!((listening.await > 0) == (number > 0), "listener {number}") });
        }
        for number in 0..list {
            let part = f64::from(number) / f64::from(list);
            listers.spawn_on(scene.clone().list(part), apart.handle());
        }
        for number in 0..CONTROL {
            controls.spawn_on(control.clone().list(f64::from(number) / f64::from(CONTROL)), apart.handle());
        }
        tokio::time::sleep(duration / 3).await;
        let early = resident(pid);
        tokio::time::sleep(duration / 3 * 2).await;
        let memory = (early, resident(pid));
        scene.over.store(true, Ordering::Relaxed);
        others.join_all().await;
        (listers.join_all().await.concat(), controls.join_all().await.concat(), memory)
    });
    apart.shutdown_background();
    took.sort();
    control.sort();
    let (median, slow) = (percentile(&idle, 0.5), percentile(&took, 0.99));
    let (control_median, control_slow) = (percentile(&control, 0.5), percentile(&control, 0.99));
    println!(
        "{} lists, 99 of 100 within {slow:?}, idle median {median:?}; of a server that does nothing 99 of 100 within \
         {control_slow:?}, median {control_median:?}; memory {} and {} KiB",
        took.len(),
        memory.0,
        memory.1
    );
    // Where not even a server that does nothing keeps to it, the machine has no time for anybody.
    assert!(
        !is_full_run() || slow <= median * 5 || control_slow > control_median * 5,
        "the load slows lists down"
    );
    // In a few seconds it only comes to what it needs.
    let (early, late) = memory;
    assert!(!is_full_run() || late < early + early / 4, "memory grew from {early} to {late} KiB");
    // Whoever comes next finds everything as it should be.
    daemon.create("after", |_| {});
}
