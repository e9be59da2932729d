//! The judge of checksums: etherparse, which knows nothing of incremental updates.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// A checksum in a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checksum {
    /// What it covers.
    pub name: &'static str,
    /// Where it is, bytes from the start of the frame.
    pub offset: usize,
    /// What the packet says.
    pub found: u16,
    /// What it should say.
    pub computed: u16,
}

/// Every checksum of a frame, computed from scratch.
pub fn checksums(frame: &[u8]) -> Vec<Checksum> {
    let packet = SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
    let start = frame.as_ptr() as usize;
    let mut all = Vec::new();
    if let Some(NetSlice::Ipv4(ipv4)) = &packet.net {
        all.push(Checksum {
            name: "IPv4",
            offset: ipv4.header().slice().as_ptr() as usize - start + 10,
            found: ipv4.header().header_checksum(),
            computed: ipv4.header().to_header().calc_header_checksum(),
        });
    }
    match (&packet.net, &packet.transport) {
        (Some(net), Some(TransportSlice::Tcp(tcp))) => all.push(Checksum {
            name: "TCP",
            offset: tcp.slice().as_ptr() as usize - start + 16,
            found: tcp.checksum(),
            computed: match net {
                NetSlice::Ipv4(ip) => tcp
                    .calc_checksum_ipv4(ip.header().source(), ip.header().destination())
                    .unwrap(),
                NetSlice::Ipv6(ip) => tcp
                    .calc_checksum_ipv6(ip.header().source(), ip.header().destination())
                    .unwrap(),
                _ => unreachable!("TCP without IP"),
            },
        }),
        (Some(net), Some(TransportSlice::Udp(udp))) => all.push(Checksum {
            name: "UDP",
            offset: udp.slice().as_ptr() as usize - start + 6,
            found: udp.checksum(),
            computed: match net {
                NetSlice::Ipv4(ip) => udp
                    .to_header()
                    .calc_checksum_ipv4_raw(ip.header().source(), ip.header().destination(), udp.payload())
                    .unwrap(),
                NetSlice::Ipv6(ip) => udp
                    .to_header()
                    .calc_checksum_ipv6_raw(ip.header().source(), ip.header().destination(), udp.payload())
                    .unwrap(),
                _ => unreachable!("UDP without IP"),
            },
        }),
        _ => {}
    }
    all
}

/// Writes every checksum of a frame.
pub fn seal(frame: &mut [u8]) {
    for checksum in checksums(frame) {
        frame[checksum.offset..checksum.offset + 2].copy_from_slice(&checksum.computed.to_be_bytes());
    }
}

/// Fails when a checksum is wrong. A UDP checksum of 0 says that there is none.
pub fn assert_valid(frame: &[u8]) {
    for checksum in checksums(frame) {
        let none = checksum.name == "UDP" && checksum.found == 0;
        assert!(
            none || checksum.found == checksum.computed,
            "{checksum:04x?} in {frame:02x?}"
        );
    }
}
