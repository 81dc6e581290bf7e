//! Kernels.

use banger_types::image::RegisteredFile;
use banger_types::kernel::{Kernel, RegisteredKernel};
use banger_types::operation::OperationKind;
use jiff::Timestamp;
use serde_json::json;

use crate::support::{World, kernel, succeeded};

fn kernel_shown(world: &World) -> Kernel {
    world.daemon().shown(|shown| shown.kernels[0].clone())
}

#[test]
fn kernels_are_listed_pulled_and_deleted() {
    let world = World::new();
    world.daemon().shown(|shown| {
        shown.kernels = vec![kernel("debian:bookworm")];
        shown.operations.push_back(succeeded(OperationKind::KernelPull, "debian:bookworm"));
    });
    insta::assert_snapshot!(world.run(["kernel", "ls"]), @r"
    exit code: 0
    --- stdout
    NAME              ID             RELEASE                ON DISK   CREATED         SOURCE
    debian:bookworm   00000000000b   6.1.0-41-cloud-amd64   41.0 MB   3 minutes ago   debian:bookworm
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["kernel", "show", "debian:bookworm"]), @r"
    exit code: 0
    --- stdout
    Name:      debian:bookworm
    Id:        00000000000b
    Source:    debian:bookworm
    Release:   6.1.0-41-cloud-amd64
    Version:   6.1.158-1
    Can do:    overlayfs, ext4, containers
    On disk:   41.0 MB
    Created:   3 minutes ago
    --- stderr
    ");
    let ended = world.run(["kernel", "show", "debian:bookworm", "--json"]);
    assert_eq!(serde_json::from_slice::<Kernel>(&ended.stdout).unwrap(), kernel_shown(&world));
    assert_eq!(world.run(["kernel", "show", "none"]).code, 3);
    let pulled: Kernel =
        serde_json::from_slice(&world.run(["kernel", "pull", "debian:bookworm", "--json"]).stdout).unwrap();
    assert_eq!(pulled, kernel_shown(&world));
    world.daemon().shown(|shown| shown.operations.push_back(succeeded(OperationKind::KernelDelete, "k")));
    assert_eq!(world.run(["kernel", "rm", "-f", "k", "--json"]).text(), "{\"deleted\":\"k\"}\n");
    assert_eq!(world.daemon().requests()[1].path, "/v1/kernels/k");
}

#[test]
fn a_kernel_of_the_users_own_is_registered_where_it_is() {
    let world = World::new();
    let path = "/home/me/vmlinux";
    let file = |path: &str| RegisteredFile { path: path.into(), size: 1, modified: Timestamp::UNIX_EPOCH };
    let registered = RegisteredKernel { kernel: file(path), initrd: Some(file("/boot/initrd.img")) };
    world.daemon().shown(|shown| {
        shown.kernels = vec![Kernel {
            source: path.to_owned(),
            version: String::new(),
            features: Vec::new(),
            registered: Some(registered),
            problem: Some(format!("'{path}' has changed since it was registered")),
            ..kernel("vmlinux")
        }];
        shown.operations.push_back(succeeded(OperationKind::KernelRegister, "vmlinux"));
    });
    let typed = ["kernel", "register", "vmlinux", "--initrd", "/boot/initrd.img", "--name", "mine"];
    assert_eq!(world.run(typed).text(), "vmlinux\n");
    let asked = &world.daemon().requests()[0];
    assert_eq!(asked.path, "/v1/registered-kernels");
    let here = world.path().join("vmlinux");
    assert_eq!(asked.body, json!({"kernel": here, "initrd": "/boot/initrd.img", "name": "mine"}));
    insta::assert_snapshot!(world.run(["kernel", "show", "vmlinux"]), @r"
    exit code: 0
    --- stdout
    Name:        vmlinux
    Id:          00000000000b
    Source:      /home/me/vmlinux
    Problem:     '/home/me/vmlinux' has changed since it was registered
    Release:     6.1.0-41-cloud-amd64
    Initramfs:   /boot/initrd.img
    On disk:     41.0 MB
    Created:     3 minutes ago
    --- stderr
    ");
}
