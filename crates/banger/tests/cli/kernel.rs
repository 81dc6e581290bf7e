//! Kernels.

use banger_types::kernel::Kernel;
use banger_types::operation::OperationKind;

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
    assert_eq!(world.run(["kernel", "rm", "-f", "k", "--json"]).text(), "{\"deleted\":\"k\"}\n");
    assert_eq!(world.daemon().requests()[1].path, "/v1/kernels/k");
}
