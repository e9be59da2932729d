//! IPv4 and IPv6 behind one trait, so that no rule is written twice.

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    abi::{Address, FlowEntry, V4Addr, V6Addr},
    checksum,
    reason::Reason,
    wire::{Ipv4, Ipv6, Wire},
};

/// Length of the Ethernet header: where the IP header begins.
pub const L2_LEN: usize = EthHdr::LEN;

/// What an IP header says of the packet it leads.
pub struct Datagram<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// IP protocol number of the transport header.
    pub protocol: u8,
    /// Where that header begins, bytes from the start of the frame.
    pub transport: usize,
    /// Length of the IP packet, bytes.
    pub length: u32,
    /// TTL or hop limit.
    pub ttl: u8,
}

/// An IP version.
pub trait Family {
    /// Its address.
    type Address: Address;
    /// Its header.
    type Header: Wire;

    /// Reads a header. Errors are the reasons to leave the packet alone.
    fn read(header: &Self::Header, frame_len: u32) -> Result<Datagram<Self::Address>, Reason>;

    /// Writes an entry's addresses, and takes one off the TTL when the kernel will not do so.
    fn rewrite(header: &Self::Header, src: Self::Address, dst: Self::Address, address_delta: u16, hop: bool);
}

/// IPv4.
pub enum V4 {}
/// IPv6.
pub enum V6 {}

impl V4 {
    /// Its EtherType, as stored.
    pub const ETHERTYPE: u16 = EtherType::Ipv4 as u16;
}

impl V6 {
    /// Its EtherType, as stored.
    pub const ETHERTYPE: u16 = EtherType::Ipv6 as u16;
}

impl Family for V4 {
    type Address = V4Addr;
    type Header = Ipv4;

    #[inline(always)]
    fn read(header: &Ipv4, frame_len: u32) -> Result<Datagram<V4Addr>, Reason> {
        /// "More fragments" and the fragment offset.
        const FRAGMENT: u16 = 0x3fff_u16.to_be();

        let version_ihl = header.version_ihl.get();
        let header_len = usize::from(version_ihl & 0xf) * 4;
        if version_ihl >> 4 != 4 || header_len < Ipv4Hdr::LEN {
            return Err(Reason::Malformed);
        }
        if header.fragment.get() & FRAGMENT != 0 {
            return Err(Reason::Fragment);
        }
        let length = match u16::from_be(header.total_length.get()) {
            0 => frame_len.wrapping_sub(L2_LEN as u32), // a GSO packet beyond 64 kB (BIG TCP, Linux 6.3)
            length => length.into(),
        };
        Ok(Datagram {
            src: header.src.get(),
            dst: header.dst.get(),
            protocol: header.protocol.get(),
            transport: L2_LEN + header_len,
            length,
            ttl: header.ttl.get(),
        })
    }

    #[inline(always)]
    fn rewrite(header: &Ipv4, src: V4Addr, dst: V4Addr, address_delta: u16, hop: bool) {
        header.src.set(src);
        header.dst.set(dst);
        let mut delta = address_delta;
        if hop {
            // TTL is the first byte of its 16-bit word: one less is 0x0100 less in network order.
            delta = checksum::combine(delta, !0x0100_u16.to_be());
            header.ttl.set(header.ttl.get().wrapping_sub(1));
        }
        header.checksum.set(checksum::update(header.checksum.get(), delta));
    }
}

impl Family for V6 {
    type Address = V6Addr;
    type Header = Ipv6;

    #[inline(always)]
    fn read(header: &Ipv6, _frame_len: u32) -> Result<Datagram<V6Addr>, Reason> {
        if u16::from_be(header.version_class.get()) >> 12 != 6 {
            return Err(Reason::Malformed);
        }
        Ok(Datagram {
            src: header.src.get(),
            dst: header.dst.get(),
            protocol: header.next_header.get(),
            transport: L2_LEN + Ipv6Hdr::LEN,
            length: Ipv6Hdr::LEN as u32 + u32::from(u16::from_be(header.payload_length.get())),
            ttl: header.hop_limit.get(),
        })
    }

    #[inline(always)]
    fn rewrite(header: &Ipv6, src: V6Addr, dst: V6Addr, _address_delta: u16, hop: bool) {
        header.src.set(src);
        header.dst.set(dst);
        if hop {
            header.hop_limit.set(header.hop_limit.get().wrapping_sub(1));
        }
    }
}

/// The entry is generic over addresses, the header over families; this ties them.
pub type EntryOf<F> = FlowEntry<<F as Family>::Address>;
