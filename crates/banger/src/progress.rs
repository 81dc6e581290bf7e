//! Following an operation until it ends: bars on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use banger_api::{Client, ClientError};
use banger_types::operation::{Operation, OperationStatus, Progress, ProgressPart, Unit};
use banger_types::size::human_bytes;
use banger_types::{ApiError, ErrorKind};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags};
use rustix::pipe::PipeFlags;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::OnInterrupt;
use crate::context::Context;
use crate::error::CommandError;
use crate::printer::{Printer, duration, printable};

/// Exit code of a wait that the user gave up: nothing failed.
const DETACHED: u8 = 0;

/// A phase that counts to an end.
const WITH_END: &str = "{spinner} {msg} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";

/// One of several things that go on side by side.
const PART: &str = "  {msg} [{bar:24}] {bytes}/{total_bytes}";

/// A phase of which nobody knows how long it takes.
const WITHOUT_END: &str = "{spinner} {msg} {elapsed}";

/// Follows an operation to its end and returns it. Its failure, and its cancel, are errors.
///
/// Ctrl-C does what was chosen; if nothing was, it asks on a terminal whether to let it go on or to cancel it, and elsewhere
/// cancels. A second one stops waiting at once.
pub(crate) async fn follow(
    context: &Context,
    operation: Operation,
    on_interrupt: Option<OnInterrupt>,
) -> Result<Operation, CommandError> {
    show_until_end(context, operation, Interruption { may_detach: true, chosen: on_interrupt }).await
}

/// Follows an operation as [`follow`] does, where it would not go on without this process: Ctrl-C
/// offers nothing but to cancel it.
pub(crate) async fn follow_to_the_end(
    context: &Context,
    operation: Operation,
    on_interrupt: Option<OnInterrupt>,
) -> Result<Operation, CommandError> {
    show_until_end(context, operation, Interruption { may_detach: false, chosen: on_interrupt }).await
}

/// What an interrupt may mean.
#[derive(Debug, Clone, Copy)]
struct Interruption {
    may_detach: bool,
    /// What was chosen beforehand, so that nobody is asked.
    chosen: Option<OnInterrupt>,
}

async fn show_until_end(
    context: &Context,
    operation: Operation,
    interruption: Interruption,
) -> Result<Operation, CommandError> {
    let client = context.daemon().await?;
    let mut display = Display::new(context.printer, interruption);
    let ended = wait(client, operation, &mut display).await;
    display.clear();
    if display.interrupted {
        context.interrupt();
    }
    let operation = match ended? {
        Waited::Ended(operation) => {
            // Whoever reads the progress has read them there.
            if context.printer.is_json() {
                operation.warnings.iter().for_each(|warning| context.printer.warning(warning));
            }
            operation
        }
        Waited::Detached(operation) => {
            if interruption.may_detach {
                let id = &operation.id;
                context.printer.note(&format!("operation {id} goes on; to follow it: banger op watch {id}"));
            }
            return Err(CommandError::Reported(DETACHED));
        }
    };
    into_result(operation)
}

/// Follows an operation as [`follow`] does, without showing it.
pub(crate) async fn quietly(context: &Context, operation: Operation) -> Result<Operation, CommandError> {
    let mut display = Display::hidden();
    match wait(context.daemon().await?, operation, &mut display).await? {
        Waited::Ended(operation) => into_result(operation),
        Waited::Detached(_) => Err(CommandError::Reported(DETACHED)),
    }
}

/// Returns a succeeded operation, or what became of it as an error.
pub(crate) fn into_result(operation: Operation) -> Result<Operation, CommandError> {
    let (kind, became) = match operation.status {
        OperationStatus::Pending
        | OperationStatus::Running
        | OperationStatus::Cancelling
        | OperationStatus::Succeeded => return Ok(operation),
        OperationStatus::Cancelled => (ErrorKind::Cancelled, "was cancelled"),
        OperationStatus::Failed => (ErrorKind::Failed, "failed"),
    };
    let Operation { error, subject, id, .. } = operation;
    // What is left of the subject differs from one kind of operation to the other; the daemon knows.
    let error = error.unwrap_or_else(|| {
        ApiError::new(kind, format!("the operation on '{subject}' {became}"))
            .fix(format!("banger op logs {id}"))
    });
    Err(error.into())
}

enum Waited {
    Ended(Operation),
    Detached(Operation),
}

