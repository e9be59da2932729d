//! The judge of checksums: it reads a frame in its own plain way and computes each from scratch.
//!
//! It shares nothing with the code under test, which only ever updates checksums. A test compares it with etherparse,
//! which knows neither SCTP, nor fragments, nor what an ICMP error quotes.

use std::net::{IpAddr, Ipv6Addr};

/// A checksum in a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checksum {
    /// What it covers.
    pub name: &'static str,
    /// Where it is, bytes from the start of the frame.
    pub offset: usize,
    /// What the packet says.
    pub found: u32,
    /// What it should say.
    pub computed: u32,
}

impl Checksum {
    /// How far it is off, which a correct update does not change.
    pub fn error(&self) -> u32 {
        match self.name {
            "SCTP" => self.found ^ self.computed,
            // One's complement: 0 and 0xffff are the same number.
            _ => (0xffff + self.found - self.computed) % 0xffff,
        }
    }
}

/// Where things are in a frame.
#[derive(Clone, Copy, Debug)]
pub struct Layers {
    /// The IP header, bytes from the start of the frame.
    pub ip: usize,
    /// What comes after it and its options or extension headers.
    pub transport: usize,
    /// How long that is, by the IP header.
    pub length: usize,
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Offset of a fragment in its datagram, bytes, and whether more follow it.
    pub fragment: (usize, bool),
    /// Identification of a fragment.
    pub identification: u32,
    /// Where IPv6's fragment header is.
    pub fragment_header: Option<usize>,
    /// Number of IPv6 extension headers.
    pub extensions: usize,
}

