//! What the guest says of its resources, as the kernel tells it (proc(5)).

use std::io;

use banger_types::guest::GuestStats;

/// Returns what the guest takes now.
pub(super) fn stats() -> io::Result<GuestStats> {
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let uptime = uptime.tv_sec.saturating_mul(1000).saturating_add(uptime.tv_nsec / 1_000_000);
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    // What the kernel does not tell is left out: an image may hide a part of /proc.
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let cpu =
        read("/proc/stat").and_then(|stat| processor_time(&stat, rustix::param::clock_ticks_per_second()));
    let network = read("/proc/net/dev").map(|devices| network(&devices));
    let root = rustix::fs::statvfs("/").ok();
    let blocks = |of: fn(&rustix::fs::StatVfs) -> u64| {
        root.as_ref().map(|root| of(root).saturating_mul(root.f_frsize))
    };
    Ok(GuestStats {
        uptime_ms: u64::try_from(uptime).unwrap_or(0),
        memory_total: required(&memory, "MemTotal")?,
        memory_available: required(&memory, "MemAvailable")?,
        memory_free: field(&memory, "MemFree"),
        memory_cached: ["Buffers", "Cached", "SReclaimable"].iter().map(|name| field(&memory, name)).sum(),
        cpu_busy_ms: cpu.map(|(busy, _)| busy),
        cpu_total_ms: cpu.map(|(_, total)| total),
        load_hundredths: read("/proc/loadavg").and_then(|load| averages(&load)),
        disk_total: blocks(|root| root.f_blocks),
        disk_used: blocks(|root| root.f_blocks.saturating_sub(root.f_bfree)),
        network_received: network.map(|(received, _)| received),
        network_sent: network.map(|(_, sent)| sent),
    })
}

fn required(memory: &str, name: &str) -> io::Result<u64> {
    field(memory, name)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/meminfo has no {name}")))
}

/// Returns a field of `/proc/meminfo` in bytes; the kernel writes `NAME:   NUMBER kB`.
fn field(memory: &str, name: &str) -> Option<u64> {
    let value = memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns how long all processors have worked, and that with how long they did not, in milliseconds. The first line of
/// `/proc/stat` is in ticks: user, nice, system, idle, iowait, irq, softirq, steal; what guests take is in the first two.
fn processor_time(stat: &str, ticks_per_second: u64) -> Option<(u64, u64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map(|field| field.parse().unwrap_or(0)).collect();
    let [_, _, _, idle, waiting, ..] = ticks[..] else { return None };
    let milliseconds = |ticks: u64| ticks.checked_mul(1000)?.checked_div(ticks_per_second);
    let total = ticks.iter().fold(0_u64, |sum, ticks| sum.saturating_add(*ticks));
    let busy = total.saturating_sub(idle).saturating_sub(waiting);
    Some((milliseconds(busy)?, milliseconds(total)?))
}

/// Returns the three averages of `/proc/loadavg`, which has them with two decimals.
fn averages(load: &str) -> Option<[u32; 3]> {
    let mut fields = load.split_whitespace().map(|field| field.replace('.', "").parse::<u32>().ok());
    Some([fields.next()??, fields.next()??, fields.next()??])
}

/// Returns what all cards but the loopback have received and sent, bytes. `/proc/net/dev` has a line for each: name, eight
/// numbers of what was received and eight of what was sent, bytes first.
fn network(devices: &str) -> (u64, u64) {
    let cards =
        devices.lines().filter_map(|line| line.trim().split_once(':')).filter(|(name, _)| *name != "lo");
    let numbers = cards.filter_map(|(_, numbers)| {
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        Some((*numbers.first()?, *numbers.get(8)?))
    });
    numbers.fold((0, 0), |(received, sent), (r, s)| (received + r, sent + s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:         245000 kB\nMemFree:  1 kB\nMemAvailable:\t 2 kB\n";
        assert_eq!(required(text, "MemTotal").unwrap(), 245_000 * 1024);
        assert_eq!(field(text, "MemAvailable"), Some(2048));
        assert!(required(text, "Mem").is_err());
        assert_eq!(field("MemTotal: lots", "MemTotal"), None);
    }

    #[test]
    fn the_kernels_other_files_are_read() {
        let stat = "cpu  100 20 30 400 50 6 7 8 9 10\ncpu0 1 2 3 4\n";
        assert_eq!(processor_time(stat, 100), Some((1710, 6210)));
        assert_eq!(processor_time("cpu  1 2\n", 100), None);
        assert_eq!(averages("0.05 1.20 10.00 1/100 77\n"), Some([5, 120, 1000]));
        assert_eq!(averages("0.05"), None);
        let devices = "Inter-|   Receive\n face |bytes    packets\n    lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  \
                       eth0: 100 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0\n  eth1:1 1 0 0 0 0 0 0 2 1 0 0 0 0 0 0\n";
        assert_eq!(network(devices), (101, 202));
        let own = stats().unwrap();
        assert!(own.cpu_total_ms >= own.cpu_busy_ms && own.disk_total >= own.disk_used, "{own:?}");
    }
}
