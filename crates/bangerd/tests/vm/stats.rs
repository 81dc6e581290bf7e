//! What a real guest says that it takes.

use crate::guest::Guest;

/// Everything that a kernel tells is there, and makes sense.
pub(crate) fn a_guest_tells_what_it_takes(guest: &Guest) {
    let shown = guest.environment.succeed(&["vm", "stats", guest.image.name, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let of_guest = |name: &str| shown["guest"][name].as_u64().unwrap_or_else(|| panic!("{name}: {shown}"));
    let memory: u64 = guest.image.memory.trim_end_matches('M').parse().unwrap();
    let total = of_guest("memory_total");
    // The kernel keeps some of it to itself.
    assert!((memory << 19..=memory << 20).contains(&total), "{shown}");
    for part in ["memory_available", "memory_free", "memory_cached"] {
        assert!(of_guest(part) < total, "{part}: {shown}");
    }
    assert!(0 < of_guest("cpu_busy_ms") && of_guest("cpu_busy_ms") <= of_guest("cpu_total_ms"), "{shown}");
    assert!(0 < of_guest("disk_used") && of_guest("disk_used") < of_guest("disk_total"), "{shown}");
    assert!(of_guest("uptime_ms") > 0, "{shown}");
    assert_eq!(shown["guest"]["load_hundredths"].as_array().unwrap().len(), 3, "{shown}");
    // It has no card but the loopback.
    assert_eq!((of_guest("network_received"), of_guest("network_sent")), (0, 0), "{shown}");
    let of_host = |name: &str| shown["host"][name].as_u64().unwrap_or_else(|| panic!("{name}: {shown}"));
    assert!(of_host("processes") >= 2 && of_host("cpu_ms") > 0, "{shown}");
    assert!(of_host("pss") > 10 << 20, "a guest that was booted has touched some memory: {shown}");
    // Two looks make rates.
    let table = guest.environment.succeed(&["vm", "stats", guest.image.name]);
    let row = table.lines().nth(1).unwrap();
    assert!(row.contains('%') && row.contains("/s"), "{table}");
}
