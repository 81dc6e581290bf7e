//! The forwards that are wanted, against those in force.

use banger_types::monitor::Forward;

/// What has to change for a VM's forwards to be those that are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForwardChanges {
    /// Wanted, and not in force.
    pub missing: Vec<Forward>,
    /// In force, and not wanted.
    pub surplus: Vec<Forward>,
}

impl ForwardChanges {
    /// Compares what is wanted with what is in force. One that is wanted on port 0 is in force on any port.
    pub fn between(wanted: &[Forward], in_force: &[Forward]) -> Self {
        let mut surplus = in_force.to_vec();
        let mut missing = Vec::new();
        // Those that name their port first: else one on any port could be found in their place.
        let (any, named): (Vec<_>, Vec<_>) = wanted.iter().partition(|forward| forward.listen.port() == 0);
        for forward in named.into_iter().chain(any) {
            match surplus.iter().position(|found| is_in_force_as(forward, found)) {
                Some(index) => drop(surplus.remove(index)),
                None => missing.push(forward.clone()),
            }
        }
        Self { missing, surplus }
    }
}

fn is_in_force_as(wanted: &Forward, found: &Forward) -> bool {
    let port = wanted.listen.port();
    found.guest_port == wanted.guest_port
        && (found.listen.protocol, found.listen.ip()) == (wanted.listen.protocol, wanted.listen.ip())
        && (port == 0 || found.listen.port() == port)
}

#[cfg(test)]
mod tests {
    use banger_types::address::HostPort;

    use super::*;

    fn forwards(list: &[(u16, u16)]) -> Vec<Forward> {
        let forward = |&(port, guest_port): &(u16, u16)| Forward {
            listen: HostPort::tcp(([127, 0, 0, 1], port)),
            guest_port,
        };
        list.iter().map(forward).collect()
    }

    #[test]
    fn what_is_missing_and_what_is_too_much() {
        for (wanted, in_force, missing, surplus) in [
            (&[][..], &[][..], &[][..], &[][..]),
            (&[(80, 8)], &[(80, 8)], &[], &[]),
            (&[(80, 8)], &[], &[(80, 8)], &[]),
            (&[], &[(80, 8)], &[], &[(80, 8)]),
            (&[(80, 8)], &[(80, 9)], &[(80, 8)], &[(80, 9)]),
            // Any port will do, but not one that another wants.
            (&[(0, 8)], &[(4711, 8)], &[], &[]),
            (&[(0, 8), (80, 8)], &[(80, 8)], &[(0, 8)], &[]),
            (&[(0, 8), (80, 8)], &[(80, 8), (4711, 8)], &[], &[]),
            (&[(0, 8), (0, 8)], &[(4711, 8)], &[(0, 8)], &[]),
        ] {
            let changes = ForwardChanges::between(&forwards(wanted), &forwards(in_force));
            let expected = ForwardChanges { missing: forwards(missing), surplus: forwards(surplus) };
            assert_eq!(changes, expected, "{wanted:?} {in_force:?}");
        }
    }

    #[test]
    fn addresses_and_protocols_are_told_apart() {
        let wanted = Forward { listen: "127.0.0.1:80".parse().unwrap(), guest_port: 8 };
        for other in ["[::1]:80", "127.0.0.1:80/udp"] {
            let found = Forward { listen: other.parse().unwrap(), guest_port: 8 };
            let changes =
                ForwardChanges::between(std::slice::from_ref(&wanted), std::slice::from_ref(&found));
            assert_eq!(changes, ForwardChanges { missing: vec![wanted.clone()], surplus: vec![found] });
        }
    }
}
