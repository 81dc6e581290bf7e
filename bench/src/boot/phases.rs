//! Where the time from nothing to the first command goes.

use std::time::Duration;

use anyhow::{Context as _, Result};
use banger_testkit::seed::{BUSYBOX, DEBIAN};

use crate::banger::{Banger, processor_time};
use crate::report::{Comparison, Row};
use crate::rounds::Rounds;
use crate::sample::{Named, Samples};

/// Around the number of milliseconds that the guest's init prints when the image's root stands.
const ROOT_IS_READY: [&str; 2] = ["root is ready ", " ms after the kernel started"];

/// Takes some boots apart. `bare_work` is the processor time of the bare VMM of this name.
pub(super) fn measure(
    banger: &Banger,
    rounds: &Rounds,
    bare_name: &str,
    bare_work: &Samples,
) -> Result<Comparison> {
    let mut parts = Named::default();
    let mut work = Samples::times();
    for round in 0..rounds.phases {
        for (image, network) in [(BUSYBOX, "none"), (DEBIAN, "user")] {
            let vm = format!("phases-{image}-{round}");
            let processor = take_apart(banger, image, network, &vm, &mut parts)?;
            if image == BUSYBOX {
                work.push(processor);
            }
        }
    }
    let work = Row::of(format!("{BUSYBOX}: processor time of the VMM until the command has run"), work)
        .against(format!("the {bare_name} above, until its line"), bare_work);
    Ok(Comparison {
        title: "Where that time goes".to_owned(),
        method: "Other VMs than above, kept until they were looked at. The operation's phases are the daemon's own \
                 (whole milliseconds); the guest's clock begins when its kernel does, after firmware and \
                 decompression, and was read by the command itself. Processor time depends less than wall time \
                 on what else the machine does. Debian's image boots systemd."
            .to_owned(),
        rows: parts.into_iter().map(|(what, samples)| Row::of(what, samples)).chain([work]).collect(),
    })
}

/// Boots one, and returns the processor time of its VMM.
fn take_apart(banger: &Banger, image: &str, network: &str, vm: &str, parts: &mut Named) -> Result<Duration> {
    let command = ["cat", "/proc/uptime"];
    let options = ["vm", "run", "--name", vm, "--image", image, "--net", network, "--"];
    let run = banger.run(&[&options[..], &command].concat())?;
    let processor = processor_time(banger.vmm_pid(vm)?)?;
    let operation = banger.operation("vm_create", vm)?;
    let console = banger.run(&["vm", "logs", vm])?.output;
    let removed = banger.remove(vm)?;

    let uptime = guest_uptime(&run.output)?;
    let mut add = |what: &str, time| parts.push(&format!("{image}, `--net {network}`: {what}"), time);
    add("to the first line", run.first_line);
    for (stage, duration) in &operation.phases {
        add(&format!("— phase \"{stage}\""), *duration);
    }
    add(
        "— client and session: all that is not the operation",
        run.first_line.saturating_sub(operation.whole),
    );
    add("— before the guest's clock begins", run.first_line.saturating_sub(uptime));
    add("— on the guest's clock, root is ready", root_is_ready(&console)?);
    add("— on the guest's clock, the command runs", uptime);
    add("deleting it, running", removed);
    Ok(processor)
}

/// Reads the first number of `/proc/uptime` (`proc_uptime(5)`).
fn guest_uptime(text: &str) -> Result<Duration> {
    let seconds = text.split(' ').next().unwrap_or_default().parse();
    Ok(Duration::from_secs_f64(seconds.with_context(|| format!("{text:?} is no uptime"))?))
}

/// Finds what the guest's init said.
fn root_is_ready(console: &str) -> Result<Duration> {
    let [before, after] = ROOT_IS_READY;
    let number = console.split_once(before).and_then(|(_, rest)| Some(rest.split_once(after)?.0));
    let number = number.with_context(|| format!("the console has no \"{before}\":\n{console}"))?;
    Ok(Duration::from_millis(number.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_own_words_are_understood() {
        let console = "[    0.5] PCI: x\r\nbanger-guest: root is ready 2131 ms after the kernel started\r\n";
        assert_eq!(root_is_ready(console).unwrap(), Duration::from_millis(2131));
        assert!(root_is_ready("panic").is_err());
        assert_eq!(guest_uptime("2.31 3.02\n").unwrap(), Duration::from_millis(2310));
        assert!(guest_uptime("").is_err());
    }
}
