//! What takes space, what of it may go, and what guests do not use any more of their disks.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use banger_testkit::layers::{Layout, Packing, add, archive, noise};
use banger_testkit::space::{assert_df_is_du, df};
use banger_testkit::{Environment, Registry, RegistryOptions, engine, seed};
use serde_json::json;

use crate::guest::create;

const ROUNDS: u32 = 10;
/// Bytes of the layer that each image of the rounds has for itself.
const LAYER: usize = 3 << 20;

/// Numbers that look random and are the same every time (Numerical Recipes, "An Even Quicker Generator").
struct Numbers(u32);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(self.0 >> 8).unwrap() % limit
    }
}

/// Puts images of busybox into a registry that share their first layer.
fn push_images(registry: &Registry) {
    let busybox = std::fs::read(seed::directory().join("busybox.tar")).unwrap();
    for (number, name) in [(1, "a"), (2, "b"), (3, "c")] {
        let own = noise(LAYER, number);
        let own = archive(|b| add(b, tar::EntryType::Regular, b"own", b"", &own));
        let layers = [(&busybox[..], Packing::Gzip), (&own[..], Packing::Gzip)];
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::of(&directory.path().join("layout"), &layers, &json!({"Cmd": ["/bin/sh"]}));
        registry.push(&layout.path, "one", name);
    }
}

#[test]
fn after_ten_rounds_the_sum_is_dus_and_every_vm_that_is_left_boots() {
    let registry = Registry::start(RegistryOptions::default());
    push_images(&registry);
    let environment = Environment::new();
    let mut numbers = Numbers(2026);
    let mut vms: Vec<String> = Vec::new();
    let small = ["--memory", "256M", "--vcpus", "1", "--net", "none", "--no-start"];
    for round in 0..ROUNDS {
        // Two names for three images: pulls supersede what VMs may use.
        let name = ["one", "two"][numbers.below(2)];
        let source = format!("docker://{}/{}", registry.host(), ["a", "b", "c"][numbers.below(3)]);
        environment.succeed(&["image", "pull", &source, "--name", name]);
        if numbers.below(3) > 0 {
            let vm = format!("vm-{round}");
            environment.succeed(&[&["vm", "create", &vm, "--image", name], &small[..]].concat());
            vms.push(vm);
        }
        if vms.len() > 2 || numbers.below(3) == 0 && !vms.is_empty() {
            let vm = vms.remove(numbers.below(vms.len()));
            environment.succeed(&["vm", "rm", "-f", &vm]);
        }
        let prune: &[&str] = match numbers.below(4) {
            0 => &["system", "prune", "--yes"],
            1 => &["system", "prune", "--yes", "--all"],
            2 => &["image", "prune", "--yes", "--keep", "1"],
            _ => &["image", "prune", "--yes", "--all", "--dry-run"],
        };
        environment.succeed(prune);
        assert_df_is_du(&environment);
    }
    assert!(!vms.is_empty(), "another seed is needed");
    environment.succeed(&["system", "prune", "--yes", "--all"]);
    assert_df_is_du(&environment);
    let images =
        df(&environment)["items"].as_array().unwrap().iter().filter(|it| it["kind"] == "image").count();
    assert!((1..=vms.len()).contains(&images), "those of VMs: {images}");
    for vm in &vms {
        environment.succeed(&["vm", "start", vm]);
        let own = environment.succeed(&["exec", vm, "--", "busybox", "wc", "-c", "/own"]);
        assert_eq!(own, format!("{LAYER} /own\n"), "{vm}");
        environment.succeed(&["vm", "rm", "-f", vm]);
    }
}

fn disk(environment: &Environment, vm: &str) -> PathBuf {
    PathBuf::from(environment.vm(vm)["directory"].as_str().unwrap()).join("disk.ext4")
}

/// Writes 64 MiB to a VM's disk and deletes them, so that the host hears nothing of it.
fn write_and_delete(environment: &Environment, vm: &str) {
    let script = "mount -o remount,nodiscard /var/lib/docker && dd if=/dev/urandom of=/var/lib/docker/x bs=1M count=64 \
                  && sync && rm /var/lib/docker/x && sync && echo kept > /root/kept && sync";
    environment.succeed(&["exec", "-u", "root", vm, "--", "busybox", "sh", "-c", script]);
}

#[test]
fn a_trim_gives_back_what_the_guest_does_not_use() {
    let environment = Environment::new();
    create(&environment, "vm", &["--disk", "512M"]);
    let disk = disk(&environment, "vm");
    let taken = || std::fs::metadata(&disk).unwrap().blocks() * 512;
    write_and_delete(&environment, "vm");
    assert!(taken() > 64 << 20, "{}", taken());
    if engine().as_deref() == Some("firecracker") {
        let refused = environment.run(&["vm", "trim", "vm"]);
        assert_eq!(refused.code, 4, "{}", refused.stderr);
        assert!(
            refused.stderr.contains("firecracker passes nothing on") && refused.stderr.contains("vm stop")
        );
    } else {
        environment.succeed(&["vm", "trim", "vm"]);
        assert!(taken() < 32 << 20, "{}", taken());
        write_and_delete(&environment, "vm");
        assert!(taken() > 64 << 20, "{}", taken());
    }

    environment.succeed(&["vm", "pause", "vm"]);
    assert_eq!(environment.run(&["vm", "trim", "vm"]).code, 4);
    environment.succeed(&["vm", "resume", "vm"]);
    environment.succeed(&["vm", "stop", "vm"]);
    let trim = environment.run(&["vm", "trim", "vm", "--json"]);
    assert_eq!(trim.code, 0, "{}", trim.stderr);
    assert!(taken() < 32 << 20, "{}", taken());
    assert_eq!(environment.vm("vm")["state"], "stopped");
    let operations = environment.run(&["op", "ls", "--json"]).json();
    let trims = operations.as_array().unwrap().iter().find(|it| it["kind"] == "vm_trim").unwrap();
    let log = environment.succeed(&["op", "logs", trims["id"].as_str().unwrap()]);
    assert!(log.contains("given back"), "{log}");
    let check = environment.outcome(environment.command("e2fsck").arg("-fn").arg(&disk));
    assert_eq!(check.code, 0, "{}", check.text());
    environment.succeed(&["vm", "start", "vm"]);
    assert_eq!(environment.succeed(&["exec", "vm", "--", "busybox", "cat", "/root/kept"]), "kept\n");
}
