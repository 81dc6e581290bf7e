//! A helper that is killed. However far it had come: who asks again gets what was asked for, and who undoes it leaves nothing.

use std::io::Write as _;

use banger_types::helper::HelperVerb;

use crate::host::{ALICE, Host, ids, request, terms};

/// The programs that the helper runs where there is no other firewall: each of its steps is one of them, or writes a file between two.
const TOOLS: [&str; 3] = ["bridge", "ip", "nft"];

/// Stands in the place of a tool on the host: counts, and kills the helper when it is this one's turn, before or after its work.
const STAND_IN: &str = r#"#!/bin/sh
count=$(($(cat /run/kill/count) + 1))
echo $count > /run/kill/count
turn=$(cat /run/kill/turn)
if [ "$count" = "$turn" ] && [ -e /run/kill/before ]; then kill -9 $PPID; exit 1; fi
/run/kill/real-NAME "$@"
code=$?
if [ "$count" = "$turn" ]; then kill -9 $PPID; fi
exit $code
"#;

/// Returns a host whose tools can be told to kill the helper.
fn deadly_host(test: &str) -> Option<Host> {
    let host = Host::new(test)?;
    host.run("mkdir /run/kill");
    for name in TOOLS {
        let place = host.run(&format!("readlink -f /usr/sbin/{name}"));
        let place = place.trim();
        host.run(&format!("cp {place} /run/kill/real-{name}"));
        let mut write = host.0.command("tee");
        write.arg(format!("/run/kill/{name}")).stdin(std::process::Stdio::piped());
        let mut write = write.stdout(std::process::Stdio::null()).spawn().unwrap();
        write.stdin.take().unwrap().write_all(STAND_IN.replace("NAME", name).as_bytes()).unwrap();
        assert!(write.wait().unwrap().success());
        host.run(&format!("chmod 755 /run/kill/{name}"));
        host.run(&format!("mount --bind /run/kill/{name} {place}"));
    }
    never(&host);
    Some(host)
}

fn never(host: &Host) {
    arm(host, 0, true);
}

fn arm(host: &Host, turn: usize, before: bool) {
    let flag = if before { "touch /run/kill/before" } else { "rm -f /run/kill/before" };
    let words = format!("echo 0 > /run/kill/count; echo {turn} > /run/kill/turn; {flag}");
    assert!(host.0.command("sh").args(["-c", &words]).status().unwrap().success());
}

/// Asks, and returns whether the helper came to its end.
fn survives(host: &Host, verb: &HelperVerb) -> bool {
    let output = host.ask_raw(ALICE, &request(verb.clone()));
    output.status.success()
}

#[test]
fn killed_at_each_of_its_steps_it_leaves_nothing_that_the_next_cannot_mend() {
    let Some(host) = deadly_host("killed_at_each_of_its_steps") else { return };
    let before = host.state();
    let (add, remove) = (HelperVerb::VmAdd(terms(1, "web")), HelperVerb::VmsRemove(ids(&[1])));
    let mut points = 0;
    for (verb, is_there) in [(&add, false), (&remove, true)] {
        for is_before in [true, false] {
            for turn in 1.. {
                never(&host);
                if is_there {
                    host.place(ALICE, 1, "web");
                }
                arm(&host, turn, is_before);
                let survived = survives(&host, verb);
                never(&host);
                if survived {
                    // There is no such step.
                    host.remove(ALICE, &[1]);
                    assert!(turn > 3, "{verb:?} has hardly a step");
                    break;
                }
                points += 1;
                // By turns: the same again, or what undoes it.
                if points % 2 == 0 {
                    let place = host.place(ALICE, 1, "web");
                    assert!(host.run("ip -brief link").contains(&place.device.device));
                    assert!(host.run("nft list ruleset").contains(&place.device.device));
                }
                host.remove(ALICE, &[1]);
                assert_eq!(host.state(), before, "{verb:?}, step {turn}, before: {is_before}");
            }
        }
    }
    println!("killed at {points} points");
}

/// Between any two instructions: not every one of them, and others each time.
#[test]
fn killed_at_any_moment_it_leaves_nothing_that_the_next_cannot_mend() {
    let Some(host) = Host::new("killed_at_any_moment") else { return };
    let before = host.state();
    for round in 0..30 {
        let verb = if round % 3 == 2 {
            HelperVerb::VmsRemove(ids(&[1]))
        } else {
            HelperVerb::VmAdd(terms(1, "web"))
        };
        let mut helper = host.start(ALICE);
        helper.stdin.take().unwrap().write_all(&request(verb)).unwrap();
        // Somewhere between its beginning and its end.
        std::thread::sleep(std::time::Duration::from_micros(1500 * round));
        helper.kill().unwrap();
        helper.wait().unwrap();
        // Whoever asks next waits for what it has started.
        host.place(ALICE, 1, "web");
        if round % 4 == 3 {
            host.remove(ALICE, &[1]);
            assert_eq!(host.state(), before, "round {round}");
        }
    }
}
