//! Frames in a few words: `tcp(client, vip, SYN).ttl(1)`.

use std::net::{IpAddr, SocketAddr};

use svcproxy_common::abi::Protocol;

use super::judge;

/// Of the interface that frames come from.
pub const MAC_CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Of the interface that frames come in by.
pub const MAC_NODE: [u8; 6] = [2, 0, 0, 0, 0, 2];

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// A frame under construction: TCP, UDP or SCTP over IP, until told otherwise.
#[derive(Clone, Debug)]
pub struct Frame {
    src: SocketAddr,
    dst: SocketAddr,
    transport: Transport,
    ttl: u8,
    payload: Vec<u8>,
    options: usize,
    /// IPv6 extension headers: type, and words of 8 bytes.
    extensions: Vec<(u8, usize)>,
    tcp_options: usize,
    vlans: usize,
    without_checksum: bool,
    dont_fragment: bool,
    /// Payload bytes of the packets it will be cut into.
    pub segment_payload: u32,
    edits: Vec<(usize, u8)>,
    padding: usize,
}

#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp { flags: u8 },
    Udp,
    Sctp { chunk: u8 },
}

/// A TCP segment. Flags as tcpdump prints them: `S`, `S.`, `.`, `F.`, `R`.
pub fn tcp(src: SocketAddr, dst: SocketAddr, flags: &str) -> Frame {
    let bit = |flag| match flag {
        'F' => 0x01,
        'S' => 0x02,
        'R' => 0x04,
        'P' => 0x08,
        '.' => 0x10,
        other => panic!("no TCP flag {other}"),
    };
    let flags = flags.chars().map(bit).sum();
    Frame {
        transport: Transport::Tcp { flags },
        ..udp(src, dst)
    }
}

/// An SCTP packet with one chunk of this type: 0 DATA, 1 INIT, 2 INIT ACK, 6 ABORT, 7 SHUTDOWN.
pub fn sctp(src: SocketAddr, dst: SocketAddr, chunk: u8) -> Frame {
    Frame {
        transport: Transport::Sctp { chunk },
        ..udp(src, dst)
    }
}

/// A packet of any of the three, with TCP flags or with the SCTP chunk that amounts to them.
pub fn packet(protocol: Protocol, src: SocketAddr, dst: SocketAddr, flags: &str) -> Frame {
    let chunk = match flags {
        "S" => 1,
        "S." => 2,
        "R" | "R." => 6,
        _ => 0,
    };
    match protocol {
        Protocol::TCP => tcp(src, dst, flags),
        Protocol::SCTP => sctp(src, dst, chunk),
        Protocol::UDP | Protocol::ANY => udp(src, dst),
    }
}

/// A UDP datagram.
pub fn udp(src: SocketAddr, dst: SocketAddr) -> Frame {
    Frame {
        src,
        dst,
        transport: Transport::Udp,
        ttl: 64,
        payload: b"svcproxy".to_vec(),
        options: 0,
        extensions: Vec::new(),
        tcp_options: 0,
        vlans: 0,
        without_checksum: false,
        dont_fragment: true,
        segment_payload: 0,
        edits: Vec::new(),
        padding: 0,
    }
}

