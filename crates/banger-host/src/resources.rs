//! What the host has of memory and disk.

use std::path::Path;

use banger_types::size::Mebibytes;

/// Returns what a user may still write to the file system of `directory`, bytes (statvfs(3)).
pub fn free_space(directory: &Path) -> Option<u64> {
    let file_system = rustix::fs::statvfs(directory).ok()?;
    file_system.f_bavail.checked_mul(file_system.f_frsize)
}

/// Returns the size of the file system of `directory`, bytes (statvfs(3)).
pub fn whole_space(directory: &Path) -> Option<u64> {
    let file_system = rustix::fs::statvfs(directory).ok()?;
    file_system.f_blocks.checked_mul(file_system.f_frsize)
}

/// Returns the average load of the last minute, in hundredths (`proc_loadavg(5)`).
pub fn load_hundredths() -> Option<u32> {
    let text = fs_err::read_to_string("/proc/loadavg").ok()?;
    let (whole, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths.parse().ok()?)
}

/// Returns the memory that programs could still get, bytes (`MemAvailable` of `proc_meminfo(5)`).
pub fn available_memory() -> Option<u64> {
    memory_field("MemAvailable:").map(|kibibytes| kibibytes << 10)
}

/// Returns the host's memory, from `/proc/meminfo` (`proc_meminfo(5)`).
pub fn memory() -> Option<Mebibytes> {
    memory_field("MemTotal:").map(|kibibytes| Mebibytes(kibibytes >> 10))
}

/// Returns a field of `/proc/meminfo`, KiB.
fn memory_field(name: &str) -> Option<u64> {
    let text = fs_err::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Gives memory back to the system that is free, and that the allocator keeps. For after work that took much of it: the
/// daemon is idle for most of its life.
#[expect(unsafe_code, reason = "a function of the C library's that has no safe form")]
pub fn give_back_memory() {
    // SAFETY: malloc_trim(3) takes a number, has no preconditions, and leaves what is allocated alone.
    unsafe {
        libc::malloc_trim(0);
    }
}
