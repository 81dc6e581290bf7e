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
fn everything_about_an_image_is_shown() {
    let world = World::new();
    let mut shown = image("web");
    shown.config.user = "dev".to_owned();
    shown.config.working_directory = "/srv".to_owned();
    shown.config.entrypoint = ["/bin/sh", "-c"].map(str::to_owned).into();
    shown.config.command = vec!["exec web --port 80".to_owned()];
    shown.config.exposed_ports = vec!["80/tcp".to_owned()];
    shown.config.environment = ["A=1", "B=2"].map(str::to_owned).into();
    shown.config.labels.insert("team".to_owned(), "red".to_owned());
    shown.config.stop_signal = Some("SIGINT".to_owned());
    world.daemon().shown(|it| it.images = vec![shown.clone()]);
    insta::assert_snapshot!(world.run(["image", "show", "web"]), @r"
    exit code: 0
    --- stdout
    Name:            web
    Id:              00000000000a
    Source:          debian:bookworm
    Digest:          sha256:00
    Size:            1.0 GB
    On disk:         312.0 MB
    Created:         3 minutes ago
    User:            dev
    Directory:       /srv
    Entrypoint:      /bin/sh -c
    Command:         'exec web --port 80'
    Stop signal:     SIGINT
    Exposed ports:   80/tcp
    Environment:     A=1
                     B=2
    Labels:          team=red
    --- stderr
    ");
    let ended = world.run(["image", "show", "web", "--json"]);
    assert_eq!(serde_json::from_slice::<Image>(&ended.stdout).unwrap(), shown);
    insta::assert_snapshot!(world.run(["image", "show", "none"]), @r"
    exit code: 3
    --- stdout
    --- stderr
    error: there is no image named 'none'
    ");
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