/// An ARP request.
pub fn arp() -> Vec<u8> {
    let mut frame = ethernet(0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([MAC_CLIENT.as_slice(), &[10, 0, 0, 2], &[0; 6], &[10, 96, 0, 10]].concat());
    frame.resize(60, 0);
    frame
}

impl Frame {
    /// TTL or hop limit.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Any payload.
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// IPv4 options of so many words of 4 bytes, or one IPv6 extension header (destination options) of so many of 8.
    pub fn options(mut self, words: usize) -> Self {
        self.options = words;
        self.extensions = (words > 0).then_some((60, words)).into_iter().collect();
        self
    }

    /// IPv6 extension headers: their types in order (0 hop-by-hop options, 43 routing, 51 authentication, 60
    /// destination options) and their lengths in words of 8 bytes.
    pub fn extensions(mut self, headers: &[(u8, usize)]) -> Self {
        self.extensions = headers.to_vec();
        self
    }

    /// TCP options, words of 4 bytes.
    pub fn tcp_options(mut self, words: usize) -> Self {
        self.tcp_options = words;
        self
    }

    /// So many VLAN tags; of two the outer one is a service tag (IEEE 802.1ad).
    pub fn vlans(mut self, tags: usize) -> Self {
        self.vlans = tags;
        self
    }

    /// UDP without a checksum.
    pub fn without_checksum(mut self) -> Self {
        self.without_checksum = true;
        self
    }

    /// A packet that will be cut into packets of so many payload bytes.
    pub fn segments(mut self, payload: u32) -> Self {
        self.segment_payload = payload;
        self
    }

    /// IPv4 without "don't fragment".
    pub fn may_be_cut(mut self) -> Self {
        self.dont_fragment = false;
        self
    }

    /// Writes a byte when all else is done, checksums included; counted from the IP header.
    pub fn edit(mut self, offset: usize, value: u8) -> Self {
        self.edits.push((14 + self.vlans * 4 + offset, value));
        self
    }

    /// Bytes behind the IP packet.
    pub fn padding(mut self, bytes: usize) -> Self {
        self.padding = bytes;
        self
    }

    /// The whole frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = ethernet(match self.src {
            SocketAddr::V4(_) => ETH_P_IP,
            SocketAddr::V6(_) => ETH_P_IPV6,
        });
        let transport = self.transport();
        match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = 20 + self.options * 4;
                let length = (header + transport.len()) as u16;
                frame.extend([0x40 | (header / 4) as u8, 0]);
                frame.extend(length.to_be_bytes());
                let flags = if self.dont_fragment { 0x40 } else { 0 };
                frame.extend([0x12, 0x34, flags, 0, self.ttl, self.protocol(), 0, 0]);
                frame.extend([src.octets(), dst.octets()].concat());
                frame.resize(frame.len() + self.options * 4, 1); // "no operation"
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let words: usize = self.extensions.iter().map(|(_, words)| words).sum();
                let length = (words * 8 + transport.len()) as u16;
                let types = self.extensions.iter().map(|(kind, _)| *kind).chain([self.protocol()]);
                let types: Vec<u8> = types.collect();
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([types[0], self.ttl]);
                frame.extend([src.octets(), dst.octets()].concat());
                for ((kind, words), next) in self.extensions.iter().zip(&types[1..]) {
                    // The authentication header counts words of 4, less 2 (RFC 4302).
                    let length = if *kind == 51 { words * 2 - 2 } else { words - 1 };
                    frame.extend([*next, length as u8]);
                    frame.resize(frame.len() + words * 8 - 2, 0); // Pad1; a routing header that has arrived
                }
            }
            _ => panic!("{} and {} are of two families", self.src, self.dst),
        }
        frame.extend(transport);
        judge::seal(&mut frame);
        if self.without_checksum {
            let udp = frame.len() - 8 - self.payload.len();
            frame[udp + 6..udp + 8].fill(0);
        }
        for tag in 0..self.vlans {
            frame.splice(12..12, if tag == 0 { [0x81, 0, 0, 7] } else { [0x88, 0xa8, 0, 8] });
        }
        for (offset, value) in &self.edits {
            frame[*offset] = *value;
        }
        frame.resize(frame.len() + self.padding, 0);
        frame
    }

    const fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => 6,
            Transport::Udp => 17,
            Transport::Sctp { .. } => 132,
        }
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = [self.src.port().to_be_bytes(), self.dst.port().to_be_bytes()].concat();
        match self.transport {
            Transport::Tcp { flags } => {
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 2]);
                bytes.extend([(5 + self.tcp_options as u8) << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
                bytes.resize(bytes.len() + self.tcp_options * 4, 1);
            }
            Transport::Udp => {
                bytes.extend((8 + self.payload.len() as u16).to_be_bytes());
                bytes.extend([0, 0]);
            }
            Transport::Sctp { chunk } => {
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, chunk, 0]);
                bytes.extend((4 + self.payload.len() as u16).to_be_bytes());
            }
        }
        bytes.extend(&self.payload);
        bytes
    }
}

fn ethernet(ethertype: u16) -> Vec<u8> {
    [MAC_NODE.as_slice(), &MAC_CLIENT, &ethertype.to_be_bytes()].concat()
}

/// Source and destination of a frame.
pub fn sockets(frame: &[u8]) -> (SocketAddr, SocketAddr) {
    let layers = judge::layers(frame).expect("an IP packet");
    let port =
        |offset: usize| u16::from_be_bytes([frame[layers.transport + offset], frame[layers.transport + offset + 1]]);
    (
        SocketAddr::new(layers.src, port(0)),
        SocketAddr::new(layers.dst, port(2)),
    )
}
