//! Images.

use banger_types::image::Image;
use banger_types::operation::OperationKind;
use serde_json::json;

use crate::support::{World, image, succeeded};

#[test]
fn images_are_listed() {
    let world = World::new();
    let images = vec![image("debian:bookworm"), image("mine")];
    world.daemon().shown(|shown| shown.images.clone_from(&images));
    insta::assert_snapshot!(world.run(["image", "ls"]), @r"
    exit code: 0
    --- stdout
    NAME              ID             SIZE     ON DISK    CREATED         SOURCE
    debian:bookworm   00000000000a   1.0 GB   312.0 MB   3 minutes ago   debian:bookworm
    mine              00000000000a   1.0 GB   312.0 MB   3 minutes ago   debian:bookworm
    --- stderr
    ");
    assert_eq!(world.run(["images", "-q"]).text(), "debian:bookworm\nmine\n");
    let listed: Vec<Image> = serde_json::from_slice(&world.run(["images", "--json"]).stdout).unwrap();
    assert_eq!(listed, images);
}

#[test]
fn an_image_is_pulled_and_deleted() {
    let world = World::new();
    world.daemon().shown(|shown| {
        shown.images = vec![image("mine")];
        for _ in 0..2 {
            shown.operations.push_back(succeeded(OperationKind::ImagePull, "mine"));
        }
    });
    assert_eq!(world.run(["pull", "tar:/x y.tar", "--name", "mine"]).text(), "mine\n");
    let pulled: Image =
        serde_json::from_slice(&world.run(["image", "pull", "mine", "--json"]).stdout).unwrap();
    assert_eq!(pulled.name, "mine");
    assert_eq!(world.run(["image", "rm", "-y", "tar:/x y.tar"]).text(), "tar:/x y.tar\n");
    let requests = world.daemon().requests();
    assert_eq!(requests[0].body, json!({"source": "tar:/x y.tar", "name": "mine"}));
    assert_eq!(requests[2].path, "/v1/images/tar:%2Fx%20y.tar");
}
