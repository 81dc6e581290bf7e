//! Kernels that another version of banger has made.

use std::path::PathBuf;

use banger_testkit::Environment;

use crate::support::{SMALL, names, refuse};

/// Makes the environment's kernel one of an older recipe, as an upgrade finds it.
fn make_outdated(environment: &Environment) -> PathBuf {
    let kernels = environment.data().join("kernels");
    let bundle = kernels.join(&names(&kernels)[0]);
    let description = bundle.join("kernel.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&description).unwrap()).unwrap();
    json["recipe"] = 0.into();
    // Another file: this one is the seed's, too.
    std::fs::remove_file(&description).unwrap();
    std::fs::write(&description, json.to_string()).unwrap();
    bundle
}

#[test]
fn an_outdated_kernel_is_made_anew_and_its_vms_keep_their_disks() {
    let environment = Environment::with_fake_vmm();
    let create = |name: &str, more: &[&str]| {
        let created = environment.run(&[&["vm", "create", name], &SMALL[..], more].concat());
        assert_eq!(created.code, 0, "{}", created.stderr);
    };
    create("kept", &[]);
    let before = environment.run(&["kernel", "ls", "--json"]).json();
    let bundle = make_outdated(&environment);

    // One that runs since before the upgrade goes on, and is in the way.
    let refused = refuse(&environment, 4, &["kernel", "pull", "debian"]);
    assert!(refused.contains("VM 'kept' runs from it"), "{refused}");
    environment.succeed(&["vm", "stop", "kept"]);
    let refused = refuse(&environment, 1, &["vm", "start", "kept"]);
    assert!(refused.contains("`banger kernel pull NAME`"), "{refused}");
    environment.succeed(&["kernel", "pull", "debian"]);
    environment.succeed(&["vm", "start", "kept"]);
    let after = environment.run(&["kernel", "ls", "--json"]).json();
    assert_eq!((&after[0]["id"], after.as_array().unwrap().len()), (&before[0]["id"], 1));
    assert_eq!(names(bundle.parent().unwrap()), [bundle.file_name().unwrap().to_str().unwrap()]);

    // Whoever makes a VM need not know.
    environment.succeed(&["vm", "stop", "kept"]);
    make_outdated(&environment);
    create("new", &[]);
    environment.succeed(&["vm", "start", "kept"]);
}
