//! From nothing to a VM that runs, in one command.

use banger_testkit::{Environment, seed};

#[test]
fn a_first_create_alone_ends_with_a_vm_that_runs_and_shows_each_source_tried() {
    let environment = Environment::empty();
    // What the default image is made of on a machine without a network; the kernel is Debian's own.
    let busybox = seed::directory().join("busybox.tar");
    let catalog = format!(
        "[image.golden]\ndescription = \"Here\"\nkernel = \"debian\"\nsources = [\"docker://127.0.0.1:1/golden\", \"tar:{}\"]\n",
        busybox.display()
    );
    let configuration = environment.data().join(".config/banger");
    std::fs::create_dir_all(&configuration).unwrap();
    std::fs::write(configuration.join("catalog.toml"), catalog).unwrap();
    let small = ["--memory", "256M", "--vcpus", "1", "--net", "none"];
    let created = environment.run(&[&["vm", "create"], &small[..]].concat());
    assert_eq!(created.code, 0, "{}", created.stderr);
    assert!(created.stderr.contains("docker://127.0.0.1:1/golden:latest: "), "{}", created.stderr);
    let name = created.text().trim().to_owned();
    let vm = environment.vm(&name);
    assert_eq!((&vm["state"], &vm["spec"]["image_name"]), (&"running".into(), &"golden".into()));
    assert_eq!(vm["spec"]["kernel_name"], "debian");
    let operations = environment.run(&["op", "ls", "--json"]).json();
    assert_eq!(operations.as_array().unwrap().len(), 1, "the pulls are parts of it: {operations}");
    let log = environment.succeed(&["op", "logs", operations[0]["id"].as_str().unwrap()]);
    for line in ["try docker://127.0.0.1:1/golden:latest", "try tar:"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    let said = environment.succeed(&["exec", &name, "--", "/bin/busybox", "uname", "-r"]);
    assert!(said.contains("cloud-amd64"), "{said}");
}
