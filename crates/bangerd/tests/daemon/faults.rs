//! `kill -9` of the daemon at every point at which it has done half of something: the next one repairs what is left.
//!
//! Each point is tried with fake VMs. With real ones it is one of each kind every day, and all of them in the full run.

use std::collections::BTreeSet;
use std::process::Command;

use banger_testkit::{Environment, is_full_run, programs};

mod world;

use self::world::World;

/// What the daemon is doing when it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Create,
    Start,
    Restart,
    Stop,
    Kill,
    Pause,
    Resume,
    Delete,
    Set,
    Rename,
    AddForward,
    RemoveForward,
    Pull,
    CancelPull,
    PullRemote,
    Register,
    RegisterKernel,
    Remake,
    DeleteImage,
    DeleteKernel,
    Prune,
}

impl Work {
    /// Whether an image comes of it.
    const fn makes_image(self) -> bool {
        matches!(self, Self::Pull | Self::CancelPull | Self::PullRemote | Self::Register | Self::Remake)
    }

    /// Whether it is about images.
    const fn is_of_images(self) -> bool {
        self.makes_image() || matches!(self, Self::DeleteImage | Self::Prune)
    }
}

/// What has become of the VM, or of the image, when the next daemon has put everything in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nothing of it is left.
    Gone,
    /// It is in this state, and the operation says that it went well.
    Done(&'static str),
}

/// Every point, in which work it is met, what comes of it, and whether it is tried with a real VM every day.
const POINTS: &[(&str, Work, Outcome, bool)] = &[
    ("CancelRemembered", Work::CancelPull, Outcome::Gone, true),
    ("CreateReserved", Work::Create, Outcome::Done("running"), false),
    ("CreateStaged", Work::Create, Outcome::Done("running"), false),
    ("CreatePublished", Work::Create, Outcome::Done("running"), true),
    ("CreateSettled", Work::Create, Outcome::Done("running"), false),
    ("StartPrepared", Work::Start, Outcome::Done("running"), false),
    ("StartAnnounced", Work::Start, Outcome::Done("running"), false),
    ("StartLaunched", Work::Start, Outcome::Done("running"), true),
    ("StartForwarded", Work::Start, Outcome::Done("running"), false),
    ("StartAttached", Work::Start, Outcome::Done("running"), false),
    ("StartAnnounced", Work::Create, Outcome::Done("running"), false),
    ("StartLaunched", Work::Create, Outcome::Done("running"), false),
    ("StopAsked", Work::Stop, Outcome::Done("stopped"), true),
    ("StopAnnounced", Work::Stop, Outcome::Done("stopped"), false),
    ("StopAsked", Work::Restart, Outcome::Done("running"), false),
    ("StopAnnounced", Work::Restart, Outcome::Done("running"), false),
    ("StartAnnounced", Work::Restart, Outcome::Done("running"), false),
    ("StartLaunched", Work::Restart, Outcome::Done("running"), false),
    ("KillAnnounced", Work::Kill, Outcome::Done("stopped"), false),
    ("PauseDone", Work::Pause, Outcome::Done("paused"), true),
    ("ResumeDone", Work::Resume, Outcome::Done("running"), false),
    ("KillAnnounced", Work::Delete, Outcome::Gone, false),
    ("DeleteAnnounced", Work::Delete, Outcome::Gone, true),
    ("DeleteFilesGone", Work::Delete, Outcome::Gone, false),
    ("DeleteForgotten", Work::Delete, Outcome::Gone, false),
    ("SetGrown", Work::Set, Outcome::Done("stopped"), false),
    ("SetRemembered", Work::Set, Outcome::Done("stopped"), false),
    ("RenameRemembered", Work::Rename, Outcome::Done("running"), true),
    ("ForwardMade", Work::AddForward, Outcome::Done("running"), true),
    ("ForwardRemembered", Work::AddForward, Outcome::Done("running"), false),
    ("ForwardForgotten", Work::RemoveForward, Outcome::Done("running"), false),
    ("ForwardEnded", Work::RemoveForward, Outcome::Done("running"), false),
    ("PullJournaled", Work::Pull, Outcome::Done("there"), false),
    ("PullPublished", Work::Pull, Outcome::Done("there"), true),
    ("PullSettled", Work::Pull, Outcome::Done("there"), false),
    ("PullJournaled", Work::PullRemote, Outcome::Done("there"), false),
    ("LayerCame", Work::PullRemote, Outcome::Done("there"), false),
    ("PullPublished", Work::PullRemote, Outcome::Done("there"), false),
    ("PullSettled", Work::PullRemote, Outcome::Done("there"), false),
    ("RegisterChecked", Work::Register, Outcome::Done("there"), true),
    ("RegisterSettled", Work::Register, Outcome::Done("there"), false),
    ("RegisterChecked", Work::RegisterKernel, Outcome::Done("there"), false),
    ("RegisterSettled", Work::RegisterKernel, Outcome::Done("there"), false),
    ("KernelExchanged", Work::Remake, Outcome::Done("there"), false),
    ("ArtifactForgotten", Work::DeleteImage, Outcome::Gone, true),
    ("ArtifactForgotten", Work::DeleteKernel, Outcome::Gone, false),
    ("PruneTook", Work::Prune, Outcome::Done("there"), true),
];

