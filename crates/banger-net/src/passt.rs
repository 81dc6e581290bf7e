//! User-mode networks by passt: a network stack in a process of its own, without any privilege.
//!
//! ```text
//!   VMM ──"guest"── banger-filter ──"world"── passt ── sockets of the host
//! ```
//!
//! For a VMM that knows nothing but TAP devices, the filter gets the other side of one instead (see [`crate::TAP`]).

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use banger_core::command::{CommandError, Commands, HostCommand};
use banger_core::network::{Attachment, CardKind, NetworkError, NetworkPlan, Networks};
use banger_core::work::Unwatched;
use banger_types::error::chain;
use banger_types::monitor::{InheritedDescriptor, Program};

use crate::plan::{AddressPlan, USER_NETWORK};
use crate::tap::{TAP, TAP_CHECK, TUN_DEVICE};

/// The socket pair between the VMM and the filter.
const GUEST_PAIR: &str = "guest";
/// The socket pair between the filter and passt.
const WORLD_PAIR: &str = "world";
/// The number under which passt finds its end.
const PASST_DESCRIPTOR: i32 = 3;
/// The number under which the filter finds its end towards the VMM.
pub const FILTER_GUEST_DESCRIPTOR: i32 = 3;
/// The number under which the filter finds its end towards passt.
pub const FILTER_WORLD_DESCRIPTOR: i32 = 4;

/// Networks by the host's `passt`.
pub struct Passt {
    commands: Arc<dyn Commands>,
    /// Where `banger-filter` and `banger-tap` are.
    programs: PathBuf,
    /// Whether a TAP device was made once; that it cannot be made may change.
    made_tap: AtomicBool,
}

impl std::fmt::Debug for Passt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passt")
    }
}

impl Passt {
    /// Returns networks that look for `passt` through `commands`; `programs` is the directory of `banger-filter` and
    /// `banger-tap`.
    pub fn new(commands: Arc<dyn Commands>, programs: PathBuf) -> Self {
        Self { commands, programs, made_tap: AtomicBool::new(false) }
    }
}

