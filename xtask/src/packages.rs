//! Debian packages that banger and its tests need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::run;

/// What a machine needs to build banger and to run VMs.
const TO_RUN: &[&str] = &[
    "gcc",
    "libc6-dev",
    "qemu-system-x86",
    "passt",
    "mmdebstrap",
    "uidmap",
    "e2fsprogs",
    "kmod",
    "debian-archive-keyring",
];

/// What the tests need beside that: peers to compare with, and clients to be compared by.
const TO_TEST: &[&str] = &[
    "busybox-static",
    "openssh-client",
    "rsync",
    "iproute2",
    "iputils-arping",
    "iputils-ping",
    "nftables",
    // A resolver and name servers, each beside the host's own.
    "dnsmasq-base",
