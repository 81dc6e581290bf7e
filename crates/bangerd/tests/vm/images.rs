//! Three kinds of image, and in a VM of each everything that a session must do.

use crate::guest::{BUSYBOX, DEBIAN, Guest, PROBE};
use crate::{console, openssh, ports, session, stats};

/// What is tried in every image.
fn try_everywhere(guest: &mut Guest) {
    guest.step("arguments arrive unchanged", session::arguments_arrive_unchanged);
    guest.step("exit codes are the program's", session::exit_codes_are_the_programs);
    guest.step("output and errors are apart", session::output_and_errors_are_apart);
    guest.step("10 MiB go in and come back", session::ten_mebibytes_go_in_and_come_back);
    guest.step("users are the image's", session::users_are_the_images);
    guest.step("directories", session::a_program_starts_where_it_is_told);
    guest.step("variables", session::variables_are_set);
    guest.step("what cannot be run", session::what_cannot_be_run_says_so);
    guest.step("signals reach the program", session::signals_reach_the_program);
    guest.step("Ctrl-C on a terminal reaches the program", session::control_c_reaches_the_program);
    guest.step("a client that goes takes its program along", session::a_lost_client_is_a_hangup);
    guest.step("what it takes", stats::a_guest_tells_what_it_takes);
    guest.step("what listens", ports::what_listens_is_seen_and_reached);
    guest.step("forwards", ports::forwards_lose_nothing);
    guest.step("OpenSSH: keys are checked", openssh::keys_are_checked);
    guest.step("OpenSSH: sftp", openssh::files_go_there_and_back);
}

/// What needs a shell in the image.
fn try_with_a_shell(guest: &mut Guest) {
    guest.step("an interrupt can be caught", session::an_interrupt_can_be_caught);
    guest.step("a command line", session::a_command_line_is_the_shells);
    guest.step("a login shell and its window", session::a_login_shell_follows_the_window);
    guest.step("the serial console", console::enter_has_a_shell_of_roots);
    guest.step("ssh -A", session::the_agent_is_forwarded);
    guest.step("OpenSSH: a command line", openssh::a_command_line_runs);
    guest.step("OpenSSH: a window", openssh::a_window_is_followed);
    guest.step("OpenSSH: ssh -L and -R", openssh::ports_are_forwarded);
    guest.step("OpenSSH: ssh -A", openssh::the_agent_is_forwarded);
}

#[test]
fn sessions_in_debian() {
    let (mut guest, shown) =
        Guest::run(&DEBIAN, &["sh", "-c", "id -un; pwd; echo $LANG:$SHARED:$PATH; exit 4"]);
    assert_eq!(shown.code, 4, "{}", shown.stderr);
    // User, directory and environment are the image's.
    assert_eq!(
        shown.text(),
        "dev\n/home/dev\nC.UTF-8:of the VM:\
         /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    );
    let probe = std::fs::read(banger_testkit::programs().join("banger-test-probe")).unwrap();
    let install =
        ["exec", "-u", "root", DEBIAN.name, "--", "install", "-m", "755", "/dev/stdin", DEBIAN.probe];
    let installed = guest.environment.run_with_input(&install, &probe);
    assert_eq!(installed.code, 0, "{}", installed.stderr);
    try_everywhere(&mut guest);
    try_with_a_shell(&mut guest);
    guest.step("OpenSSH: rsync", openssh::trees_are_synchronised);
    guest.finish();
}

#[test]
fn sessions_in_busybox() {
    let (mut guest, shown) = Guest::run(&BUSYBOX, &["sh", "-c", "id -un; pwd; echo $SHARED; exit 4"]);
    assert_eq!(shown.code, 4, "{}", shown.stderr);
    assert_eq!(shown.text(), "root\n/root\nof the VM\n");
    try_everywhere(&mut guest);
    try_with_a_shell(&mut guest);
    guest.finish();
}

#[test]
fn sessions_without_a_shell() {
    let (mut guest, shown) = Guest::run(&PROBE, &["/probe", "exit", "4"]);
    assert_eq!(shown.code, 4, "{}", shown.stderr);
    try_everywhere(&mut guest);
    guest.step("there is no shell", session::there_is_no_shell);
    guest.step("the serial console", console::an_image_without_a_shell_says_so);
    guest.finish();
}
