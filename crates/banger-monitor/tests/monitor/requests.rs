//! Questions and answers on the control socket.

use std::io::Write;

use banger_types::guest::{GuestReply, GuestRequest, Service};
use banger_types::monitor::{MonitorPhase, MonitorReply, MonitorRequest, MonitorStatus};

use crate::fake_vmm::ECHO;
use crate::support::{Vm, launch};

fn failure(reply: MonitorReply) -> String {
    let MonitorReply::Failed(reason) = reply else { panic!("{reply:?}") };
    reason
}

#[test]
fn requests_follow_one_another_on_a_connection() {
    let vm = Vm::ready();
    let mut client = vm.connect();
    // All at once, in one write: they are answered in order.
    client.write(b"\"status\"\n{\"guest\":\"stats\"}\n{\"guest\":\"sync\"}\n\"later\"\n\"status\"\n");
    assert!(matches!(client.read_line(), MonitorReply::Status(_)));
    assert!(
        matches!(client.read_line(), MonitorReply::Guest(GuestReply::Stats(stats)) if stats.memory_total == 2)
    );
    assert_eq!(failure(client.read_line()), "the disk is gone");
    assert!(failure(client.read_line()).contains("does not know the request"));
    client.finish();
    assert!(matches!(client.read_line(), MonitorReply::Status(_)));
    assert!(client.read_to_end().is_empty());
}

#[test]
fn a_request_without_end_is_refused() {
    let vm = Vm::ready();
    let mut client = vm.connect();
    // The monitor stops reading; so the write may fail, and has to.
    let _broken = client.reader.get_mut().write_all(&vec![b' '; 8 << 20]);
    assert_eq!(failure(client.read_line()), "the request is too long");
}

#[test]
fn an_unknown_protocol_leaves_the_guest_reachable() {
    let vm = Vm::start(&launch(), "future");
    let status = vm.await_status(|status| status.guest.is_some());
    assert_eq!(status.phase, MonitorPhase::Booting);
    assert!(failure(vm.ask(&MonitorRequest::Guest(GuestRequest::Stats))).contains("not connected"));
    assert!(vm.read("monitor.log").contains("the guest's agent speaks protocols 1000 to 1000"));
    let mut stream = vm.stream(ECHO);
    stream.write(b"still here");
    stream.finish();
    assert_eq!(stream.read_to_end(), b"still here");
}

#[test]
fn refusals_are_passed_on() {
    let vm = Vm::ready();
    let mut client = vm.connect();
    assert_eq!(failure(client.ask(&MonitorRequest::Connect(Service::Ssh))), "there is no ssh here");
    assert!(failure(client.ask(&MonitorRequest::Connect(Service::Agent))).contains("monitor's own"));
    // The connection goes on in lines.
    assert!(matches!(client.ask(&MonitorRequest::Status), MonitorReply::Status(_)));
}

#[test]
fn requests_under_way_fail_when_the_agent_goes() {
    let vm = Vm::ready();
    let mut client = vm.connect();
    client.send(&MonitorRequest::Guest(GuestRequest::SetClock(0)));
    // Requests are taken in the order of their connections: this one is answered, so that one is under way.
    vm.ask(&MonitorRequest::Guest(GuestRequest::Stats));
    let _stream = vm.command("restart 5");
    assert_eq!(failure(client.read_line()), "the guest's agent went away");
}

#[test]
fn a_restarted_agent_is_found_again() {
    let vm = Vm::ready();
    for (session, cut) in [(2, 0), (3, 1), (4, 7), (5, 8), (6, 9), (7, 5000)] {
        let mut stream = vm.stream(ECHO);
        let _command = vm.command(&format!("restart {cut}"));
        // The old streams end.
        assert!(stream.read_to_end().is_empty());
        let wanted = format!("session {session}");
        vm.await_status(|status| {
            status.phase == MonitorPhase::Ready
                && status.guest.as_ref().is_some_and(|guest| guest.version == wanted)
        });
        let mut stream = vm.stream(ECHO);
        stream.write(b"again");
        stream.finish();
        assert_eq!(stream.read_to_end(), b"again");
    }
}

