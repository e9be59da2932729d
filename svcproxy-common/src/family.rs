//! IPv4 and IPv6 behind one trait, so that no rule is written twice.

use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};

use crate::{
    Packet,
    abi::{Address, V4Addr, V6Addr},
    checksum,
    extension::{self, Chain},
    icmp,
    reason::Reason,
    wire::{Ipv4, Ipv6, Wire},
};

/// What an IP header says of the packet it leads, but for the addresses: see [`Family::addresses`].
pub struct Datagram {
    /// IP protocol number of the transport header.
    pub protocol: u8,
    /// Where that header begins, bytes from the start of the frame.
    pub transport: usize,
    /// Length of the transport header and what follows it, bytes.
    pub length: u32,
    /// Which piece of a fragmented datagram it is.
    pub piece: Piece,
    /// Identification, for fragments.
    pub identification: u32,
}

impl Datagram {
    /// The same, as one case to the verifier.
    #[inline(always)]
    pub fn settled<P: Packet>(mut self, packet: &P) -> Self {
        if !P::PLAIN {
            self.transport = packet.settled(self.transport);
            self.protocol = packet.opaque(self.protocol);
            self.length = packet.opaque(self.length);
            self.piece = packet.opaque(self.piece);
            self.identification = packet.opaque(self.identification);
        }
        self
    }
}

/// Which piece of a datagram a packet is.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Piece {
    /// All of it.
    Whole = 0,
    /// The first fragment, with the transport header.
    First = 1,
    /// Another, without.
    Later = 2,
}

impl Piece {
    /// From the two fields that both families have.
    #[inline(always)]
    pub const fn new(offset: u16, more: bool) -> Self {
        match (offset, more) {
            (0, false) => Self::Whole,
            (0, true) => Self::First,
            _ => Self::Later,
        }
    }
}

/// An IP version.
pub trait Family {
    /// Its address.
    type Address: Address;
    /// Its header.
    type Header: Wire;
    /// IP protocol number of its ICMP.
    const ICMP: u8;

    /// Reads the header at `offset`. Errors are the reasons to leave the packet alone.
    fn read<P: Packet>(packet: &P, header: &Self::Header, offset: usize) -> Result<Datagram, Reason>;

    /// TTL or hop limit.
    fn hops(header: &Self::Header) -> u8;

    /// Whether a router may fragment the packet.
    fn may_fragment(header: &Self::Header) -> bool;

    /// The source address. (By itself: of both in one value LLVM makes a copy.)
    fn src(header: &Self::Header) -> Self::Address;

    /// The destination address.
    fn dst(header: &Self::Header) -> Self::Address;

    /// Both addresses.
    #[inline(always)]
    fn addresses(header: &Self::Header) -> (Self::Address, Self::Address) {
        (Self::src(header), Self::dst(header))
    }

    /// Whether an ICMP message of this type is an error, which quotes a packet.
    fn is_error(kind: u8) -> bool;

    /// The protocol of a quoted packet and where its transport header begins; `None` when it has none to show.
    fn quoted(header: &Self::Header) -> Option<(u8, usize)>;

    /// Writes the source address. (By itself: of two addresses that are read before the first is written LLVM makes copies.)
    fn set_src(header: &Self::Header, src: Self::Address);

    /// Writes the destination address.
    fn set_dst(header: &Self::Header, dst: Self::Address);

    /// Makes the header's checksum follow the addresses, and takes one off the TTL when the kernel will not do so. Returns
    /// what the header's sum has changed by.
    fn follow(header: &Self::Header, address_delta: u16, hop: bool) -> u16;
}

/// IPv4.
pub enum V4 {}
/// IPv6.
pub enum V6 {}

/// The offset in IPv4's fragment field.
const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();

impl Family for V4 {
    type Address = V4Addr;
    type Header = Ipv4;
    const ICMP: u8 = IpProto::Icmp as u8;

    #[inline(always)]
    fn read<P: Packet>(packet: &P, header: &Ipv4, offset: usize) -> Result<Datagram, Reason> {
        const MORE_FRAGMENTS: u16 = 0x2000_u16.to_be();
        const WITHOUT_OPTIONS: u8 = 0x45; // version, and length in words

        let header_len = match header.version_ihl.get() {
            WITHOUT_OPTIONS if P::PLAIN => Ipv4Hdr::LEN,
            version_ihl => {
                let header_len = usize::from(version_ihl & 0xf) * 4;
                if version_ihl >> 4 != 4 || header_len < Ipv4Hdr::LEN {
                    return Err(Reason::Malformed);
                }
                if P::PLAIN {
                    return Err(Reason::NotPlain);
                }
                header_len
            }
        };
        let length = match u16::from_be(header.total_length.get()) {
            0 => packet.frame_len().wrapping_sub(offset as u32), // a GSO packet beyond 64 kB (BIG TCP, Linux 6.3)
            length => length.into(),
        };
        let fragment = header.fragment.get();
        let piece = Piece::new(fragment & FRAGMENT_OFFSET, fragment & MORE_FRAGMENTS != 0);
        if P::PLAIN && piece != Piece::Whole {
            return Err(Reason::NotPlain);
        }
        Ok(Datagram {
            protocol: header.protocol.get(),
            transport: offset + header_len,
            length: length.checked_sub(header_len as u32).ok_or(Reason::Malformed)?,
            piece,
            identification: header.identification.get().into(),
        })
    }

