//! The machine protocol's server: those commands that banger uses (QEMU manual, "QEMU Machine Protocol").

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::Machine;

/// While there is a file of this name in the VM's directory, a write that found no room finds none again.
const NO_ROOM: &str = "no-room";

/// Listens on the socket, in the place of whatever is there, and serves in a thread.
pub(crate) fn listen(path: &str, machine: &Arc<Machine>) {
    let machine = Arc::clone(machine);
    // QEMU takes the place of an earlier socket, too.
    std::fs::remove_file(path).ok();
    let listener = UnixListener::bind(path)
        .unwrap_or_else(|error| crate::fail(&format!("cannot listen on {path}: {error}")));
    std::thread::spawn(move || {
        // One client at a time, as QEMU does.
        for client in listener.incoming().flatten() {
            // A client that goes away in the midst of a conversation is no failure of ours.
            serve(&client, &machine).ok();
        }
    });
}

fn serve(client: &UnixStream, machine: &Machine) -> std::io::Result<()> {
    let version = json!({ "qemu": { "major": 7, "minor": 2, "micro": 0 }, "package": "fake" });
    say(client, &json!({ "QMP": { "version": version, "capabilities": [] } }))?;
    for line in BufReader::new(client).lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let mut answer = match request["execute"].as_str().unwrap_or_default() {
            "qmp_capabilities" => {
                machine.listeners.lock().expect("the listeners").push(client.try_clone()?);
                json!({ "return": {} })
            }
            "query-status" => {
                let running = !machine.is_paused();
                let out_of_space = machine.out_of_space.load(Ordering::Acquire);
                let status = match (running, out_of_space) {
                    (true, _) => "running",
                    (false, true) => "io-error",
                    (false, false) => "paused",
                };
                json!({ "return": { "status": status, "running": running, "singlestep": false } })
            }
            "query-kvm" => json!({ "return": { "enabled": false, "present": true } }),
            "stop" => change(client, machine, true)?,
            "cont" => {
                let stalled = machine.out_of_space.load(Ordering::Acquire);
                let answer = change(client, machine, false)?;
                // What could not be written is tried again, as QEMU does.
                if stalled && Path::new(NO_ROOM).exists() {
                    machine.stall();
                }
                answer
            }
            other => {
                let why = format!("The command {other} has not been found");
                json!({ "error": { "class": "CommandNotFound", "desc": why } })
            }
        };
        if let Some(id) = request.get("id") {
            answer["id"] = id.clone();
        }
        say(client, &answer)?;
    }
    Ok(())
}

/// Makes the virtual CPUs stand still or go on. What happened is told as an event, before the answer.
fn change(client: &UnixStream, machine: &Machine, pause: bool) -> std::io::Result<Value> {
    if machine.is_paused() != pause {
        machine.out_of_space.store(false, Ordering::Release);
        machine.set_paused(pause);
        let event = if pause { "STOP" } else { "RESUME" };
        let timestamp = json!({ "seconds": 0, "microseconds": 0 });
        say(client, &json!({ "event": event, "timestamp": timestamp }))?;
    }
    Ok(json!({ "return": {} }))
}

/// Tells that a write to the private disk found no room, as QEMU does with `werror=enospc`.
pub(crate) fn tell_of_stall(listeners: &mut Vec<UnixStream>) {
    let timestamp = json!({ "seconds": 0, "microseconds": 0 });
    let data = json!({
        "device": "private", "node-name": "private", "operation": "write", "action": "stop",
        "nospace": true, "reason": "No space left on device"
    });
    let event = json!({ "event": "BLOCK_IO_ERROR", "data": data, "timestamp": timestamp });
    // Those that have gone hear nothing.
    listeners.retain(|listener| say(listener, &event).is_ok());
}

fn say(mut client: &UnixStream, message: &Value) -> std::io::Result<()> {
    client.write_all(format!("{message}\r\n").as_bytes())
}
