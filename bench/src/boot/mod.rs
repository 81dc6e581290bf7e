//! From nothing to the first command in a VM, against the VMM alone that boots the same kernel and no more.

mod bare;
mod phases;

use anyhow::Result;
use banger_testkit::seed::BUSYBOX;

pub(crate) use self::bare::{Bare, Card, Init, LINE, make_inits};
use crate::banger::Banger;
use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::Samples;

/// Most that banger may take, of bare QEMU's time by emulation, and what it aims at.
pub(crate) const EMULATED: Mark = Mark::Ratio(1.6, 1.3);
/// The same of bare Firecracker's time.
pub(crate) const FIRECRACKER: Mark = Mark::Ratio(1.4, 1.1);

/// One kind of network.
struct Side {
    network: &'static str,
    first_line: Samples,
    whole: Samples,
}

/// Boots in turns.
pub(crate) fn compare(banger: &Banger, rounds: &Rounds, mark: Mark) -> Result<Vec<Comparison>> {
    let bare = like_a_vm(banger)?;
    let (mut bare_line, mut bare_work) = (Samples::times(), Samples::times());
    let mut sides = ["none", "user"].map(|network| Side {
        network,
        first_line: Samples::times(),
        whole: Samples::times(),
    });
    for _ in 0..rounds.boot {
        let (elapsed, processor) = bare.boot()?;
        bare_line.push(elapsed);
        bare_work.push(processor);
        for side in &mut sides {
            side.measure(banger)?;
        }
    }
    let rows = sides.iter().flat_map(|side| side.rows(bare.name, &bare_line, mark)).collect();
    let ratio = Comparison {
        title: "Create to first exec, busybox image".to_owned(),
        method: format!(
            "`banger vm run --rm --net NETWORK --image busybox -- echo ready`, as a process, until its first line and \
             until its end, by when the VM is deleted again. {} has the same machine, processors, memory, kernel and \
             kernel parameters (taken from a VM's own), no drives and no cards, and an initramfs whose init of 24 \
             instructions prints a line: from the start of the VMM to that line on its serial console.",
            capitalised(bare.name)
        ),
        rows,
    };
    Ok(vec![ratio, phases::measure(banger, rounds, bare.name, &bare_work)?])
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Returns a bare machine with the options of a VM of banger's.
fn like_a_vm(banger: &Banger) -> Result<Bare> {
    let vm = "model";
    // The initramfs, the disk's template and the host's page cache are made ready by this, too.
    banger.run(&["vm", "create", vm, "--net", "none", "--image", BUSYBOX])?;
    let bare = Bare::like(&banger.directory(vm)?, Init::Ends, banger.scratch())?;
    banger.remove(vm)?;
    bare.boot()?;
    Ok(bare)
}

impl Side {
    fn measure(&mut self, banger: &Banger) -> Result<()> {
        let run = banger.run(&[
            "vm",
            "run",
            "--rm",
            "--net",
            self.network,
            "--image",
            BUSYBOX,
            "--",
            "echo",
            "ready",
        ])?;
        anyhow::ensure!(run.output == "ready\n", "the guest printed {:?}", run.output);
        self.first_line.push(run.first_line);
        self.whole.push(run.whole);
        Ok(())
    }

    fn rows(&self, bare_name: &str, bare: &Samples, mark: Mark) -> [Row; 2] {
        let row = |what: &str, samples: &Samples| {
            Row::of(format!("`--net {}`, {what}", self.network), samples.clone())
                .against(format!("{bare_name}, to its init's line"), bare)
        };
        [row("to its first line", &self.first_line).mark(mark), row("to its end", &self.whole)]
    }
}
