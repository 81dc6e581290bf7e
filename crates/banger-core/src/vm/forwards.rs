//! The forwards that are wanted, against those in force.

use banger_types::address::HostPort;
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

/// Changes that a VM's monitor has confirmed and may not have told of yet: what it tells by itself comes later, and may be older.
#[derive(Debug, Default)]
pub struct ConfirmedForwards(Vec<Confirmed>);

#[derive(Debug, PartialEq, Eq)]
enum Confirmed {
    Added(Forward),
    Removed(HostPort),
}

impl ConfirmedForwards {
    /// Notes one that is in force.
    pub fn added(&mut self, forward: Forward) {
        self.note(Confirmed::Added(forward));
    }

    /// Notes one that is not in force any more.
    pub fn removed(&mut self, listen: HostPort) {
        self.note(Confirmed::Removed(listen));
    }

    /// Makes what a monitor tells what it is by now, and forgets the changes that it knows of.
    pub fn complete(&mut self, told: &mut Vec<Forward>) {
        self.0.retain(|change| !change.is_known(told));
        for change in &self.0 {
            match change {
                Confirmed::Added(forward) => told.push(forward.clone()),
                Confirmed::Removed(listen) => told.retain(|forward| forward.listen != *listen),
            }
        }
    }

    /// The last change of an address is the one that counts.
    fn note(&mut self, change: Confirmed) {
        self.0.retain(|earlier| earlier.listen() != change.listen());
        self.0.push(change);
    }
}

impl Confirmed {
    const fn listen(&self) -> HostPort {
        match self {
            Self::Added(forward) => forward.listen,
            Self::Removed(listen) => *listen,
        }
    }

    fn is_known(&self, told: &[Forward]) -> bool {
        match self {
            Self::Added(forward) => told.contains(forward),
            Self::Removed(listen) => told.iter().all(|forward| forward.listen != *listen),
        }
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
    fn what_a_monitor_tells_late_undoes_nothing() {
        let [first, second, third] = [8001, 8002, 8003].map(|port| forwards(&[(port, 80)]).remove(0));
        let mut confirmed = ConfirmedForwards::default();
        let complete = |told: &[&Forward], confirmed: &mut ConfirmedForwards| {
            let mut told: Vec<Forward> = told.iter().copied().cloned().collect();
            confirmed.complete(&mut told);
            told
        };
        confirmed.added(second.clone());
        confirmed.removed(third.listen);
        // From before both.
        assert_eq!(complete(&[&first, &third], &mut confirmed), [first.clone(), second.clone()]);
        // From between: what it knows of is its own from then on.
        assert_eq!(complete(&[&first, &second, &third], &mut confirmed), [first.clone(), second.clone()]);
        assert_eq!(complete(&[&first], &mut confirmed), std::slice::from_ref(&first));
        assert_eq!(complete(&[&third], &mut confirmed), std::slice::from_ref(&third));
        // The last word on an address counts.
        confirmed.added(second.clone());
        confirmed.removed(second.listen);
        assert_eq!(complete(&[&second], &mut confirmed), []);
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
