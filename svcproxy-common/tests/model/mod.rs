//! A node on the host: the decision code over hash maps and byte vectors, with a clock and next hops to set.
//!
//! The decision code is the one the kernel programs are compiled from. The packet tests include this module too and
//! compare it with the real programs.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "two test crates include this module and each uses a part"
)]

mod cluster;
mod frame;
pub mod judge;
mod node;
mod packet;
pub mod pieces;
mod tables;

pub use self::{
    cluster::{Cluster, Port, other_ports, service},
    frame::{Frame, MAC_CLIENT, MAC_NODE, arp, packet, sctp, sockets, tcp, udp},
    node::{Node, Outcome, flow_key, live_affinity, next_hop, snapshot},
    packet::{Hook, TcIn, TcInAny, TcOut, TcOutAny, Xdp},
    tables::{FamilyTables, HostTables, Side},
};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IP version: every rule is tested for both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ip {
    V4,
    V6,
}

impl Ip {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// A client outside.
    pub fn client(self, number: u16, port: u16) -> SocketAddr {
        self.socket([10, 0], 0xa, number, port)
    }

    /// The address of a Service.
    pub fn vip(self, number: u16, port: u16) -> SocketAddr {
        self.socket([10, 96], 0x96, number, port)
    }

    /// An endpoint.
    pub fn pod(self, number: u16, port: u16) -> SocketAddr {
        self.socket([10, 244], 0x244, number, port)
    }

    /// An endpoint in another network.
    pub fn other_pod(self, number: u16, port: u16) -> SocketAddr {
        self.socket([10, 245], 0x245, number, port)
    }

    /// An address of this node.
    pub fn node(self) -> IpAddr {
        self.socket([10, 0], 0xa, 0xffff, 0).ip()
    }

    /// A router between this node and others.
    pub fn router(self) -> IpAddr {
        self.socket([10, 9], 0x9, 1, 0).ip()
    }

    /// The network of a kind of addresses, `10.244.0.0/16`.
    pub fn network(self, of: fn(Self, u16, u16) -> SocketAddr) -> String {
        let length = if self == Self::V4 { 16 } else { 64 };
        format!("{}/{length}", of(self, 0, 0).ip())
    }

    fn socket(self, v4: [u8; 2], v6: u16, number: u16, port: u16) -> SocketAddr {
        let [high, low] = number.to_be_bytes();
        let address: IpAddr = match self {
            Self::V4 => Ipv4Addr::new(v4[0], v4[1], high, low).into(),
            Self::V6 => Ipv6Addr::new(0xfd00, v6, 0, 0, 0, 0, 0, number).into(),
        };
        SocketAddr::new(address, port)
    }
}
