//! User-mode networks by passt: a network stack in a process of its own, without any privilege.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use banger_core::command::Commands;
use banger_core::engine::{Attachment, NetworkError, NetworkPlan, Networks};
use banger_types::monitor::{InheritedDescriptor, Program};

use crate::plan::{AddressPlan, USER_NETWORK};

/// The socket pair between passt and the VMM.
const PAIR: &str = "network";
/// The number under which passt finds its end.
const DESCRIPTOR: i32 = 3;

/// Networks by the host's `passt`.
pub struct Passt {
    commands: Arc<dyn Commands>,
}

impl std::fmt::Debug for Passt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passt")
    }
}

impl Passt {
    /// Returns networks that look for `passt` through `commands`.
    pub fn new(commands: Arc<dyn Commands>) -> Self {
        Self { commands }
    }
}

impl Networks for Passt {
    fn user(&self, nameservers: &[IpAddr]) -> Result<NetworkPlan, NetworkError> {
        let not_installed = NetworkError::NotInstalled { program: "passt", package: "passt" };
        let path = self.commands.find("passt").ok_or(not_installed)?;
        let plan = USER_NETWORK;
        Ok(NetworkPlan {
            helpers: vec![program(path, &plan, nameservers)],
            attachment: Attachment::StreamPair(PAIR.to_owned()),
            guest: plan.guest(nameservers),
        })
    }
}

fn program(path: PathBuf, plan: &AddressPlan, nameservers: &[IpAddr]) -> Program {
    let mut arguments: Vec<String> = [
        "--foreground",
        "--quiet",
        // No way from the guest to the host's loopback: passt would map the gateway to it.
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
    option("--fd", DESCRIPTOR.to_string());
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
        descriptors: vec![InheritedDescriptor { number: DESCRIPTOR, pair: PAIR.to_owned() }],
    }
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

    #[test]
    fn the_gateway_never_leads_to_the_host() {
        let plan = Passt::new(Arc::new(Installed(Some("passt")))).user(&[]).unwrap();
        let arguments = &plan.helpers[0].arguments;
        assert!(arguments.iter().any(|argument| argument == "--no-map-gw"), "{arguments:?}");
        assert_eq!(plan.helpers[0].descriptors[0].pair, "network");
        assert_eq!(plan.attachment, Attachment::StreamPair("network".to_owned()));
    }

    #[test]
    fn a_missing_passt_is_named_with_its_package() {
        let error = Passt::new(Arc::new(Installed(None))).user(&[]).unwrap_err();
        assert_eq!(error.to_string(), "the program 'passt' is not installed");
    }
}
