//! The interfaces, routes and neighbours that the kernel answers from.
//!
//! ```text
//!   clients 10.0.0.0/16     fd00:a::/64    ── veth0  MTU 1500, beyond it also pods 10.245.0.0/16 fd00:245::/64
//!   pods    10.244.0.0/16   fd00:244::/64  ── veth1  MTU 1400
//! ```

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// The hardware address behind an interface that every neighbour has.
pub(crate) const NEIGHBOUR: [u8; 6] = [2, 0, 0, 0, 1, 0];
/// MTU of veth0.
pub(crate) const MTU_VETH0: u16 = 1500;
/// MTU of veth1.
pub(crate) const MTU_VETH1: u16 = 1400;
/// The clients and pods with a neighbour entry are numbers 1 to this.
pub(crate) const NEIGHBOURS: u16 = 8;

/// The addresses of veth0 and veth1.
pub(crate) const NODE_ADDRESSES: [&str; 4] = ["10.0.255.254", "fd00:a::ffff", "10.244.255.254", "fd00:244::ffff"];

/// Builds it in the calling thread's network namespace.
pub(crate) fn build() {
    ip(&cables());
    for name in ["veth0-far", "veth1-far"] {
        // Programs on the near ends must see no packets but ours.
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").expect(name);
    }
    ip(&network());
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(format!("/proc/sys/net/{setting}"), "1").expect(setting);
    }
}

/// Both ends of two cables.
fn cables() -> String {
    let cable = |(name, number, mtu)| {
        format!("link add {name} address 02:00:00:00:00:0{number} mtu {mtu} type veth peer name {name}-far\n")
    };
    [("veth0", 2, MTU_VETH0), ("veth1", 3, MTU_VETH1)].map(cable).concat()
}

/// Links up, addresses, routes, neighbours.
fn network() -> String {
    let mut commands = String::from("link set lo up\n");
    for name in ["veth0", "veth1", "veth0-far", "veth1-far"] {
        commands += &format!("link set {name} up\n");
    }
    commands += "address add 10.0.255.254/16 dev veth0\naddress add fd00:a::ffff/64 dev veth0 nodad\n\
                 address add 10.244.255.254/16 dev veth1\naddress add fd00:244::ffff/64 dev veth1 nodad\n\
                 route add 10.245.0.0/16 dev veth0\nroute add fd00:245::/64 dev veth0\n\
                 route add blackhole 10.250.0.0/16\nroute add blackhole fd00:250::/64\n";
    let [a, b, c, d, e, f] = NEIGHBOUR;
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    for number in 1..=NEIGHBOURS {
        for (address, name) in [
            (format!("10.0.0.{number}"), "veth0"),
            (format!("10.244.0.{number}"), "veth1"),
            (format!("10.245.0.{number}"), "veth0"),
            (format!("fd00:a::{number}"), "veth0"),
            (format!("fd00:244::{number}"), "veth1"),
            (format!("fd00:245::{number}"), "veth0"),
        ] {
            commands += &format!("neighbour add {address} lladdr {mac} nud permanent dev {name}\n");
        }
    }
    commands
}

fn ip(commands: &str) {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip");
    ip.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success(), "ip refused:\n{commands}");
}

/// The number of an interface.
pub(crate) fn ifindex(name: &str) -> u32 {
    let text = Command::new("ip")
        .args(["-oneline", "link", "show", name])
        .output()
        .unwrap()
        .stdout;
    String::from_utf8(text)
        .unwrap()
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}
