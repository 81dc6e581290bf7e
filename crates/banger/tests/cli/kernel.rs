//! Kernels.

use banger_types::kernel::Kernel;
use banger_types::operation::OperationKind;

use crate::support::{World, kernel, succeeded};

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
    let pulled: Kernel =
        serde_json::from_slice(&world.run(["kernel", "pull", "debian:bookworm", "--json"]).stdout).unwrap();
    assert_eq!(pulled, world.daemon().shown(|shown| shown.kernels[0].clone()));
    assert_eq!(world.run(["kernel", "rm", "-f", "k", "--json"]).text(), "{\"deleted\":\"k\"}\n");
    assert_eq!(world.daemon().requests()[1].path, "/v1/kernels/k");
}