#[test]
fn garbage_of_the_guest_costs_the_guest_its_connection_only() {
    let vm = Vm::ready();
    let mut stream = vm.command("garbage");
    assert!(stream.read_to_end().is_empty());
    assert!(failure(vm.ask(&MonitorRequest::Connect(Service::Tcp(ECHO)))).contains("not connected"));
    assert!(vm.read("monitor.log").contains("there is no frame of kind 200"));
    assert_eq!(vm.ask(&MonitorRequest::Kill), MonitorReply::Done);
}

#[test]
fn the_number_of_clients_is_limited() {
    let vm = Vm::ready();
    // Each is answered, so each is counted.
    let clients: Vec<_> = (0..256)
        .map(|_| {
            let mut client = vm.connect();
            assert!(matches!(client.ask(&MonitorRequest::Status), MonitorReply::Status(_)));
            client
        })
        .collect();
    assert_eq!(failure(vm.connect().read_line()), "the monitor has too many clients");
    drop(clients);
    crate::support::eventually("there is room again", || {
        let mut client = vm.connect();
        client.finish();
        client.read_to_end().is_empty()
    });
}

#[test]
fn a_client_that_gives_up_waiting_is_forgotten() {
    let vm = Vm::ready();
    // As many as there may be, twice, each with a question that the agent keeps for itself.
    for _ in 0..2 {
        let mut clients = Vec::new();
        for _ in 0..255 {
            let mut client = vm.connect();
            client.send(&MonitorRequest::Guest(GuestRequest::SetClock(0)));
            clients.push(client);
        }
        // Requests are taken in the order of their connections, so theirs are under way.
        assert!(matches!(vm.ask(&MonitorRequest::Status), MonitorReply::Status(_)));
        drop(clients);
        crate::support::eventually("their places are free", || {
            let mut client = vm.connect();
            client.finish();
            client.read_to_end().is_empty()
        });
    }
    // The agent answers them all the same, and nothing comes of it.
    let _answers = vm.command("answer");
    for _ in 0..2 {
        let reply = vm.ask(&MonitorRequest::Guest(GuestRequest::Stats));
        assert!(matches!(reply, MonitorReply::Guest(GuestReply::Stats(_))), "{reply:?}");
    }
    assert!(!vm.read("monitor.log").contains("the guest's agent"), "{}", vm.read("monitor.log"));
}

#[test]
fn a_kill_waits_for_no_answer_of_the_agent() {
    let vm = Vm::ready();
    let mut client = vm.connect();
    client.send(&MonitorRequest::Guest(GuestRequest::SetClock(0)));
    assert_eq!(vm.ask(&MonitorRequest::Kill), MonitorReply::Done);
    assert!(
        ["the VM has ended", "the guest's agent went away"].contains(&failure(client.read_line()).as_str())
    );
}

#[test]
fn a_guest_that_changes_its_mind_all_the_time_is_told_of_now_and_then() {
    const TIMES: u32 = 300;
    let vm = Vm::ready();
    let mut watcher = vm.connect();
    let MonitorReply::Status(mut status) = watcher.ask(&MonitorRequest::Watch) else { panic!() };
    let _flapping = vm.command(&format!("flap {TIMES}"));
    let last = format!("session {}", TIMES + 2);
    let mut lines = 0;
    let is_last = |status: &MonitorStatus| {
        status.phase == MonitorPhase::Ready
            && status.guest.as_ref().is_some_and(|guest| guest.version == last)
    };
    while !is_last(&status) {
        status = watcher.read_line();
        lines += 1;
    }
    // Three changes each time; how many of them are told depends on the time it takes, not on their number.
    assert!(lines < 30, "{lines} lines");
}