async fn wait(
    client: &Client,
    mut operation: Operation,
    display: &mut Display,
) -> Result<Waited, CommandError> {
    let mut interrupts = Interrupts::new()?;
    let id = operation.id.clone();
    let gone = |error| left_by_a_daemon(error, id.as_str());
    let mut changes = client.watch_operation(id.as_str()).await.map_err(gone)?;
    let mut cancelled = false;
    while !operation.status.is_final() {
        display.update(&operation);
        tokio::select! {
            change = changes.next() => match change {
                Ok(Some(change)) => operation = change,
                // The stream ends with the operation, or with the daemon.
                Ok(None) => match client.operation(id.as_str()).await {
                    Ok(last) if last.status.is_final() => operation = last,
                    Ok(_) => return Err(left(id.as_str())),
                    Err(error) => return Err(left_by_a_daemon(error, id.as_str())),
                },
                Err(error) => return Err(left_by_a_daemon(error, id.as_str())),
            },
            () = interrupts.next() => {
                if cancelled {
                    return Ok(Waited::Detached(operation));
                }
                match display.ask(&mut interrupts).await? {
                    Answer::Wait => display.note("waiting on"),
                    Answer::Detach => {
                        display.interrupted = true;
                        return Ok(Waited::Detached(operation));
                    }
                    Answer::Cancel => {
                        (cancelled, display.interrupted) = (true, true);
                        cancel(client, &operation, display).await?;
                    }
                }
            }
        }
    }
    display.update(&operation);
    Ok(Waited::Ended(operation))
}

/// Returns the error of whoever waits for an operation whose daemon has ended: that is not the operation's end.
pub(crate) fn left(id: &str) -> CommandError {
    let what = format!("bangerd ended before operation {id} did");
    let why = "what it was doing is not lost: the next bangerd goes on with it, or undoes it";
    ApiError::new(ErrorKind::Unreachable, what).because(why).fix(format!("banger op watch {id}")).into()
}

/// Tells a daemon that is gone from one that answers with an error.
pub(crate) fn left_by_a_daemon(error: ClientError, id: &str) -> CommandError {
    match error {
        ClientError::Connect { .. } | ClientError::Transport(_) => left(id),
        other => other.into(),
    }
}

