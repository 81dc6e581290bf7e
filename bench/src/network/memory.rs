//! What an idle VM takes of the host's memory, with everything that is there for it.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{GUEST_MEMORY, SIZES, bare, place, processes};
use crate::banger::{Banger, time};
use crate::footprint::monitor_pid;
use crate::memory::Mappings;
use crate::report::{Comparison, Mark, Row};
use crate::rounds::Rounds;
use crate::sample::{Named, Samples, Unit};

const VM: &str = "idle";
/// A network's name server, which is no child of the VM's monitor.
const NAME_SERVER: &str = "banger-names";
/// What the process is called here that has the guest's memory.
const VMM: &str = "the VMM";

/// A mode, and most that a VM in it may take beyond the bare machine, KiB.
struct Side {
    mode: &'static str,
    most: Option<f64>,
    total: Samples,
    shares: Named,
}

/// What the processes of one VM take, by their names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Shares(BTreeMap<String, (usize, u64)>);

/// Measures VMs that have booted, each alone on the host.
pub(super) fn measure(banger: &Banger, model: &bare::Model, rounds: &Rounds) -> Result<Comparison> {
    let side = |mode, most: Option<f64>| Side {
        mode,
        most: most.map(|mebibytes| mebibytes * 1024.0),
        total: Samples::new(Unit::Kibibytes),
        shares: Named::default(),
    };
    let mut sides = [side("nat", Some(3.0)), side("user", Some(6.0)), side("none", None)];
    let bare_machine = model.bare(None)?;
    let mut bare = Samples::new(Unit::Kibibytes);
    for _ in 0..rounds.memory {
        for side in &mut sides {
            side.measure(banger)?;
        }
        // After the others have gone: what two processes share counts half for each.
        let running = bare_machine.boot_to_stay()?;
        bare.push_number(Shares::of(&[(running.pid(), String::new())])?.total());
    }
    Ok(Comparison {
        title: "Idle memory of a VM, by network".to_owned(),
        method: format!(
            "busybox, {GUEST_MEMORY} MiB, a VM alone on its host: `Pss` of `/proc/PID/smaps`, all mappings but the guest's memory, of \
             all processes that are there for it: its monitor, and all that this has started; for `nat` the network's name server \
             as well, which is counted in full though all VMs of a user share it. {} is one process.",
            bare_machine.name
        ),
        rows: sides.into_iter().flat_map(|side| side.rows(bare_machine.name, &bare)).collect(),
    })
}

impl Side {
    fn measure(&mut self, banger: &Banger) -> Result<()> {
        banger.run(&[&["vm", "create", VM, "--net", self.mode], &SIZES[..]].concat())?;
        let all = processes::all()?;
        let monitor = monitor_pid(&banger.directory(VM)?)?;
        let mut own = processes::descendants(&all, monitor);
        own.extend(all.into_iter().filter(|process| process.name == NAME_SERVER));
        let own: Vec<(u64, String)> = own.into_iter().map(|process| (process.pid, process.name)).collect();
        let shares = Shares::of(&own)?;
        banger.remove(VM)?;
        self.total.push_number(shares.total());
        for (name, (count, kibibytes)) in shares.0 {
            let times = if count > 1 { format!(", {count} of them") } else { String::new() };
            self.shares.push_number(&format!("{name}{times}"), Unit::Kibibytes, kibibytes);
        }
        Ok(())
    }

    fn rows(self, bare_name: &str, bare: &Samples) -> Vec<Row> {
        let mode = self.mode;
        let total = Row::of(format!("`{mode}`: everything"), self.total).against(bare_name, bare);
        let total = self.most.map(Mark::Beyond).into_iter().fold(total, Row::mark);
        let shares = self.shares.into_iter();
        let shares = shares.map(|(name, samples)| Row::of(format!("`{mode}`: — of that, {name}"), samples));
        [total].into_iter().chain(shares).collect()
    }
}

impl Shares {
    /// Reads what these processes take, by their numbers and names. One of them has the guest's memory.
    fn of(processes: &[(u64, String)]) -> Result<Self> {
        let mut aid = Command::new(place::AID_AS_ROOT);
        aid.arg("maps").args(processes.iter().map(|(pid, _)| pid.to_string()));
        let (shares, guests) = Self::read(&time(&mut aid)?.output, processes)?;
        ensure!(guests == 1, "{guests} mappings are the guest's memory: {shares:?}");
        Ok(shares)
    }

    /// Reads what the aid has printed; returns also how many mappings are a guest's memory.
    fn read(maps: &str, processes: &[(u64, String)]) -> Result<(Self, usize)> {
        let (mut shares, mut guests) = (Self::default(), 0);
        for text in maps.split("process ").skip(1) {
            let (pid, maps) = text.split_once('\n').context("a process without a line")?;
            let pid: u64 = pid.parse().with_context(|| format!("process {pid}"))?;
            let found = Mappings::read(maps, Some(GUEST_MEMORY << 10));
            guests += found.guests;
            // A thread of the kernel's has nothing.
            if found == Mappings::default() {
                continue;
            }
            let name = processes.iter().find(|(known, _)| *known == pid).map(|(_, name)| format!("`{name}`"));
            let name = if found.guests > 0 { Some(VMM.to_owned()) } else { name };
            let share = shares.0.entry(name.with_context(|| format!("nobody has asked for {pid}"))?);
            let (count, kibibytes) = share.or_default();
            *count += 1;
            *kibibytes += found.proportional;
        }
        Ok((shares, guests))
    }

    fn total(&self) -> u64 {
        self.0.values().map(|(_, kibibytes)| kibibytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "process 7\n\
        7f00-7f01 rw-p 00000000 00:00 0 \n\
        Size:             262276 kB\n\
        Pss:               50000 kB\n\
        7f02-7f03 r-xp 00000000 00:00 0 /vmm\n\
        Size:               3000 kB\n\
        Pss:                1500 kB\n\
        \n\
        process 8\n\
        Pss:                 100 kB\n\
        process 9\n\
        \n\
        process 10\n\
        Pss:                  20 kB\n";

    #[test]
    fn each_has_its_share_and_the_guests_memory_is_nobodys() {
        let names =
            [(7, "vmm"), (8, "sudo"), (9, "kvm-nx"), (10, "sudo")].map(|(pid, name)| (pid, name.to_owned()));
        let (shares, guests) = Shares::read(MAPS, &names).unwrap();
        assert_eq!((shares.total(), guests), (1620, 1));
        let shares: Vec<_> = shares.0.into_iter().collect();
        assert_eq!(shares, [("`sudo`".to_owned(), (2, 120)), (VMM.to_owned(), (1, 1500))]);
        assert!(Shares::read(MAPS, &names[..1]).is_err());
    }
}
