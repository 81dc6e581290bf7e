//! How often each thing is measured.

/// Variable that makes a run quick, to try the bench itself out; its numbers are not kept.
pub(crate) const QUICK: &str = "BANGER_BENCH_QUICK";

/// Numbers of rounds, and sizes.
#[derive(Debug)]
pub(crate) struct Rounds {
    /// `vm create` of each image.
    pub(crate) create: usize,
    /// Boots of each kind.
    pub(crate) boot: usize,
    /// Boots that are looked into.
    pub(crate) phases: usize,
    /// File systems written in each way.
    pub(crate) filesystem: usize,
    /// Commands in a running VM.
    pub(crate) exec: usize,
    /// VMs whose memory is looked at.
    pub(crate) memory: usize,
    /// Places in networks that are given and taken away.
    pub(crate) set_up: usize,
    /// Times that each network is sent through.
    pub(crate) throughput: usize,
    /// How long each time, seconds.
    pub(crate) send_seconds: u8,
    /// VMs that a list is long with.
    pub(crate) many: usize,
    /// How long a process is watched that should do nothing, seconds.
    pub(crate) idle_seconds: u64,
    /// Sizes of the small and the large image, in MB.
    pub(crate) image_megabytes: [u64; 2],
    /// How long a VM is left alone before its disk is looked at, seconds.
    pub(crate) rest_seconds: u64,
}

impl Rounds {
    /// Returns what the environment asks for.
    pub(crate) fn from_environment() -> Self {
        if std::env::var_os(QUICK).is_some() { Self::quick() } else { Self::full() }
    }

    pub(crate) const fn full() -> Self {
        Self {
            create: 30,
            boot: 12,
            phases: 4,
            filesystem: 5,
            exec: 40,
            memory: 3,
            set_up: 20,
            throughput: 12,
            send_seconds: 5,
            many: 1000,
            idle_seconds: 10,
            image_megabytes: [300, 3000],
            rest_seconds: 60,
        }
    }

    pub(crate) const fn quick() -> Self {
        Self {
            create: 4,
            boot: 2,
            phases: 1,
            filesystem: 1,
            exec: 4,
            memory: 1,
            set_up: 3,
            throughput: 3,
            send_seconds: 2,
            many: 50,
            idle_seconds: 2,
            image_megabytes: [30, 300],
            rest_seconds: 5,
        }
    }

    /// Returns whether this is a quick run.
    pub(crate) const fn are_quick(&self) -> bool {
        self.boot < Self::full().boot
    }
}