    #[inline(always)]
    fn hops(header: &Ipv4) -> u8 {
        header.ttl.get()
    }

    #[inline(always)]
    fn may_fragment(header: &Ipv4) -> bool {
        const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
        header.fragment.get() & DONT_FRAGMENT == 0
    }

    #[inline(always)]
    fn src(header: &Ipv4) -> V4Addr {
        header.src.get()
    }

    #[inline(always)]
    fn dst(header: &Ipv4) -> V4Addr {
        header.dst.get()
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Destination unreachable, time exceeded, parameter problem (RFC 792).
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn quoted(header: &Ipv4) -> Option<(u8, usize)> {
        if header.fragment.get() & FRAGMENT_OFFSET != 0 {
            return None;
        }
        let offset = icmp::quoted_v4(header.version_ihl.get())?;
        Some((header.protocol.get(), offset))
    }

    #[inline(always)]
    fn set_src(header: &Ipv4, src: V4Addr) {
        header.src.set(src);
    }

    #[inline(always)]
    fn set_dst(header: &Ipv4, dst: V4Addr) {
        header.dst.set(dst);
    }

    #[inline(always)]
    fn follow(header: &Ipv4, address_delta: u16, hop: bool) -> u16 {
        let mut deltas = u32::from(address_delta);
        if hop {
            // TTL is the first byte of its 16-bit word: one less is 0x0100 less in network order.
            deltas += u32::from(!0x0100_u16.to_be());
            header.ttl.set(header.ttl.get().wrapping_sub(1));
        }
        header.checksum.set(checksum::update(header.checksum.get(), deltas));
        0 // its own checksum makes up for it
    }
}

impl Family for V6 {
    type Address = V6Addr;
    type Header = Ipv6;
    const ICMP: u8 = IpProto::Ipv6Icmp as u8;

    #[inline(always)]
    fn read<P: Packet>(packet: &P, header: &Ipv6, offset: usize) -> Result<Datagram, Reason> {
        if u16::from_be(header.version_class.get()) >> 12 != 6 {
            return Err(Reason::Malformed);
        }
        let length = match u16::from_be(header.payload_length.get()) {
            0 => packet.frame_len().wrapping_sub((offset + Ipv6Hdr::LEN) as u32), // as for IPv4
            length => length.into(),
        };
        let next_header = header.next_header.get();
        let mut datagram = Datagram {
            protocol: next_header,
            transport: offset + Ipv6Hdr::LEN,
            length,
            piece: Piece::Whole,
            identification: 0,
        };
        if !P::PLAIN && extension::is_extension(next_header) {
            let Chain {
                protocol,
                piece,
                length,
                identification,
            } = extension::walk(packet, datagram.transport as u32, next_header);
            datagram.protocol = protocol;
            datagram.piece = piece;
            datagram.identification = identification;
            datagram.transport += usize::from(length);
            datagram.length = datagram.length.checked_sub(length.into()).ok_or(Reason::Malformed)?;
        }
        Ok(datagram)
    }

    #[inline(always)]
    fn hops(header: &Ipv6) -> u8 {
        header.hop_limit.get()
    }

    #[inline(always)]
    fn may_fragment(_: &Ipv6) -> bool {
        false // RFC 8200, section 5
    }

    #[inline(always)]
    fn src(header: &Ipv6) -> V6Addr {
        header.src.get()
    }

    #[inline(always)]
    fn dst(header: &Ipv6) -> V6Addr {
        header.dst.get()
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        kind < 128 // RFC 4443, section 2.1
    }

    #[inline(always)]
    fn quoted(header: &Ipv6) -> Option<(u8, usize)> {
        Some((header.next_header.get(), Ipv6Hdr::LEN))
    }

    #[inline(always)]
    fn set_src(header: &Ipv6, src: V6Addr) {
        header.src.set(src);
    }

    #[inline(always)]
    fn set_dst(header: &Ipv6, dst: V6Addr) {
        header.dst.set(dst);
    }

    #[inline(always)]
    fn follow(header: &Ipv6, address_delta: u16, hop: bool) -> u16 {
        if !hop {
            return address_delta;
        }
        header.hop_limit.set(header.hop_limit.get().wrapping_sub(1));
        checksum::combine(address_delta, !0x0001_u16.to_be())
    }
}
