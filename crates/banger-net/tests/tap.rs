//! A real TAP device in real namespaces, without any privilege.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use banger_net::{FILTER_GUEST_DESCRIPTOR, TAP, receive_descriptor};
use command_fds::{CommandFdExt as _, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags};

/// What comes before each frame in a TAP with `IFF_VNET_HDR` (virtio 1.2, section 5.1.6, without the count of buffers).
const HEADER: usize = 10;
/// How long a frame may take on a busy machine.
const LIMIT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// A program in the place of a VMM; it does not outlive the test.
struct Vmm(Child);

impl Drop for Vmm {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn frames_go_through_the_device_both_ways() {
    if !std::path::Path::new("/dev/net/tun").exists() {
        banger_testkit::not_run("frames_go_through_the_device_both_ways", "there is no /dev/net/tun");
        return;
    }
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_banger-tap"));
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "a_vmm_that_returns_frames", "--ignored", "--test-threads=1"]);
    let mapping = FdMapping { parent_fd: OwnedFd::from(theirs), child_fd: FILTER_GUEST_DESCRIPTOR };
    command.fd_mappings(vec![mapping]).unwrap();
    let vmm = Vmm(command.stdout(Stdio::null()).spawn().unwrap());
    drop(command);
    let packets = receive_descriptor(&ours).unwrap();

    let mut frame = vec![0xff; 6];
    frame.extend([2, 0x62, 0x6e, 0x67, 0, 1, 0x08, 0x00]);
    frame.extend(b"a packet that is none, long enough for a frame");
    // The VMM has the device not at once; what comes before that is lost, as on a cable without a machine.
    let mut buffer = [0; 2048];
    let returned = (0..300).any(|_| {
        rustix::net::send(&packets, &frame, SendFlags::empty()).ok();
        arrives(&packets, Timespec { tv_sec: 0, tv_nsec: 100_000_000 })
    });
    assert!(returned, "no frame came back");
    let (_, length) = rustix::net::recv(&packets, &mut buffer[..], RecvFlags::empty()).unwrap();
    // It is what the VMM sent, and not what went to it.
    frame[0] = 0;
    assert_eq!(buffer[..length], frame);
    drop(vmm);
}

#[test]
fn a_check_makes_a_device_and_leaves_nothing() {
    if !std::path::Path::new("/dev/net/tun").exists() {
        banger_testkit::not_run("a_check_makes_a_device_and_leaves_nothing", "there is no /dev/net/tun");
        return;
    }
    let checked = Command::new(env!("CARGO_BIN_EXE_banger-tap")).arg(banger_net::TAP_CHECK).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    assert!(!std::path::Path::new("/sys/class/net").join(TAP).exists());
}

fn arrives(socket: &OwnedFd, limit: Timespec) -> bool {
    poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit)).unwrap() > 0
}

/// Opens the device and returns each frame, with another first byte.
#[test]
#[ignore = "no test: what runs in the namespaces, in the place of a VMM"]
fn a_vmm_that_returns_frames() {
    let mut tap = open_as_a_vmm_does();
    let mut buffer = [0; 2048];
    while poll(&mut [PollFd::new(&tap, PollFlags::IN)], Some(&LIMIT)).unwrap() > 0 {
        let length = tap.read(&mut buffer).unwrap();
        buffer[HEADER] = 0;
        tap.write_all(&buffer[..length]).unwrap();
    }
}

#[expect(unsafe_code, reason = "what a VMM does by itself")]
fn open_as_a_vmm_does() -> File {
    let tun = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: an interface request of zeros is one; the kernel reads and writes no more than that.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(TAP.bytes()) {
            *to = libc::c_char::try_from(from).unwrap();
        }
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap();
        libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    tun
}