#[test]
fn every_point_is_tried() {
    let listed = Command::new(programs().join("bangerd")).arg("--fault-points").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let there: BTreeSet<&str> = listed.lines().collect();
    let placed = crate::nat::POINTS.iter().map(|(point, ..)| *point);
    let tried: BTreeSet<&str> = POINTS.iter().map(|(point, ..)| *point).chain(placed).collect();
    assert_eq!(tried, there);
}

#[test]
fn a_daemon_that_dies_at_any_point_is_followed_by_one_that_repairs_it() {
    let world = World::new(Environment::with_fake_vmm(), false);
    for (point, work, outcome, _) in POINTS {
        world.try_point(point, *work, *outcome);
    }
}

#[test]
fn the_same_with_real_vms() {
    let world = World::new(Environment::new(), true);
    for (point, work, outcome, _) in POINTS.iter().filter(|(.., daily)| *daily || is_full_run()) {
        world.try_point(point, *work, *outcome);
    }
}

/// What has phases, and what comes of it wherever its daemon dies.
const PHASED: &[(Work, Outcome)] = &[
    (Work::Create, Outcome::Done("running")),
    (Work::Start, Outcome::Done("running")),
    (Work::Restart, Outcome::Done("running")),
    (Work::Stop, Outcome::Done("stopped")),
    (Work::Kill, Outcome::Done("stopped")),
    (Work::Pause, Outcome::Done("paused")),
    (Work::Resume, Outcome::Done("running")),
    (Work::Delete, Outcome::Gone),
    (Work::Pull, Outcome::Done("there")),
    (Work::PullRemote, Outcome::Done("there")),
    (Work::Register, Outcome::Done("there")),
    (Work::RegisterKernel, Outcome::Done("there")),
    (Work::DeleteImage, Outcome::Gone),
    (Work::DeleteKernel, Outcome::Gone),
    (Work::Prune, Outcome::Done("there")),
];

#[test]
fn a_daemon_that_dies_at_the_beginning_of_any_phase_is_followed_by_one_that_goes_on() {
    let world = World::new(Environment::with_fake_vmm(), false);
    let mut tried = 0;
    for (work, outcome) in PHASED {
        let phases = world.phases(*work);
        assert!(!phases.is_empty(), "{work:?} has no phase");
        tried += phases.len();
        for phase in phases {
            world.try_point(&format!("phase:{phase}"), *work, *outcome);
        }
    }
    println!("kill -9 at {} points, and at the beginning of {tried} phases", POINTS.len());
}
