//! A real TAP device in real namespaces, without any privilege.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::process::Command;

use banger_net::{TAP, enter_namespaces, make_tap, packet_socket};
use rustix::net::{RecvFlags, SendFlags};

/// What comes before each frame in a TAP with `IFF_VNET_HDR` (virtio 1.2, section 5.1.6, without the count of buffers).
const HEADER: usize = 10;

#[test]
fn frames_go_through_the_device_both_ways() {
    if !std::path::Path::new("/dev/net/tun").exists() {
        banger_testkit::not_run("frames_go_through_the_device_both_ways", "there is no /dev/net/tun");
        return;
    }
    let inside = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    assert!(inside.status.success(), "{}", String::from_utf8_lossy(&inside.stderr));
    assert!(String::from_utf8_lossy(&inside.stdout).contains("both ways"));
}

/// Tests run in threads of their own, and only a process with one thread can enter namespaces: a child of this one.
#[test]
#[ignore = "no test: what runs in the namespaces"]
#[expect(unsafe_code, reason = "the standard library has no fork")]
fn inside() {
    // SAFETY: the other thread of this process only waits for this one, and holds no lock that the child needs.
    match unsafe { libc::fork() } {
        0 => {
            let result = std::panic::catch_unwind(exchange);
            // SAFETY: ends the child without running what is the parent's to run.
            unsafe { libc::_exit(i32::from(result.is_err())) };
        }
        id => {
            let id = rustix::process::Pid::from_raw(id).unwrap();
            let ended = rustix::process::waitpid(Some(id), rustix::process::WaitOptions::empty()).unwrap();
            assert_eq!(ended.unwrap().1.exit_status(), Some(0));
        }
    }
    println!("both ways");
}

fn exchange() {
    enter_namespaces().unwrap();
    make_tap().unwrap();
    let packets = packet_socket().unwrap();
    let mut tap = open_as_a_vmm_does();

    let mut frame = vec![0xff; 6];
    frame.extend([2, 0x62, 0x6e, 0x67, 0, 1, 0x08, 0x00]);
    frame.extend(b"a packet that is none, long enough for a frame");
    tap.write_all(&[&[0; HEADER][..], &frame].concat()).unwrap();
    let mut buffer = [0; 2048];
    let (_, length) = rustix::net::recv(&packets, &mut buffer[..], RecvFlags::empty()).unwrap();
    assert_eq!(buffer[..length], frame);

    frame[0] = 2;
    rustix::net::send(&packets, &frame, SendFlags::empty()).unwrap();
    let length = tap.read(&mut buffer).unwrap();
    assert_eq!(buffer[HEADER..length], frame);
    // What was sent does not come back.
    let again = rustix::net::recv(&packets, &mut buffer[..], RecvFlags::DONTWAIT);
    assert_eq!(again.unwrap_err(), rustix::io::Errno::AGAIN);
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
