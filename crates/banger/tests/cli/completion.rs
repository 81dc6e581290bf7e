//! `banger completion`.

use std::process::{Command, Stdio};

use crate::support::World;

/// Runs `script` with a real shell, and the completion in the file `$1`.
fn shell(world: &World, shell: &str, script: &str) -> String {
    let file = world.path().join(format!("completion.{shell}"));
    let ended = world.run(["completion", shell]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended}");
    std::fs::write(&file, &ended.stdout).unwrap();
    let mut command = Command::new(shell);
    command.args(["-c", script, shell]).arg(&file).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("{shell}: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bash_completes_verbs() {
    let world = World::without_daemon();
    let script = r#"
        source "$1"
        complete -p banger
        COMP_WORDS=(banger vm re) COMP_CWORD=2
        _banger banger re vm
        echo "${COMPREPLY[@]}"
    "#;
    let printed = shell(&world, "bash", script);
    let (registered, verbs) = printed.split_once('\n').unwrap();
    assert!(registered.ends_with("-F _banger banger"), "{registered}");
    assert_eq!(verbs.trim(), "restart resume rename");
}

#[test]
fn zsh_loads_it() {
    let world = World::without_daemon();
    let script = r#"autoload -U compinit; compinit -D; source "$1"; print ${_comps[banger]}"#;
    assert_eq!(shell(&world, "zsh", script), "_banger\n");
}

#[test]
fn fish_completes_verbs() {
    let world = World::without_daemon();
    let printed = shell(&world, "fish", r#"source $argv[2]; complete -C "banger vm ren""#);
    assert!(printed.starts_with("rename"), "{printed}");
}

#[test]
fn every_shell_has_a_script_and_no_daemon_is_started() {
    let world = World::without_daemon();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = world.run(["completion", shell]);
        assert!(ended.code == 0 && ended.text().contains("banger"), "{shell}");
    }
    let ended = world.run(["completion", "fish", "--json"]);
    let script: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(script["shell"], "fish");
    assert_eq!(script["script"].as_str().unwrap(), world.run(["completion", "fish"]).text());
    assert_eq!(world.run(["completion", "tcsh"]).code, 2);
    assert!(!world.path().join("data").exists());
}
