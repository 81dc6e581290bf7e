//! Which crate may use which: the architecture as a rule that is checked.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};

use crate::process::{cargo, output};

/// Each crate, and those of ours that it may use. Adapters never use each other, the command line
/// uses no adapter, and what runs in the guest or beside a VM stays small.
const MAY_USE: &[(&str, &[&str])] = &[
    ("banger-types", &[]),
    ("banger-channel", &[]),
    ("banger-process", &[]),
    ("banger-core", &["banger-types"]),
    ("banger-api", &["banger-types"]),
    ("banger-configuration", &["banger-types"]),
    ("banger-doctor", &["banger-types"]),
    ("banger-session", &["banger-api", "banger-types"]),
    ("banger-console", &["banger-api", "banger-session", "banger-types"]),
    ("banger-store", &["banger-core", "banger-types"]),
    ("banger-image", &["banger-core", "banger-types"]),
    ("banger-download", &["banger-core", "banger-types"]),
    ("banger-engine", &["banger-core", "banger-types"]),
    ("banger-names", &[]),
    ("banger-net", &["banger-core", "banger-names", "banger-types"]),
    ("banger-host", &["banger-core", "banger-types"]),
    ("banger-monitor", &["banger-channel", "banger-process", "banger-types"]),
    ("banger-guest", &["banger-channel", "banger-types"]),
    ("banger-helper", &["banger-names", "banger-process", "banger-types"]),
    ("banger", &["banger-api", "banger-configuration", "banger-session", "banger-types"]),
    (
        "bangerd",
        &[
            "banger-api",
            "banger-configuration",
            "banger-console",
            "banger-core",
            "banger-doctor",
            "banger-download",
            "banger-engine",
            "banger-host",
            "banger-image",
            "banger-net",
            "banger-store",
            "banger-types",
        ],
    ),
    ("banger-testkit", &["banger-channel", "banger-types"]),
    (
        "banger-bench",
        &["banger-api", "banger-core", "banger-image", "banger-store", "banger-testkit", "banger-types"],
    ),
    ("xtask", &[]),
];

/// No async runtime and no HTTP where a process of each VM would pay for it, or where nothing waits.
const MUST_NOT_USE: &[(&str, &[&str])] = &[
    ("banger-types", &["tokio", "hyper", "rustix", "fs-err"]),
    ("banger-core", &["tokio", "hyper", "rustix", "fs-err"]),
    ("banger-channel", &["tokio", "rustix"]),
    ("banger-monitor", &["tokio", "hyper"]),
    ("banger-guest", &["hyper", "axum"]),
    ("banger-names", &["tokio", "hyper"]),
    ("banger-helper", &["tokio", "hyper"]),
];

/// Most packages in Cargo.lock: each one is code that somebody has to trust. Raised on purpose only.
const MOST_PACKAGES: usize = 589;

/// Most lines that a source file may have: what is longer is two files.
const MOST_LINES: usize = 600;

/// Fails when a crate uses what it may not.
pub(crate) fn check() -> Result<()> {
    let used = dependencies()?;
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, uses) in &used {
        let Some(allowed) = allowed.get(name.as_str()) else {
            wrong.push(format!("{name} has no place in xtask/src/layers.rs"));
            continue;
        };
        for other in uses.iter().filter(|other| used.contains_key(*other)) {
            if !allowed.contains(&other.as_str()) {
                wrong.push(format!("{name} must not use {other}"));
            }
        }
    }
    for (name, forbidden) in MUST_NOT_USE {
        let uses = used.get(*name).with_context(|| format!("there is no crate {name}"))?;
        wrong.extend(
            forbidden.iter().filter(|it| uses.contains(**it)).map(|it| format!("{name} must not use {it}")),
        );
    }
    let packages = locked_packages()?;
    if packages > MOST_PACKAGES {
        wrong.push(format!("Cargo.lock has {packages} packages, more than {MOST_PACKAGES}"));
    }
    wrong.extend(long_files()?);
    if wrong.is_empty() { Ok(()) } else { bail!("layer rules are broken:\n  {}", wrong.join("\n  ")) }
}

/// Returns what is to be said of each source file that is too long.
fn long_files() -> Result<Vec<String>> {
    let root = crate::process::root();
    let mut directories =
        ["bench", "crates", "fuzz/fuzz_targets", "fuzz/src", "xtask"].map(|name| root.join(name)).to_vec();
    let mut long = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let lines = std::fs::read_to_string(&path)?.lines().count();
                if lines > MOST_LINES {
                    long.push(format!("{} has {lines} lines, more than {MOST_LINES}", path.display()));
                }
            }
        }
    }
    Ok(long)
}

/// What each of our crates uses, tests aside.
fn dependencies() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--locked", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo names no packages")?;
    let mut used = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().context("a package without a name")?.to_owned();
        let dependencies = package["dependencies"].as_array().context("a package without dependencies")?;
        let uses = dependencies
            .iter()
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect();
        used.insert(name, uses);
    }
    Ok(used)
}

fn locked_packages() -> Result<usize> {
    let lock = std::fs::read_to_string(crate::process::root().join("Cargo.lock"))?;
    Ok(lock.lines().filter(|line| *line == "[[package]]").count())
}
