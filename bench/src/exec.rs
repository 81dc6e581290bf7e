//! A command in a VM that runs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use banger_testkit::seed::BUSYBOX;

use crate::banger::{Banger, time};
use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::Samples;

const VM: &str = "exec";
/// What `banger exec` may take beyond a plain ssh on an open connection: 30 ms.
pub(crate) const MARK: Mark = Mark::Beyond(30.0);

/// Measures the round trip of `banger exec`.
pub(crate) fn measure(banger: &Banger, rounds: &Rounds, mark: Option<Mark>) -> Result<Comparison> {
    banger.run(&["vm", "create", VM, "--image", BUSYBOX])?;
    let (mut exec, mut list, mut warm, mut cold) =
        (Samples::times(), Samples::times(), Samples::times(), Samples::times());
    // The first session makes the guest read its programs from the drive.
    banger.run(&["exec", VM, "--", "/bin/true"])?;
    let master = Master::open(banger)?;
    for _ in 0..rounds.exec {
        exec.push(banger.run(&["exec", VM, "--", "/bin/true"])?.whole);
        warm.push(time(&mut master.ssh())?.whole);
        cold.push(time(&mut ssh(banger, &master.configuration))?.whole);
        list.push(banger.run(&["vm", "ls"])?.whole);
    }
    drop(master);
    banger.remove(VM)?;
    let warm_row = Row::of("`banger exec`", exec.clone()).against("`ssh` on an open connection", &warm);
    Ok(Comparison {
        title: "A command in a running VM".to_owned(),
        method: "`banger exec VM -- /bin/true` as a whole process: asks the daemon, connects through the monitor, an \
                 SSH handshake with an emulated processor, the command, the end. Beside it OpenSSH's `ssh VM.banger \
                 /bin/true` to the same server, over a connection that is open already (`ControlMaster`) and over one \
                 of its own; and `banger vm ls`, which is the client and the daemon without any guest."
            .to_owned(),
        rows: vec![
            mark.into_iter().fold(warm_row, Row::mark),
            Row::of("`banger exec`", exec).against("`ssh` with a connection of its own", &cold),
            Row::of("`banger vm ls`", list),
        ],
    })
}

fn ssh(banger: &Banger, configuration: &Path) -> Command {
    let mut command = banger.command("ssh");
    command.arg("-F").arg(configuration).arg(format!("{VM}.banger")).arg("/bin/true");
    command
}

/// An open connection of OpenSSH's, that later ones share. It ends with this.
struct Master {
    configuration: PathBuf,
    socket: tempfile::TempDir,
    process: Child,
    command: Command,
}

impl Master {
    fn open(banger: &Banger) -> Result<Self> {
        let shown = banger.json(&["ssh-config", "--json"])?;
        let configuration = PathBuf::from(shown["file"].as_str().context("no configuration for ssh")?);
        // Not among the data: a socket's path has 107 bytes at most (unix(7)).
        let socket = tempfile::tempdir()?;
        let mut command = banger.command("ssh");
        command.args(["-M", "-N", "-S"]).arg(socket.path().join("s")).arg("-F").arg(&configuration);
        let process = command.arg(format!("{VM}.banger")).stdin(Stdio::null()).spawn()?;
        let master = Self { configuration, socket, process, command: banger.command("ssh") };
        master.await_socket()?;
        Ok(master)
    }

    /// OpenSSH tells nobody that its connection is open; asking it costs a process each time.
    fn await_socket(&self) -> Result<()> {
        for _ in 0..600 {
            let mut check = Command::new(self.command.get_program());
            check.args(["-O", "check", "-S"]).arg(self.path()).arg("none");
            if check.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        bail!("ssh opened no connection")
    }

    fn path(&self) -> PathBuf {
        self.socket.path().join("s")
    }

    fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        command.arg("-S").arg(self.path()).arg("-F").arg(&self.configuration);
        command.arg(format!("{VM}.banger")).arg("/bin/true");
        command
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