impl Networks for Passt {
    fn check(&self, card: CardKind) -> Result<(), NetworkError> {
        if card == CardKind::Stream || self.made_tap.load(Ordering::Relaxed) {
            return Ok(());
        }
        let program = self.programs.join("banger-tap");
        let check = HostCommand::new(program.to_string_lossy()).argument(TAP_CHECK);
        self.commands.run(&check, &Unwatched).map_err(|error| forbidden(&error))?;
        self.made_tap.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn user(&self, nameservers: &[IpAddr], card: CardKind) -> Result<NetworkPlan, NetworkError> {
        let not_installed = NetworkError::NotInstalled { program: "passt", package: "passt" };
        let path = self.commands.find("passt").ok_or(not_installed)?;
        let plan = USER_NETWORK;
        Ok(NetworkPlan {
            helpers: vec![
                passt(path, &plan, nameservers),
                filter(self.programs.join("banger-filter"), &plan, card),
            ],
            attachment: match card {
                CardKind::Stream => Attachment::StreamPair(GUEST_PAIR.to_owned()),
                CardKind::Tap => {
                    Attachment::Tap { device: TAP.to_owned(), through: tap(self.programs.join("banger-tap")) }
                }
            },
            guest: plan.guest(nameservers),
        })
    }
}

fn forbidden(error: &CommandError) -> NetworkError {
    let reason = match error {
        CommandError::Failed { stderr, .. } if !stderr.trim().is_empty() => stderr.trim().to_owned(),
        error => chain(error),
    };
    let fix = if reason.contains(TUN_DEVICE) {
        "`sudo modprobe tun`, and see that you may open /dev/net/tun"
    } else {
        "let users make namespaces: `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu), `sudo sysctl \
         -w kernel.unprivileged_userns_clone=1` (Debian)"
    };
    NetworkError::Forbidden { reason, fix }
}

fn passt(path: PathBuf, plan: &AddressPlan, nameservers: &[IpAddr]) -> Program {
    let mut arguments: Vec<String> = [
        "--foreground",
        "--quiet",
        // The gateway is not the host. (Packets for 127.0.0.1 are the filter's business.)
        "--no-map-gw",
        // The guest's addresses are set by banger-guest: nothing is announced to it.
        "--ipv4-only",
        "--no-dhcp",
        // No port of the host leads into the guest this way; forwards are the monitor's.
        "--tcp-ports",
        "none",
        "--udp-ports",
        "none",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    option("--fd", PASST_DESCRIPTOR.to_string());
    option("--address", plan.address.to_string());
    option("--netmask", plan.prefix.to_string());
    option("--gateway", plan.gateway.to_string());
    option("--mtu", plan.mtu.to_string());
    if plan.forwarded_nameserver(nameservers).is_some() || nameservers.is_empty() {
        option("--dns-forward", plan.nameserver.to_string());
    }
    Program {
        name: "passt".to_owned(),
        path,
        arguments,
        descriptors: vec![inherited(PASST_DESCRIPTOR, WORLD_PAIR)],
    }
}

/// What gives the VMM its TAP device, and the filter that device's other side.
fn tap(path: PathBuf) -> Program {
    Program {
        name: "banger-tap".to_owned(),
        path,
        arguments: Vec::new(),
        descriptors: vec![inherited(FILTER_GUEST_DESCRIPTOR, GUEST_PAIR)],
    }
}

fn filter(path: PathBuf, plan: &AddressPlan, card: CardKind) -> Program {
    let packets = (card == CardKind::Tap).then(|| "--packets".to_owned());
    Program {
        name: "banger-filter".to_owned(),
        path,
        arguments: [plan.address.to_string()].into_iter().chain(packets).collect(),
        descriptors: vec![
            inherited(FILTER_GUEST_DESCRIPTOR, GUEST_PAIR),
            inherited(FILTER_WORLD_DESCRIPTOR, WORLD_PAIR),
        ],
    }
}

fn inherited(number: i32, pair: &str) -> InheritedDescriptor {
    InheritedDescriptor { number, pair: pair.to_owned() }
}

#[cfg(test)]
mod tests {
    use banger_core::command::{CommandError, Consumer, HostCommand};
    use banger_core::work::Work;

    use super::*;

    /// A host on which only this program is installed.
    struct Installed(Option<&'static str>);

    impl Commands for Installed {
        fn run(&self, command: &HostCommand, _: &dyn Work) -> Result<Vec<u8>, CommandError> {
            panic!("a plan runs nothing, not even {command}")
        }
        fn stream(&self, command: &HostCommand, _: &dyn Work, _: Consumer<'_>) -> Result<(), CommandError> {
            panic!("a plan runs nothing, not even {command}")
        }
        fn find(&self, program: &str) -> Option<PathBuf> {
            self.0.filter(|name| *name == program).map(|name| PathBuf::from("/usr/bin").join(name))
        }
    }

    fn networks(installed: Option<&'static str>) -> Passt {
        Passt::new(Arc::new(Installed(installed)), PathBuf::from("/lib"))
    }

    #[test]
    fn the_gateway_never_leads_to_the_host() {
        let plan = networks(Some("passt")).user(&[], CardKind::Stream).unwrap();
        let arguments = &plan.helpers[0].arguments;
        assert!(arguments.iter().any(|argument| argument == "--no-map-gw"), "{arguments:?}");
    }

    #[test]
    fn the_filter_stands_between_the_vmm_and_passt() {
        let plan = networks(Some("passt")).user(&[], CardKind::Stream).unwrap();
        let pairs = |program: &Program| -> Vec<String> {
            program.descriptors.iter().map(|descriptor| descriptor.pair.clone()).collect()
        };
        assert_eq!(plan.attachment, Attachment::StreamPair("guest".to_owned()));
        assert_eq!(pairs(&plan.helpers[0]), ["world"]);
        assert_eq!(pairs(&plan.helpers[1]), ["guest", "world"]);
    }

    #[test]
    fn a_tap_goes_through_the_filter_too() {
        let plan = networks(Some("passt")).user(&[], CardKind::Tap).unwrap();
        assert_eq!(plan.helpers[1].arguments, ["198.18.0.2", "--packets"]);
        let Attachment::Tap { device, through } = plan.attachment else { panic!("no TAP") };
        assert_eq!((device.as_str(), through.descriptors[0].pair.as_str()), (TAP, "guest"));
        assert_eq!(plan.helpers[1].descriptors[0], through.descriptors[0]);
    }

    #[test]
    fn a_missing_passt_is_named_with_its_package() {
        let error = networks(None).user(&[], CardKind::Stream).unwrap_err();
        assert_eq!(error.to_string(), "the program 'passt' is not installed");
    }
}
