//! What KVM is worth on this machine, whatever that is.

use banger_testkit::{Environment, not_run, seed};

/// On a host that has a device and no working KVM behind it, as under a software KVM for kernels of its own, the
/// verdict is that a kernel hangs.
#[test]
fn kvm_is_judged_by_a_kernel_that_boots_once_for_each_vmm() {
    let test = "kvm_is_judged_by_a_kernel_that_boots_once_for_each_vmm";
    if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return not_run(test, "KVM is not asked where /dev/kvm cannot be opened");
    }
    let environment = Environment::new();
    // The seed brings what its daemon has found out.
    std::fs::remove_file(environment.data().join("kvm.json")).ok();
    let create = |name: &str| {
        let small =
            ["--image", seed::PROBE, "--memory", "256M", "--vcpus", "1", "--net", "none", "--no-start"];
        environment.succeed(&[&["vm", "create", name, "--engine", "qemu"], &small[..]].concat());
        let operations = environment.run(&["op", "ls", "--json"]).json();
        let of_it =
            operations.as_array().unwrap().iter().find(|operation| operation["subject"] == name).unwrap();
        let phases = of_it["finished_phases"].as_array().unwrap();
        phases.iter().any(|phase| phase["stage"] == "see whether KVM works")
    };
    assert!(create("first"), "nobody looked whether KVM works");
    let passes =
        || not_run(test, "what was found out may pass, as on a busy host, or where a VMM ends by itself");
    // Nothing is written of what may pass.
    let Ok(known) = std::fs::read(environment.data().join("kvm.json")) else { return passes() };
    let known: serde_json::Value = serde_json::from_slice(&known).unwrap();
    let verdicts = known["verdicts"].as_object().unwrap();
    let Some((key, verdict)) = verdicts.iter().next() else { return passes() };
    assert!(verdicts.len() == 1 && key.contains("qemu"), "{known}");
    let usable = verdict["usable"] == true;
    let hangs = verdict["reason"].as_str().unwrap().contains("a Linux kernel hangs");
    assert!(usable != hangs, "{known}");
    environment.succeed(&["daemon", "restart"]);
    assert!(!create("second"), "it was found out again");
}
