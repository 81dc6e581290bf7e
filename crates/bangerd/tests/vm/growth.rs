//! A private disk that was made larger while its VM was stopped.

use banger_testkit::{Environment, seed};

/// Returns the size in bytes of the private disk's file system, as the guest sees it.
fn size(environment: &Environment) -> u64 {
    let shown = environment.succeed(&["exec", "-u", "root", "grow", "--", "df", "-k", "/var/lib/docker"]);
    let kibibytes = shown.lines().last().unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<u64>().unwrap() << 10
}

#[test]
fn a_larger_disk_is_a_larger_file_system() {
    let environment = Environment::new();
    let name = ["grow", "--image", seed::BUSYBOX];
    let options = ["--memory", "256M", "--vcpus", "1", "--net", "none", "--disk", "64M"];
    environment.succeed(&[&["vm", "create"], &name[..], &options].concat());
    let write = "echo kept > /root/kept && sync";
    environment.succeed(&["exec", "-u", "root", "grow", "--", "sh", "-c", write]);
    assert!(size(&environment) < 64 << 20);
    let id = environment.vm("grow")["id"].as_str().unwrap().to_owned();
    let disk = environment.data().join("vms").join(id).join("disk.ext4");
    // By megabytes within the last group; to many groups; beyond what 32 bits of bytes can say.
    for mebibytes in [70, 1 << 10, 200 << 10] {
        environment.succeed(&["vm", "stop", "grow"]);
        environment.succeed(&["vm", "set", "grow", "--disk", &format!("{mebibytes}M")]);
        assert_eq!(std::fs::metadata(&disk).unwrap().len(), mebibytes << 20);
        environment.succeed(&["vm", "start", "grow"]);
        let size = size(&environment);
        // Inode tables (256 bytes for each 16 KiB) and the journal of 16 MiB are not counted.
        let least = (mebibytes << 20) / 64 * 62 - (18 << 20);
        assert!((least..mebibytes << 20).contains(&size), "{mebibytes} MiB: {size}");
        assert_eq!(environment.succeed(&["exec", "grow", "--", "cat", "/root/kept"]), "kept\n");
    }
    // What is new can be written.
    let fill = "dd if=/dev/zero of=/var/lib/docker/x bs=1048576 count=150 && sync";
    environment.succeed(&["exec", "-u", "root", "grow", "--", "sh", "-c", fill]);
    environment.succeed(&["vm", "stop", "grow"]);
    let check = environment.outcome(environment.command("e2fsck").arg("-fn").arg(&disk));
    assert_eq!(check.code, 0, "{}", check.text());
}
