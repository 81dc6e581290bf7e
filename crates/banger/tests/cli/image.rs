//! Images.

use banger_types::image::{FileSystem, FoundRoot, Image, ImageLayer, RegisteredFile, RegisteredRootfs};
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
    let layer = |digit: &str, size, created_by: Option<&str>| ImageLayer {
        diff_id: digit.repeat(64).parse().unwrap(),
        size,
        digest: created_by.map(|_| "ab".repeat(32).parse().unwrap()),
        stored_size: created_by.map(|_| 1000),
        created_by: created_by.map(str::to_owned),
    };
    shown.layers = vec![layer("1", 29_000_000, Some("RUN apt-get update")), layer("2", 512, None)];
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
    Layers:          abababababab   29.0 MB  RUN apt-get update
                     222222222222     512 B
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
        shown.operations.push_back(succeeded(OperationKind::ImageDelete, "tar:/x y.tar"));
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

#[test]
fn files_of_the_users_own_are_registered_from_where_the_user_is() {
    let world = World::new();
    let (id, path) = ("00000000000b".parse().unwrap(), "/home/me/root.ext4");
    let file = RegisteredFile { path: path.into(), size: 1, modified: jiff::Timestamp::UNIX_EPOCH };
    let found = FoundRoot {
        file_system: FileSystem::Ext4,
        partition: Some(1),
        unclean: false,
        init: Some("/sbin/init".to_owned()),
        systemd: true,
    };
    let registered = Image {
        source: path.to_owned(),
        digest: None,
        registered: Some(RegisteredRootfs { file, found, kernel: Some(id) }),
        problem: Some(format!("'{path}' is not there")),
        ..image("root")
    };
    world.daemon().shown(|shown| {
        shown.images = vec![registered.clone()];
        shown.operations.push_back(succeeded(OperationKind::ImageRegister, "root"));
    });
    let typed =
        ["image", "register", "--rootfs", path, "--kernel", "vmlinuz", "--initrd", "/boot/initrd.img"];
    assert_eq!(world.run(typed).text(), "root\n");
    let here = world.path().join("vmlinuz");
    let asked = json!({"rootfs": path, "kernel": here, "initrd": "/boot/initrd.img", "name": null});
    assert_eq!(world.daemon().requests()[0].body, asked);
    insta::assert_snapshot!(world.run(["image", "ls"]), @r"
    exit code: 0
    --- stdout
    NAME   ID             SIZE     ON DISK    CREATED         SOURCE
    root   00000000000a   1.0 GB   312.0 MB   3 minutes ago   '/home/me/root.ext4' is not there
    --- stderr
    ");
    insta::assert_snapshot!(world.run(["image", "show", "root"]), @r"
    exit code: 0
    --- stdout
    Name:          root
    Id:            00000000000a
    Source:        /home/me/root.ext4
    Problem:       '/home/me/root.ext4' is not there
    Size:          1.0 GB
    On disk:       312.0 MB
    Created:       3 minutes ago
    File system:   ext4, on partition 1
    Init:          /sbin/init
    Kernel:        00000000000b
    --- stderr
    ");
    let refused = world.run(["image", "register", "--rootfs", path, "--initrd", "/boot/initrd.img"]);
    assert_eq!(refused.code, 2, "an initramfs without its kernel");
}
