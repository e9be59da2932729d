//! What a lab is to consist of: the description that [`Lab`](crate::lab::Lab) is built from. All pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The node's addresses towards the client.
pub const NODE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa, 0, 0, 0, 0, 0, 1)),
];

/// The client's addresses.
pub const CLIENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa, 0, 0, 0, 0, 0, 2)),
];

/// The name of the pod behind the node's second interface.
pub const REMOTE: &str = "kubia-remote";

/// Its addresses.
pub const REMOTE_ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xb, 0, 0, 0, 0, 0, 2)),
];

/// What a lab consists of, and how it behaves.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The pods on the node.
    pub pods: Vec<PodSpec>,
    /// A pod [`REMOTE`] behind the node's `eth1`.
    pub remote: bool,
    /// Whether links behave like wires: full checksums on every frame. XDP needs it, for a real NIC gives it no less;
    /// without it the kernel leaves checksums and segmentation to a NIC that is not there, which tc must cope with.
    pub wire: bool,
    /// Whether the lab must have the machine to itself, because something is measured in it.
    pub alone: bool,
}

impl Default for Topology {
    fn default() -> Self {
        let names = [("kubia-4f2c1", 11), ("kubia-9d8xk", 12), ("kubia-s7b0q", 13)];
        Self {
            pods: names.map(|(name, host)| PodSpec::new(name, host)).into(),
            remote: false,
            wire: true,
            alone: false,
        }
    }
}

/// A pod to be.
#[derive(Debug, Clone)]
pub struct PodSpec {
    /// Its name.
    pub name: String,
    /// The last part of its addresses, and of the name of the node's interface to it: 11 is 10.244.0.11,
    /// fd00:10:244::11 and `pod11`.
    pub host: u8,
    /// The ports its servers listen on, TCP and UDP.
    pub ports: Vec<u16>,
}

impl PodSpec {
    /// A pod that serves on 8080 and 8443.
    pub fn new(name: &str, host: u8) -> Self {
        Self {
            name: name.to_owned(),
            host,
            ports: vec![8080, 8443],
        }
    }

    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        // In hexadecimal the group reads like the decimal octet.
        let group =
            u16::from(self.host) / 100 * 0x100 + u16::from(self.host) / 10 % 10 * 0x10 + u16::from(self.host) % 10;
        [
            Ipv4Addr::new(10, 244, 0, self.host).into(),
            Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, group).into(),
        ]
    }
}
