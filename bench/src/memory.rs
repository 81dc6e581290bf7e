//! What a VM takes of the host's memory beyond its guest's, against the VMM alone.

use anyhow::{Result, ensure};
use banger_testkit::seed::BUSYBOX;

use crate::banger::Banger;
use crate::boot::{Bare, Init};
use crate::footprint::monitor_pid;
use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::{Samples, Unit};

const VM: &str = "memory";
/// The guest's memory, MiB: a mapping of this size is the guest's.
const GUEST: u64 = 256;
/// Most that banger may take beyond the VMM alone, KiB.
const MOST_BEYOND_BARE: f64 = 3.0 * 1024.0;

/// Measures VMs without a network that have booted.
pub(crate) fn measure(banger: &Banger, rounds: &Rounds) -> Result<Comparison> {
    let (mut ours, mut monitors, mut bare) =
        (Samples::new(Unit::Kibibytes), Samples::new(Unit::Kibibytes), Samples::new(Unit::Kibibytes));
    let mut name = "";
    for _ in 0..rounds.memory {
        let size = format!("{GUEST}M");
        banger.run(&["vm", "create", VM, "--net", "none", "--image", BUSYBOX, "--memory", &size])?;
        let directory = banger.directory(VM)?;
        let alone = Bare::like(&directory, Init::Stays, banger.scratch())?;
        name = alone.name;
        let monitor = proportional(monitor_pid(&directory)?, None)?;
        ours.push_number(monitor + proportional(banger.vmm_pid(VM)?, Some(GUEST))?);
        monitors.push_number(monitor);
        // After the other has gone: what two processes share counts half for each.
        banger.remove(VM)?;
        let alone = alone.boot_to_stay()?;
        bare.push_number(proportional(alone.pid(), Some(GUEST))?);
    }
    Ok(Comparison {
        title: "Memory of a VM beside its guest's".to_owned(),
        method: format!(
            "busybox, `--net none`, {GUEST} MiB: `Pss` of `/proc/PID/smaps`, all mappings but the guest's memory, of the VMM \
             and the monitor together; and of the VMM alone, as above, whose init stays."
        ),
        rows: vec![
            Row::of("VMM and monitor", ours).against(name, &bare).mark(Mark::Beyond(MOST_BEYOND_BARE)),
            Row::of("— of that, the monitor", monitors),
        ],
    })
}

/// What the mappings of a process say (`proc_pid_smaps(5)`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mappings {
    /// The proportional set size of those that are no guest's memory, KiB.
    pub(crate) proportional: u64,
    /// How many are a guest's memory.
    pub(crate) guests: usize,
}

/// Returns the proportional set size of a process, KiB, without the one mapping that is the memory
/// of a guest of so many MiB.
fn proportional(pid: u64, guest: Option<u64>) -> Result<u64> {
    let maps = fs_err::read_to_string(format!("/proc/{pid}/smaps"))?;
    sum(&maps, guest.map(|guest| guest << 10))
}

fn sum(maps: &str, guest: Option<u64>) -> Result<u64> {
    let Mappings { proportional, guests } = Mappings::read(maps, guest);
    ensure!(proportional > 0, "a process without memory");
    ensure!(guests == usize::from(guest.is_some()), "{guests} mappings are the guest's memory");
    Ok(proportional)
}

impl Mappings {
    /// Reads the text. A mapping of at least `guest` KiB is a guest's memory.
    pub(crate) fn read(maps: &str, guest: Option<u64>) -> Self {
        let (mut found, mut size) = (Self::default(), 0);
        for line in maps.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim().strip_suffix(" kB").and_then(|value| value.parse::<u64>().ok());
            let Some(value) = value else { continue };
            match name {
                "Size" => size = value,
                // The kernel puts neighbours together: it may be a little larger.
                "Pss" if guest.is_some_and(|guest| size >= guest) => found.guests += 1,
                "Pss" => found.proportional += value,
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
        7f00-7f01 rw-p 00000000 00:00 0 \n\
        Size:             262276 kB\n\
        Pss:               50000 kB\n\
        Pss_Dirty:         50000 kB\n\
        7f02-7f03 r-xp 00000000 00:00 0 /opt/firecracker\n\
        Size:               3000 kB\n\
        Pss:                1500 kB\n";

    #[test]
    fn the_guests_memory_does_not_count() {
        assert_eq!(sum(MAPS, Some(262_144)).unwrap(), 1500);
        assert_eq!(sum(MAPS, None).unwrap(), 51_500);
        assert!(sum(MAPS, Some(300_000)).is_err());
        assert!(sum("", None).is_err());
    }
}
