//! What a VM may be made of, on this host.

use std::path::Path;

use banger_core::engine::Engine;
use banger_types::ApiError;
use banger_types::ErrorKind;
use banger_types::monitor::{Forward, MOST_FORWARDS};
use banger_types::size::{Mebibytes, human_bytes};

use super::engines::enough_vcpus;

/// Least memory with which a kernel and its initramfs start, MiB.
const LEAST_MEMORY: Mebibytes = Mebibytes(128);

/// Refuses a value: "cannot `what`", because `why`.
pub(super) fn refuse(what: &str, why: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::Usage, format!("cannot {what}")).because(why)
}

/// Checks a number of virtual CPUs. `configured` is what the user's configuration gives by itself: that is always let through.
pub(super) fn check_vcpus(what: &str, vcpus: u32, configured: u32) -> Result<(), ApiError> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let most = u32::try_from(processors).unwrap_or(u32::MAX).max(configured);
    if vcpus == 0 || vcpus > most {
        let why = format!("{vcpus} virtual CPUs is not between 1 and this host's {most}");
        return Err(refuse(what, why).fix(format!("--vcpus {most}, or less")));
    }
    Ok(())
}

/// Checks a number of virtual CPUs against what an engine has.
pub(super) fn check_vcpus_of(what: &str, vcpus: u32, engine: &dyn Engine) -> Result<(), ApiError> {
    enough_vcpus(engine, vcpus).map_err(|why| {
        refuse(what, why)
            .fix(format!("--vcpus {}, or less; or another engine with --engine", engine.most_vcpus()))
    })
}

/// Checks an amount of memory.
pub(super) fn check_memory(what: &str, memory: Mebibytes) -> Result<(), ApiError> {
    if memory < LEAST_MEMORY {
        let why = format!("{memory} of memory is less than {LEAST_MEMORY}");
        return Err(
            refuse(what, why).fix(format!("--memory {LEAST_MEMORY}, or more; without a unit it is MiB"))
        );
    }
    match banger_host::memory() {
        Some(host) if memory > host => {
            let why = format!("{memory} of memory is more than this host's {host}");
            Err(refuse(what, why).fix("--memory with less than that; what runs beside it needs some as well"))
        }
        _ => Ok(()),
    }
}

/// Checks the size of a private disk.
pub(super) fn check_disk(what: &str, disk: Mebibytes) -> Result<(), ApiError> {
    let (least, most) = banger_image::disk::SIZES.into_inner();
    if disk < least || disk > most {
        let why = format!("a disk of {disk} is not between {least} and {most}");
        return Err(refuse(what, why).fix("--disk with a size as 20G; it takes space only as it fills"));
    }
    Ok(())
}

/// Refuses two forwards of one port, and too many. Port 0 is any that is free.
pub(super) fn check_forwards(what: &str, forwards: &[Forward]) -> Result<(), ApiError> {
    if forwards.len() > MOST_FORWARDS {
        let why = format!("{} forwards are more than the {MOST_FORWARDS} that a VM may have", forwards.len());
        return Err(refuse(what, why));
    }
    for (index, forward) in forwards.iter().enumerate() {
        if forward.guest_port == 0 {
            return Err(refuse(what, "port 0 of the guest cannot be forwarded to"));
        }
        let again = forwards[..index].iter().any(|other| other.listen == forward.listen);
        if again && forward.listen.port() != 0 {
            return Err(refuse(what, format!("{} is forwarded twice", forward.listen)));
        }
    }
    Ok(())
}

/// Says so when a disk may grow beyond what its host has room for. It is sparse: nothing is wrong yet.
pub(crate) fn warn_of_disk(directory: &Path, disk: Mebibytes, taken: u64) -> Option<String> {
    let free = banger_host::free_space(directory)?;
    let growth = disk.bytes().saturating_sub(taken);
    (growth > free).then(|| {
        format!(
            "the disk of {disk} may still grow by {}, and the host's file system has {} left",
            human_bytes(growth),
            human_bytes(free)
        )
    })
}
