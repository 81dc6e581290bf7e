//! Private disks, formatted by the real mke2fs.

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Instant;

use banger_core::work::Unwatched;
use banger_image::disk::{DiskError, Templates, write_configuration};
use banger_types::size::Mebibytes;
use support::StdCommands;

#[test]
fn a_private_disk_is_small_quick_and_sound() {
    let directory = tempfile::tempdir().unwrap();
    let templates = Templates::new(&directory.path().join("templates"));
    let create = |size, name: &str| {
        let path = directory.path().join(name);
        templates.create(Mebibytes(size), &path, &StdCommands, &Unwatched).unwrap();
        path
    };
    create(20 << 10, "first");
    let started = Instant::now();
    let disk = create(20 << 10, "second");
    let elapsed = started.elapsed();
    let metadata = std::fs::metadata(&disk).unwrap();
    assert_eq!(metadata.len(), 20 << 30);
    assert!(metadata.blocks() * 512 <= 300 << 10, "{} bytes of host blocks", metadata.blocks() * 512);
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    eprintln!("copied in {elapsed:?}, {} KiB", metadata.blocks() / 2);
    // Generous, for a loaded machine; the benchmark measures.
    assert!(elapsed.as_millis() < 250, "{elapsed:?}");
    for path in [disk, create(64, "small"), create(1 << 20, "large")] {
        let output = Command::new("e2fsck").arg("-fn").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let output = Command::new("dumpe2fs").arg("-h").arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("has_journal") && text.contains("banger-private"), "{text}");
    }
    let names = std::fs::read_dir(directory.path().join("templates")).unwrap();
    assert_eq!(names.count(), 3, "templates alone, nothing partial");
}

#[test]
fn the_kernel_mounts_a_private_disk_and_its_journal() {
    let directory = tempfile::tempdir().unwrap();
    let templates = Templates::new(directory.path());
    let path = directory.path().join("disk");
    templates.create(Mebibytes(512), &path, &StdCommands, &Unwatched).unwrap();
    let at = directory.path().join("at");
    std::fs::create_dir(&at).unwrap();
    let output = Command::new("mount").args(["-o", "loop"]).arg(&path).arg(&at).output().unwrap();
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!rustix::process::geteuid().is_root(), "the kernel refuses the disk: {reason}");
        banger_testkit::not_run(
            "the_kernel_mounts_a_private_disk_and_its_journal",
            &format!("only root can mount: {reason}"),
        );
        return;
    }
    let mounted = support::Mounted { at };
    std::fs::write(mounted.at.join("file"), "x").unwrap();
    drop(mounted);
    let output = Command::new("e2fsck").arg("-fn").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 4 << 20);
}

#[test]
fn disks_that_cannot_be_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let templates = Templates::new(directory.path());
    for size in [0, 63, u64::MAX] {
        let error = templates.create(Mebibytes(size), &directory.path().join("x"), &StdCommands, &Unwatched);
        assert!(matches!(error, Err(DiskError::Size { .. })));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_configuration_drive_is_whole_sectors_and_private() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    for (length, padded) in [(0, 512), (1, 512), (512, 512), (513, 1024)] {
        write_configuration(&path, &vec![b'x'; length]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), padded);
        assert!(bytes[..length].iter().all(|&b| b == b'x') && bytes[length..].iter().all(|&b| b == 0));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }
}