fn word(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// Reads a frame. `None` when it is not IP, or its IP headers are not all there.
pub fn layers(frame: &[u8]) -> Option<Layers> {
    let mut offset = 12;
    for outer in [&[0x88a8, 0x8100][..], &[0x8100]] {
        if outer.contains(&word(frame, offset)?) {
            offset += 4;
        }
    }
    layers_of_ip(frame, word(frame, offset)?, offset + 2)
}

fn layers_of_ip(frame: &[u8], ethertype: u16, ip: usize) -> Option<Layers> {
    match ethertype {
        0x0800 => {
            let header: &[u8; 20] = frame.get(ip..)?.first_chunk()?;
            let header_len = usize::from(header[0] & 0xf) * 4;
            let length = match word(header, 2)? {
                0 => frame.len() - ip,
                length => length.into(),
            };
            let fragment = word(header, 6)?;
            (header[0] >> 4 == 4 && header_len >= 20).then_some(Layers {
                ip,
                transport: ip + header_len,
                length: length.checked_sub(header_len)?,
                protocol: header[9],
                src: <[u8; 4]>::try_from(&header[12..16]).ok()?.into(),
                dst: <[u8; 4]>::try_from(&header[16..20]).ok()?.into(),
                fragment: (usize::from(fragment & 0x1fff) * 8, fragment & 0x2000 != 0),
                identification: word(header, 4)?.into(),
                fragment_header: None,
                extensions: 0,
            })
        }
        0x86dd => {
            let header: &[u8; 40] = frame.get(ip..)?.first_chunk()?;
            let address = |offset: usize| -> Option<Ipv6Addr> {
                Some(<[u8; 16]>::try_from(&header[offset..offset + 16]).ok()?.into())
            };
            let mut layers = Layers {
                ip,
                transport: ip + 40,
                length: match word(header, 4)? {
                    0 => frame.len() - ip - 40,
                    length => length.into(),
                },
                protocol: header[6],
                src: address(8)?.into(),
                dst: address(24)?.into(),
                fragment: (0, false),
                identification: 0,
                fragment_header: None,
                extensions: 0,
            };
            while matches!(layers.protocol, 0 | 43 | 44 | 51 | 60) && layers.fragment.0 == 0 {
                let at = layers.transport;
                let length = match (layers.protocol, usize::from(*frame.get(at + 1)?)) {
                    (44, _) => {
                        let offset = word(frame, at + 2)?;
                        layers.fragment = (usize::from(offset & 0xfff8), offset & 1 == 1);
                        layers.identification = u32::from_be_bytes(*frame.get(at + 4..)?.first_chunk()?);
                        layers.fragment_header = Some(at);
                        8
                    }
                    (51, units) => (units + 2) * 4,
                    (_, units) => (units + 1) * 8,
                };
                layers.extensions += 1;
                layers.protocol = frame[at];
                layers.transport += length;
                layers.length = layers.length.checked_sub(length)?;
            }
            (header[0] >> 4 == 6).then_some(layers)
        }
        _ => None,
    }
}

/// Every checksum of a frame, computed from scratch over the bytes that are there. A fragment's covers the datagram:
/// what is computed is then wrong, but [`Checksum::error`] still does not change.
pub fn checksums(frame: &[u8]) -> Vec<Checksum> {
    let mut all = Vec::new();
    if let Some(layers) = layers(frame) {
        all.extend(header(frame, "IPv4", layers));
        if layers.fragment.0 == 0 {
            all.extend(transport(frame, &layers));
            all.extend(quoted(frame, &layers));
        }
    }
    all
}

/// The checksum of an IPv4 header.
fn header(frame: &[u8], name: &'static str, layers: Layers) -> Option<Checksum> {
    let header = frame.get(layers.ip..layers.transport)?;
    layers.src.is_ipv4().then(|| Checksum {
        name,
        offset: layers.ip + 10,
        found: word(header, 10).unwrap_or(0).into(),
        computed: (!sum(header, Some(10), 0)).into(),
    })
}

/// The checksum of TCP, UDP, SCTP, ICMP or ICMPv6.
fn transport(frame: &[u8], layers: &Layers) -> Option<Checksum> {
    let end = frame.len().min(layers.transport + layers.length);
    let bytes = frame.get(layers.transport..end)?;
    let (name, field, has_pseudo_header) = match (layers.protocol, layers.src) {
        (6, _) => ("TCP", 16, true),
        (17, _) => ("UDP", 6, true),
        (58, IpAddr::V6(_)) => ("ICMPv6", 2, true),
        (1, IpAddr::V4(_)) => ("ICMP", 2, false),
        (132, _) if bytes.len() == layers.length && layers.fragment == (0, false) => {
            let found = u32::from_le_bytes(*bytes.get(8..)?.first_chunk()?);
            return Some(Checksum {
                name: "SCTP",
                offset: layers.transport + 8,
                found,
                computed: crc32c(bytes),
            });
        }
        _ => return None,
    };
    let found = word(bytes, field)?;
    let pseudo_header = if has_pseudo_header { pseudo_header(layers) } else { 0 };
    let computed = match !sum(bytes, Some(field), pseudo_header) {
        0 if name == "UDP" => 0xffff,
        computed => computed,
    };
    let none = name == "UDP" && found == 0; // RFC 768, RFC 6935
    (!none).then_some(Checksum {
        name,
        offset: layers.transport + field,
        found: found.into(),
        computed: computed.into(),
    })
}

/// The header checksum of the packet that an ICMP error quotes.
fn quoted(frame: &[u8], layers: &Layers) -> Option<Checksum> {
    let kind = *frame.get(layers.transport)?;
    let is_error = layers.protocol == 1 && layers.src.is_ipv4() && matches!(kind, 3 | 11 | 12);
    let inner = layers_of_ip(frame, 0x0800, layers.transport + 8).filter(|_| is_error)?;
    header(frame, "quoted IPv4", inner)
}

fn pseudo_header(layers: &Layers) -> u64 {
    let octets = |ip| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let addresses = [octets(layers.src), octets(layers.dst)].concat();
    u64::from(sum(&addresses, None, 0)) + layers.length as u64 + u64::from(layers.protocol)
}

/// The one's complement sum of 16-bit words, one of them left out.
fn sum(bytes: &[u8], without: Option<usize>, start: u64) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        _ => u64::from(pair[0]) << 8,
    });
    let mut sum = start + words.sum::<u64>();
    if let Some(field) = without.and_then(|offset| word(bytes, offset)) {
        sum -= u64::from(field);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// CRC-32c of an SCTP packet, its checksum field taken as 0.
fn crc32c(packet: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let (mut crc, mut bit) = (index as u32, 0);
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    let bytes = packet.iter().enumerate();
    !bytes.fold(u32::MAX, |crc, (index, byte)| {
        let byte = if (8..12).contains(&index) { 0 } else { *byte };
        crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)]
    })
}

/// Writes every checksum of a frame but that of what it quotes.
pub fn seal(frame: &mut [u8]) {
    let Some(layers) = layers(frame) else { return };
    // A field of 0 does not stand for "none" here.
    if layers.protocol == 17
        && let Some(field) = frame.get_mut(layers.transport + 6)
    {
        *field = 1;
    }
    for checksum in [header(frame, "IPv4", layers), transport(frame, &layers)]
        .into_iter()
        .flatten()
    {
        let (at, computed) = (checksum.offset, checksum.computed);
        match checksum.name {
            "SCTP" => frame[at..at + 4].copy_from_slice(&computed.to_le_bytes()),
            _ => frame[at..at + 2].copy_from_slice(&(computed as u16).to_be_bytes()),
        }
    }
}

/// How far each checksum of a frame is off. A translation, even of a damaged packet, does not change that.
pub fn errors(frame: &[u8]) -> Vec<(&'static str, u32)> {
    let checksums = checksums(frame).into_iter();
    checksums.map(|checksum| (checksum.name, checksum.error())).collect()
}

/// Fails when a checksum is wrong.
pub fn assert_valid(frame: &[u8]) {
    for checksum in checksums(frame) {
        assert_eq!(checksum.found, checksum.computed, "{checksum:04x?} in {frame:02x?}");
    }
}
