//! A host with the helper.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Child, Output, Stdio};

use banger_testkit::NetworkHost;
use banger_types::VmId;
use banger_types::helper::{
    HELPER_PROTOCOL, HelperAnswer, HelperRefusalKind, HelperRequest, HelperVerb, VmPlace, VmTerms,
};

pub(crate) const ALICE: &str = "1001";
pub(crate) const BOB: &str = "1002";

/// A host on which users ask the helper.
pub(crate) struct Host(pub(crate) NetworkHost);

impl Host {
    /// Returns one, or says that the test is not run.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let host = NetworkHost::new(test)?;
        host.run("ip address add 192.168.7.5/24 dev lo");
        Some(Self(host))
    }

    pub(crate) fn run(&self, words: &str) -> String {
        self.0.run(words)
    }

    pub(crate) fn outcome(&self, words: &str) -> Output {
        self.0.outcome(words)
    }

    /// Starts the helper as sudo does for this user.
    pub(crate) fn start(&self, uid: &str) -> Child {
        let mut helper = self.0.command(env!("CARGO_BIN_EXE_banger-helper"));
        // What of the environment a hostile user could have got through.
        helper.env_clear().env("PATH", "/tmp").env("LD_PRELOAD", "/tmp/evil.so").env("SUDO_UID", uid);
        helper.env("SUDO_USER", if uid == ALICE { "alice" } else { "bob" });
        helper.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub(crate) fn ask_raw(&self, uid: &str, request: &[u8]) -> Output {
        let mut helper = self.start(uid);
        // It may have refused before it has read all of it.
        helper.stdin.take().unwrap().write_all(request).ok();
        helper.wait_with_output().unwrap()
    }

    pub(crate) fn ask(&self, uid: &str, verb: HelperVerb) -> HelperAnswer {
        answer_of(&self.ask_raw(uid, &request(verb)))
    }

    /// Returns a VM's place, as it is by default.
    pub(crate) fn place(&self, uid: &str, vm: u64, name: &str) -> VmPlace {
        self.place_as(uid, terms(vm, name))
    }

    pub(crate) fn place_as(&self, uid: &str, terms: VmTerms) -> VmPlace {
        match self.ask(uid, HelperVerb::VmAdd(terms)) {
            HelperAnswer::Place(place) => place,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn remove(&self, uid: &str, vms: &[u64]) {
        assert_eq!(self.ask(uid, HelperVerb::VmsRemove(ids(vms))), HelperAnswer::Done);
    }

    pub(crate) fn state(&self) -> String {
        self.0.state()
    }
}

pub(crate) fn ids(vms: &[u64]) -> BTreeSet<VmId> {
    vms.iter().map(|vm| VmId::from_random(*vm)).collect()
}

pub(crate) fn terms(vm: u64, name: &str) -> VmTerms {
    let (vm, name) = (VmId::from_random(vm), name.parse().unwrap());
    VmTerms { vm, name, v6: true, allow_host: false, reaches_others: true, jail: None }
}

pub(crate) fn request(verb: HelperVerb) -> Vec<u8> {
    serde_json::to_vec(&HelperRequest { protocol: HELPER_PROTOCOL, verb }).unwrap()
}

pub(crate) fn answer_of(output: &Output) -> HelperAnswer {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn refusal(answer: HelperAnswer) -> (HelperRefusalKind, String) {
    match answer {
        HelperAnswer::Refused(refusal) => (refusal.kind, refusal.message),
        other => panic!("{other:?}"),
    }
}
