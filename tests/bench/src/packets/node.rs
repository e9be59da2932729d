//! Where packets are measured: a network namespace with one interface that everybody is behind, and some that programs
//! are merely attached to.
//!
//! ```text
//!   veth0 192.0.2.1  2001:db8::1 ── gateway 192.0.2.2  2001:db8::2 ── clients 10.0.0.0/8  fd00::/16, and pods in it
//! ```
//!
//! Nothing is sent: a test run's verdict is a number. But the kernel's routing answers, and has one answer for all.

use std::{fs, process::Command};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use svcproxy_tests::namespace;

const NETWORK: &str = "
    link set lo up
    link add veth0 address 02:00:00:00:00:01 type veth peer name far
    link add held0 type veth peer name held1
    link add held2 type veth peer name held3
    link set veth0 up
    link set far up
    addr add 192.0.2.1/24 dev veth0
    addr add 2001:db8::1/64 dev veth0 nodad
    neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 nud permanent dev veth0
    neigh add 2001:db8::2 lladdr 02:00:00:00:00:02 nud permanent dev veth0
    route add default via 192.0.2.2
    route add default via 2001:db8::2";

/// The hardware address of veth0, which all frames are for.
pub(super) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Moves the calling thread into a new namespace, which ends with it, and returns the interface's number.
pub(super) fn enter() -> Result<u32> {
    unshare(CloneFlags::CLONE_NEWNET).context("the bench makes a network namespace: run it as root")?;
    for command in NETWORK.lines().map(str::trim).filter(|line| !line.is_empty()) {
        namespace::run(Command::new("ip").args(command.split(' ')))?;
    }
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/net/{setting}"), "1").with_context(|| format!("cannot set {setting}"))?;
    }
    let link = namespace::run(Command::new("ip").args(["-oneline", "link", "show", "veth0"]))?;
    let index = link.split(':').next().and_then(|index| index.parse().ok());
    index.with_context(|| format!("no interface in {link:?}"))
}
