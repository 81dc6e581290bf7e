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
use banger_core::network::{
    Attachment, CardKind, DefaultRoutes, NetworkError, NetworkPlan, Networks, OwnStack, UserNetworkTerms,
};
use banger_core::work::Unwatched;
use banger_types::error::chain;
use banger_types::helper::VmPlace;
use banger_types::monitor::{InheritedDescriptor, Program};

use crate::filter::{FilterOptions, Rules};
use crate::plan::{AddressPlan, USER_NETWORK, placed};
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

    fn user(&self, terms: &UserNetworkTerms) -> Result<NetworkPlan, NetworkError> {
        let path = self.commands.find("passt");
        if path.is_none() && !terms.own_stack {
            return Err(NetworkError::NotInstalled { program: "passt", package: "passt" });
        }
        let (plan, has_v6) = (USER_NETWORK, terms.routes.v6.is_some());
        let resolver = std::fs::read_to_string(banger_names::CONFIGURATION).unwrap_or_default();
        Ok(NetworkPlan {
            own_stack: path.is_none().then(|| own_stack(&plan, has_v6)),
            helpers: path
                .map(|path| passt(path, &plan, &terms.routes))
                .into_iter()
                .chain([filter(self.programs.join("banger-filter"), &plan, terms)])
                .collect(),
            attachment: match terms.card {
                CardKind::Stream => Attachment::StreamPair(GUEST_PAIR.to_owned()),
                CardKind::Tap => {
                    Attachment::Tap { device: TAP.to_owned(), through: tap(self.programs.join("banger-tap")) }
                }
            },
            guest: plan.guest(has_v6, banger_names::search(&resolver)),
        })
    }

    fn placed(&self, place: &VmPlace) -> NetworkPlan {
        let resolver = std::fs::read_to_string(banger_names::CONFIGURATION).unwrap_or_default();
        placed(place, banger_names::search(&resolver))
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

fn passt(path: PathBuf, plan: &AddressPlan, routes: &DefaultRoutes) -> Program {
    let mut arguments: Vec<String> = [
        "--foreground",
        "--quiet",
        // The gateway is not the host. (Packets for the host's own addresses are the filter's business.)
        "--no-map-gw",
        // The guest's addresses are set by banger-guest: nothing is announced to it.
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ra",
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
    // For what does not come in datagrams, with versions that have it.
    option("--dns-forward", plan.nameserver.to_string());
    match routes {
        // It wants an interface to take after, and finds one by itself where there is a way out. Which way its connections take
        // is decided for each of them when it is made.
        DefaultRoutes { v4: Some(_), .. } => {}
        DefaultRoutes { v4: None, v6: Some(interface) } => option("--interface", interface.clone()),
        DefaultRoutes { v4: None, v6: None } => {
            option("--interface", "lo".to_owned());
            option("--mac-addr", plan.gateway_mac.to_owned());
        }
    }
    if routes.v6.is_some() {
        option("--address", plan.v6.address.to_string());
        option("--gateway", plan.v6.gateway.to_string());
    } else {
        arguments.push("--ipv4-only".to_owned());
    }
    Program {
        name: "passt".to_owned(),
        path,
        arguments,
        descriptors: vec![inherited(PASST_DESCRIPTOR, WORLD_PAIR)],
    }
}

/// What a VMM is told that carries the network itself.
fn own_stack(plan: &AddressPlan, has_v6: bool) -> OwnStack {
    let network = |address: IpAddr, prefix: u8| format!("{address}/{prefix}");
    OwnStack {
        pair: WORLD_PAIR.to_owned(),
        network: network(plan.network.into(), plan.prefix),
        gateway: plan.gateway,
        nameserver: plan.nameserver,
        v6: has_v6.then(|| (network(plan.v6.network.into(), plan.v6.prefix), plan.v6.gateway)),
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

fn filter(path: PathBuf, plan: &AddressPlan, terms: &UserNetworkTerms) -> Program {
    let rules = Rules {
        guest: (plan.address, plan.prefix),
        guest_v6: terms.routes.v6.is_some().then_some((plan.v6.address, plan.v6.prefix)),
        nameserver: plan.nameserver,
        allow_host: terms.allow_host,
    };
    let options = FilterOptions { rules, mtu: plan.mtu as usize, packets: terms.card == CardKind::Tap };
    Program {
        name: "banger-filter".to_owned(),
        path,
        arguments: options.to_arguments(),
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

    /// Returns the terms of a VMM that is attached so, on a host with these ways out.
    fn terms(card: CardKind, v4: Option<&str>, v6: Option<&str>) -> UserNetworkTerms {
        let routes = DefaultRoutes { v4: v4.map(str::to_owned), v6: v6.map(str::to_owned) };
        UserNetworkTerms { card, own_stack: card == CardKind::Stream, allow_host: false, routes }
    }

    fn online(card: CardKind) -> UserNetworkTerms {
        terms(card, Some("eth0"), None)
    }

    #[test]
    fn the_gateway_never_leads_to_the_host() {
        let plan = networks(Some("passt")).user(&online(CardKind::Stream)).unwrap();
        let arguments = &plan.helpers[0].arguments;
        assert!(arguments.iter().any(|argument| argument == "--no-map-gw"), "{arguments:?}");
    }

    #[test]
    fn a_guest_has_the_families_that_its_host_has_and_a_network_without_any() {
        for (v4, v6, expected) in [
            (Some("eth0"), None, &["--ipv4-only"][..]),
            (Some("eth0"), Some("eth0"), &["--gateway fd8b:41c5:9e07::1"]),
            (None, Some("eth0"), &["--interface eth0", "--gateway fd8b:41c5:9e07::1"]),
            (None, None, &["--interface lo", "--mac-addr 02:62:6e:67:00:fe", "--ipv4-only"]),
        ] {
            let plan = networks(Some("passt")).user(&terms(CardKind::Stream, v4, v6)).unwrap();
            let arguments = plan.helpers[0].arguments.join(" ");
            for words in expected {
                assert!(arguments.contains(words), "{words}: {arguments}");
            }
            assert_eq!(arguments.contains("--interface"), v4.is_none(), "{arguments}");
            assert_eq!(plan.guest.addresses.len(), if v6.is_some() { 2 } else { 1 });
            assert_eq!(plan.helpers[1].arguments.iter().any(|it| it == "--v6"), v6.is_some());
        }
    }

    #[test]
    fn the_filter_stands_between_the_vmm_and_passt() {
        let plan = networks(Some("passt")).user(&online(CardKind::Stream)).unwrap();
        let pairs = |program: &Program| -> Vec<String> {
            program.descriptors.iter().map(|descriptor| descriptor.pair.clone()).collect()
        };
        assert_eq!(plan.attachment, Attachment::StreamPair("guest".to_owned()));
        assert_eq!(pairs(&plan.helpers[0]), ["world"]);
        assert_eq!(pairs(&plan.helpers[1]), ["guest", "world"]);
    }

    #[test]
    fn a_tap_goes_through_the_filter_too() {
        let plan = networks(Some("passt")).user(&online(CardKind::Tap)).unwrap();
        assert_eq!(plan.helpers[1].arguments, ["198.18.0.2/24", "198.18.0.53", "1500", "--packets"]);
        let Attachment::Tap { device, through } = plan.attachment else { panic!("no TAP") };
        assert_eq!((device.as_str(), through.descriptors[0].pair.as_str()), (TAP, "guest"));
        assert_eq!(plan.helpers[1].descriptors[0], through.descriptors[0]);
    }

    #[test]
    fn a_missing_passt_is_named_with_its_package_or_done_without() {
        let error = networks(None).user(&online(CardKind::Tap)).unwrap_err();
        assert_eq!(error.to_string(), "the program 'passt' is not installed");
        let plan = networks(None).user(&terms(CardKind::Stream, Some("eth0"), Some("eth0"))).unwrap();
        let [filter] = plan.helpers.as_slice() else { panic!("{:?}", plan.helpers) };
        let stack = plan.own_stack.unwrap();
        assert_eq!((stack.network.as_str(), stack.pair.as_str()), ("198.18.0.0/24", WORLD_PAIR));
        assert_eq!(stack.v6.unwrap().0, "fd8b:41c5:9e07::/64");
        assert!(filter.descriptors.iter().any(|descriptor| descriptor.pair == WORLD_PAIR));
    }
}
