//! What this host's kernel can do, asked without any of the code that is tested.

/// Has `landlock_create_ruleset(2)` say the version of Landlock, and make nothing.
const ASK_VERSION: u32 = 1;

/// Returns the version of the kernel's Landlock; 0 when it has none.
pub fn landlock_version() -> i64 {
    // SAFETY: with this flag the call takes no attributes, and returns a number.
    #[expect(unsafe_code, reason = "no library only asks")]
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, ASK_VERSION)
    };
    version.max(0)
}
