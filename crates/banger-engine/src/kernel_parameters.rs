//! Kernel parameters that every VMM's guests get (Linux, Documentation/admin-guide/kernel-parameters.rst).

use banger_core::engine::Question;

/// `panic=-1`: a panic resets the machine at once, which ends the VMM.
/// `i8042.*`: no mouse and no multiplexer are looked for, nor lights set on the keyboard, which costs time.
/// `no_timer_check`: no check against a clock that is emulated itself.
/// `cryptomgr.notests`, and without the initcall of `crypto_kdf108_init`, which only tests as well: the
/// kernel's tests of its own cryptography take 0.6 of 2.2 s of an emulated boot.
const COMMON: &str = "console=ttyS0 panic=-1 i8042.noaux i8042.nomux i8042.dumbkbd \
     no_timer_check random.trust_cpu=on cryptomgr.notests initcall_blacklist=crypto_kdf108_init";

/// Returns what a VM's guest gets, with what its VMM adds.
pub(crate) fn of_vm(more: &str) -> String {
    format!("{COMMON} quiet {more}")
}

/// Returns what a guest gets that only answers a question: it prints from the very
/// beginning, but not all: each byte costs an exit, and where KVM is nested that is dear.
pub(crate) fn of_probe(question: &Question, more: &str) -> String {
    format!("{COMMON} loglevel=6 earlyprintk=ttyS0 {} {more}", question.parameter())
}