async fn cancel(client: &Client, operation: &Operation, display: &Display) -> Result<(), CommandError> {
    match client.cancel_operation(operation.id.as_str()).await {
        Ok(_) => display.note("cancelling; once more to stop waiting"),
        // It ended meanwhile, or is past the point where it can be undone.
        Err(ClientError::Api(error)) if error.kind == ErrorKind::Conflict => {
            display.note(&format!("{}; waiting for it, once more to stop waiting", error.what));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// What a user wants after Ctrl-C.
enum Answer {
    Wait,
    Detach,
    Cancel,
}

/// Ctrl-C and `kill`.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> Result<Self, CommandError> {
        let listen =
            |kind| signal(kind).map_err(|source| CommandError::io("cannot listen to signals", &source));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Shows an operation on standard error.
struct Display {
    bar: Option<ProgressBar>,
    /// A line below for each thing that goes on beside others.
    parts: Option<Parts>,
    quiet: bool,
    interruption: Interruption,
    /// The user has had enough.
    interrupted: bool,
    finished: usize,
    warned: usize,
    stage: Option<String>,
}

impl Display {
    fn new(printer: Printer, interruption: Interruption) -> Self {
        let lines = printer.shows_progress().then(|| {
            let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            (lines.add(bar(WITHOUT_END)), Parts { lines, bars: Vec::new() })
        });
        let (bar, parts) = lines.unzip();
        Self { bar, parts, ..Self::silent(printer.is_json(), interruption) }
    }

    fn hidden() -> Self {
        Self::silent(true, Interruption { may_detach: false, chosen: None })
    }

    const fn silent(quiet: bool, interruption: Interruption) -> Self {
        let (bar, parts, stage) = (None, None, None);
        Self { bar, parts, quiet, interruption, interrupted: false, finished: 0, warned: 0, stage }
    }

    fn note(&self, text: &str) {
        let text = printable(text);
        match &self.bar {
            Some(bar) => bar.println(text),
            None if self.quiet => {}
            None => drop(io::Write::write_all(&mut io::stderr().lock(), format!("{text}\n").as_bytes())),
        }
    }

    fn update(&mut self, operation: &Operation) {
        for phase in operation.finished_phases.iter().skip(self.finished) {
            self.note(&format!("{}: {}", phase.stage, duration(phase.duration_ms)));
        }
        self.finished = self.finished.max(operation.finished_phases.len());
        for warning in operation.warnings.iter().skip(self.warned) {
            self.note(&format!("warning: {warning}"));
        }
        self.warned = self.warned.max(operation.warnings.len());
        if operation.status == OperationStatus::Pending {
            self.say_stage("wait for others to end");
            return;
        }
        let Some(progress) = operation.progress.as_ref().filter(|_| !operation.status.is_final()) else {
            return;
        };
        if let Some(bar) = &self.bar {
            show(bar, progress);
            if let Some(parts) = &mut self.parts {
                parts.show(&progress.parts);
            }
        } else {
            self.say_stage(&progress.stage);
        }
    }

    /// Says what is going on, once.
    fn say_stage(&mut self, stage: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(printable(stage));
        } else if self.stage.as_deref() != Some(stage) {
            self.note(&format!("{stage} ..."));
            self.stage = Some(stage.to_owned());
        }
    }

    /// Asks what an interrupt means; without a terminal it means to cancel.
    async fn ask(&self, interrupts: &mut Interrupts) -> Result<Answer, CommandError> {
        match self.interruption.chosen {
            Some(OnInterrupt::Detach) if self.interruption.may_detach => return Ok(Answer::Detach),
            Some(OnInterrupt::Cancel | OnInterrupt::Detach) => return Ok(Answer::Cancel),
            None => {}
        }
        let (Some(bar), true) = (&self.bar, io::stdin().is_terminal()) else {
            return Ok(Answer::Cancel);
        };
        bar.println(if self.interruption.may_detach {
            "Stop waiting? d: detach, it goes on by itself; c: cancel it; anything else: keep waiting"
        } else {
            "Cancel it? c: cancel it; anything else: keep waiting"
        });
        tokio::select! {
            line = line_from_terminal() => Ok(match line?.trim().to_lowercase().as_str() {
                "d" | "detach" if self.interruption.may_detach => Answer::Detach,
                "c" | "cancel" => Answer::Cancel,
                _ => Answer::Wait,
            }),
            () = interrupts.next() => Ok(Answer::Cancel),
        }
    }

    fn clear(&mut self) {
        if let Some(parts) = &mut self.parts {
            parts.show(&[]);
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The lines of things that go on side by side.
struct Parts {
    lines: MultiProgress,
    bars: Vec<(String, ProgressBar)>,
}

impl Parts {
    fn show(&mut self, parts: &[ProgressPart]) {
        self.bars.retain(|(name, bar)| {
            let goes_on = parts.iter().any(|part| part.name == *name);
            if !goes_on {
                bar.finish_and_clear();
                self.lines.remove(bar);
            }
            goes_on
        });
        for part in parts {
            let known = self.bars.iter().find(|(name, _)| *name == part.name).map(|(_, bar)| bar.clone());
            let bar = known.unwrap_or_else(|| self.add(&part.name));
            if let Some(total) = part.total {
                bar.set_length(total);
            }
            bar.set_position(part.done);
        }
    }

    fn add(&mut self, name: &str) -> ProgressBar {
        let bar = self.lines.add(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
        set_template(&bar, PART);
        bar.set_message(printable(name));
        self.bars.push((name.to_owned(), bar.clone()));
        bar
    }
}

fn show(bar: &ProgressBar, progress: &Progress) {
    let stage = printable(&progress.stage);
    let template = match (progress.unit, progress.total) {
        (Unit::Bytes, Some(_)) => WITH_END,
        (Unit::Bytes, None) | (Unit::None, _) => WITHOUT_END,
    };
    if bar.message() != stage {
        bar.reset();
        bar.set_message(stage.clone());
    }
    match (progress.unit, progress.total) {
        (Unit::Bytes, Some(total)) => {
            bar.set_length(total);
            bar.set_position(progress.done.min(total));
        }
        (Unit::Bytes, None) => bar.set_message(format!("{stage} {}", human_bytes(progress.done))),
        (Unit::None, _) => {}
    }
    set_template(bar, template);
}

/// Returns a line on the terminal that moves by itself.
pub(crate) fn bar(template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // Before it is first drawn.
    set_template(&bar, template);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Sets what a line looks like, in ASCII, which the terminals of every locale show.
fn set_template(bar: &ProgressBar, template: &str) {
    // Templates are constants; one with a mistake would leave the line as it was.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.tick_chars(r"|/-\ ").progress_chars("#> "));
    }
}

/// Reads a line from the terminal. When the future is dropped, the thread that waits for the line
/// gives up, so that it cannot take a key of what comes later.
async fn line_from_terminal() -> Result<String, CommandError> {
    let failed = |source: io::Error| CommandError::io("cannot read the answer", &source);
    let (given_up, _wanted) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let read = tokio::task::spawn_blocking(move || {
        let terminal = io::stdin();
        let mut descriptors = [PollFd::new(&terminal, PollFlags::IN), PollFd::new(&given_up, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut descriptors, None))?;
        if descriptors[0].revents().is_empty() {
            return Ok(String::new());
        }
        // A terminal gives whole lines.
        let mut buffer = [0; 256];
        let count = rustix::io::read(&terminal, &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
    });
    read.await.map_err(|source| failed(source.into()))?.map_err(failed)
}
