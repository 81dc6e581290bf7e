//! Random ids and names.

use banger_types::{ImageId, KernelId, OperationId, VmId, VmName};

/// Returns 64 random bits from the kernel.
fn random() -> u64 {
    // A version 4 UUID holds 122 random bits (RFC 9562 section 5.4); the low 62 are all random.
    uuid::Uuid::new_v4().as_u64_pair().1
}

pub(crate) fn vm_id() -> VmId {
    VmId::from_random(random())
}

pub(crate) fn image_id() -> ImageId {
    ImageId::from_random(random())
}

pub(crate) fn kernel_id() -> KernelId {
    KernelId::from_random(random())
}

pub(crate) fn operation_id() -> OperationId {
    OperationId::from_random(random())
}

const ADJECTIVES: [&str; 32] = [
    "able", "amber", "brave", "bright", "brisk", "calm", "clear", "clever", "cosy", "crisp", "deft", "eager",
    "fair", "fleet", "fond", "frank", "gentle", "glad", "keen", "kind", "lively", "lucid", "mellow", "neat",
    "noble", "plucky", "proud", "quick", "quiet", "sunny", "swift", "warm",
];
const NOUNS: [&str; 32] = [
    "alder", "aspen", "badger", "beech", "birch", "brook", "cedar", "crane", "elm", "falcon", "fern",
    "finch", "fox", "hazel", "heron", "lark", "linden", "lynx", "maple", "marten", "oak", "otter", "owl",
    "pine", "raven", "robin", "rowan", "sparrow", "thrush", "willow", "wren", "yew",
];

/// Returns a name that nobody had to think of.
pub(crate) fn vm_name() -> VmName {
    let bits = random();
    let pick =
        |words: &[&'static str; 32], shift: u32| words[usize::try_from(bits >> shift & 31).unwrap_or(0)];
    let number = bits >> 10 & 0xff;
    let name = format!("{}-{}-{number}", pick(&ADJECTIVES, 0), pick(&NOUNS, 5));
    #[expect(clippy::expect_used, reason = "two words and a number are a host name label")]
    name.parse().expect("made of letters, digits and hyphens")
}
