//! IPv4 and IPv6 for the bench: addresses by number, frames, and which maps are whose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::{
    Pod,
    maps::{Array, HashMap, MapData},
};
use svcproxy::datapath::{Family, MapKeys, Maps};
use svcproxy_common::abi::{FlowEntry, FlowKey, V4Addr, V6Addr};

use super::programs::Bench;

/// The floors' tables of flows.
pub(crate) type Floor<A> = HashMap<MapData, FlowKey<A>, FlowEntry<A>>;

/// An IP version.
pub(crate) trait Ip: MapKeys {
    /// `v4` or `v6`
    const NAME: &'static str;
    /// Ethernet and IP headers of TCP packets with 10 bytes of payload.
    const HEADERS: &'static [u8];

    /// An address: its network's number, and its own.
    fn address(network: u8, number: u32) -> Self;
    /// The same for a manifest.
    fn ip(self) -> IpAddr;
    fn maps(maps: &mut Maps) -> &mut Family<Self>;
    fn tuples(bench: &mut Bench) -> &mut Array<MapData, FlowKey<Self>>
    where
        FlowKey<Self>: Pod;
    fn floor(bench: &mut Bench) -> &mut Floor<Self>;
}

/// A packet with these TCP flags; its addresses and ports are the generator's to fill in. 64 bytes, IPv6 84.
pub(super) fn frame<A: Ip>(flags: u8) -> Vec<u8> {
    let mut tcp = [0; 20];
    tcp[12] = 5 << 4;
    tcp[13] = flags;
    [A::HEADERS, &tcp, &[0; 10]].concat()
}

impl Ip for V4Addr {
    const NAME: &'static str = "v4";
    const HEADERS: &'static [u8] = &[
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, // Ethernet
        0x45, 0, 0, 50, 0, 1, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    fn address(network: u8, number: u32) -> Self {
        let [_, b, c, d] = number.to_be_bytes();
        assert!(b == 0, "networks have 16 bits");
        Self {
            octets: [10, network, c, d],
        }
    }

    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self.octets).into()
    }

    fn maps(maps: &mut Maps) -> &mut Family<Self> {
        &mut maps.v4
    }

    fn tuples(bench: &mut Bench) -> &mut Array<MapData, FlowKey<Self>> {
        &mut bench.tuples_v4
    }

    fn floor(bench: &mut Bench) -> &mut Floor<Self> {
        &mut bench.floor_v4
    }
}

impl Ip for V6Addr {
    const NAME: &'static str = "v6";
    const HEADERS: &'static [u8] = &{
        let mut headers = [0; 54];
        (headers[0], headers[5]) = (2, 1);
        (headers[6], headers[11]) = (2, 2);
        (headers[12], headers[13]) = (0x86, 0xdd);
        (headers[14], headers[19]) = (0x60, 30);
        (headers[20], headers[21]) = (6, 64);
        headers
    };

    fn address(network: u8, number: u32) -> Self {
        let [_, _, c, d] = number.to_be_bytes();
        let mut octets = [0; 16];
        (octets[0], octets[3]) = (0xfd, network);
        (octets[14], octets[15]) = (c, d);
        Self { octets }
    }

    fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.octets).into()
    }

    fn maps(maps: &mut Maps) -> &mut Family<Self> {
        &mut maps.v6
    }

    fn tuples(bench: &mut Bench) -> &mut Array<MapData, FlowKey<Self>> {
        &mut bench.tuples_v6
    }

    fn floor(bench: &mut Bench) -> &mut Floor<Self> {
        &mut bench.floor_v6
    }
}
