//! `banger ssh-config`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use banger_types::vm::SshConfiguration;

use crate::support::{Ended, World};

fn install(world: &World) -> Ended {
    let mut command = world.command(["ssh-config", "--install"]);
    world.end(command.env("HOME", world.path()).spawn().unwrap())
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn it_is_printed_as_it_is() {
    let world = World::new();
    let ended = world.run(["ssh-config"]);
    assert_eq!((ended.code, ended.text()), (0, "Host *.banger\n\tUser root\n"));
    let ended = world.run(["ssh-config", "--json"]);
    let configuration: SshConfiguration = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(configuration.file, Path::new("/data/ssh config"));
}

#[test]
fn it_is_installed_once() {
    let world = World::new();
    insta::assert_snapshot!(install(&world), @r"
    exit code: 0
    --- stdout
    --- stderr
    [DIR]/.ssh/config includes /data/ssh config; for a VM named web: ssh web.banger
    ");
    let file = world.path().join(".ssh/config");
    assert_eq!(fs::read_to_string(&file).unwrap(), "Include \"/data/ssh config\"\n");
    assert_eq!((mode(&world.path().join(".ssh")), mode(&file)), (0o700, 0o600));
    insta::assert_snapshot!(install(&world), @r"
    exit code: 0
    --- stdout
    --- stderr
    [DIR]/.ssh/config included already /data/ssh config; for a VM named web: ssh web.banger
    ");
    assert_eq!(fs::read_to_string(&file).unwrap(), "Include \"/data/ssh config\"\n");
    let mut command = world.command(["ssh-config", "--install", "--json"]);
    let ended = world.end(command.env("HOME", world.path()).spawn().unwrap());
    let installed: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&installed["changed"], &installed["file"]), (&false.into(), &"/data/ssh config".into()));
}

#[test]
fn what_was_there_stays_and_so_does_a_link() {
    let world = World::new();
    let (directory, dotfiles) = (world.path().join(".ssh"), world.path().join("dotfiles"));
    fs::create_dir(&directory).unwrap();
    fs::create_dir(&dotfiles).unwrap();
    // Under a condition it does not count.
    let before = "Host a\n  Include \"/data/ssh config\"\n";
    fs::write(dotfiles.join("config"), before).unwrap();
    fs::set_permissions(dotfiles.join("config"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("../dotfiles/config", directory.join("config")).unwrap();
    assert_eq!(install(&world).code, 0);
    assert!(fs::symlink_metadata(directory.join("config")).unwrap().is_symlink());
    let after = format!("Include \"/data/ssh config\"\n{before}");
    assert_eq!(fs::read_to_string(dotfiles.join("config")).unwrap(), after);
    assert_eq!(mode(&dotfiles.join("config")), 0o640);
    assert_eq!(fs::read_dir(&dotfiles).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_link_to_what_is_not_there_yet_is_written_through() {
    let world = World::new();
    fs::create_dir(world.path().join(".ssh")).unwrap();
    symlink(world.path().join("later"), world.path().join(".ssh/config")).unwrap();
    assert_eq!(install(&world).code, 0);
    assert!(world.path().join("later").is_file());
}

#[test]
fn what_cannot_be_written_is_told() {
    let world = World::new();
    fs::write(world.path().join(".ssh"), "a file").unwrap();
    insta::assert_snapshot!(install(&world), @r"
    exit code: 1
    --- stdout
    --- stderr
    error: cannot make [DIR]/.ssh/config include banger's
      because: File exists (os error 17)
    ");
    insta::assert_snapshot!(world.run(["ssh-config", "--install"]), @r"
    exit code: 1
    --- stdout
    --- stderr
    error: cannot tell where your ~/.ssh/config is: HOME is not set
      try: set HOME to your home directory
    ");
}
