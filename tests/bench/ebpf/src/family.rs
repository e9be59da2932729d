//! IPv4 and IPv6 for generators and floors: their tables, and the fields they read and write.

use svcproxy_common::{
    abi::{Address, FlowEntry, FlowKey, V4Addr, V6Addr},
    checksum,
    wire::{Ipv4, Ipv6, Wire},
};

use crate::tables::{FLOOR_V4, FLOOR_V6, FRESH_V4, FRESH_V6, TUPLES_V4, TUPLES_V6};

/// The TTL that the generator writes.
const TTL: u8 = 64;

/// An IP version.
pub(crate) trait Family {
    type Address: Address;
    type Header: Wire + 'static;
    /// As stored.
    const ETHERTYPE: u16;
    /// Where new connections go.
    const BACKEND: Self::Address;

    fn tuple(index: u32) -> Option<&'static FlowKey<Self::Address>>;
    /// The entry of a connection, in the kernel's slot.
    fn entry(key: &FlowKey<Self::Address>) -> Option<*mut FlowEntry<Self::Address>>;
    /// The same of the connections that a floor has opened itself.
    fn opened(key: &FlowKey<Self::Address>) -> Option<*mut FlowEntry<Self::Address>>;
    fn insert(key: &FlowKey<Self::Address>, entry: &FlowEntry<Self::Address>) -> bool;

    /// Length of the header, and the transport protocol; nothing for a fragment.
    fn read(header: &Self::Header) -> Option<(usize, u8)>;
    fn addresses(header: &Self::Header) -> (Self::Address, Self::Address);
    /// Writes a packet as it was sent.
    fn fill(header: &Self::Header, src: Self::Address, dst: Self::Address);
    /// Writes addresses and takes one off the TTL.
    fn forward(header: &Self::Header, src: Self::Address, dst: Self::Address, address_delta: u16);
}

/// IPv4.
pub(crate) enum V4 {}
/// IPv6.
pub(crate) enum V6 {}

macro_rules! tables {
    ($address:ty, $tuples:ident, $floor:ident, $fresh:ident) => {
        #[inline(always)]
        fn tuple(index: u32) -> Option<&'static FlowKey<$address>> {
            $tuples.get(index)
        }

        #[inline(always)]
        fn entry(key: &FlowKey<$address>) -> Option<*mut FlowEntry<$address>> {
            $floor.get_ptr_mut(key)
        }

        #[inline(always)]
        fn opened(key: &FlowKey<$address>) -> Option<*mut FlowEntry<$address>> {
            $fresh.get_ptr_mut(key)
        }

        #[inline(always)]
        fn insert(key: &FlowKey<$address>, entry: &FlowEntry<$address>) -> bool {
            $fresh.insert(key, entry, 0).is_ok()
        }
    };
}

impl Family for V4 {
    type Address = V4Addr;
    type Header = Ipv4;
    const ETHERTYPE: u16 = 0x0800_u16.to_be();
    const BACKEND: V4Addr = V4Addr {
        octets: [10, 244, 0, 1],
    };

    tables!(V4Addr, TUPLES_V4, FLOOR_V4, FRESH_V4);

    #[inline(always)]
    fn read(header: &Ipv4) -> Option<(usize, u8)> {
        const WITHOUT_OPTIONS: u8 = 0x45;
        const FRAGMENT: u16 = 0x3fff_u16.to_be();

        let whole = header.fragment.get() & FRAGMENT == 0;
        (header.version_ihl.get() == WITHOUT_OPTIONS && whole).then_some((size_of::<Ipv4>(), header.protocol.get()))
    }

    #[inline(always)]
    fn addresses(header: &Ipv4) -> (V4Addr, V4Addr) {
        (header.src.get(), header.dst.get())
    }

    #[inline(always)]
    fn fill(header: &Ipv4, src: V4Addr, dst: V4Addr) {
        header.src.set(src);
        header.dst.set(dst);
        header.ttl.set(TTL);
    }

    #[inline(always)]
    fn forward(header: &Ipv4, src: V4Addr, dst: V4Addr, address_delta: u16) {
        header.src.set(src);
        header.dst.set(dst);
        header.ttl.set(header.ttl.get().wrapping_sub(1));
        let deltas = u32::from(address_delta) + u32::from(!0x0100_u16.to_be());
        header.checksum.set(checksum::update(header.checksum.get(), deltas));
    }
}

impl Family for V6 {
    type Address = V6Addr;
    type Header = Ipv6;
    const ETHERTYPE: u16 = 0x86dd_u16.to_be();
    const BACKEND: V6Addr = V6Addr {
        octets: [0xfd, 0, 0x10, 0x24, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    };

    tables!(V6Addr, TUPLES_V6, FLOOR_V6, FRESH_V6);

    #[inline(always)]
    fn read(header: &Ipv6) -> Option<(usize, u8)> {
        let version = u16::from_be(header.version_class.get()) >> 12;
        (version == 6).then_some((size_of::<Ipv6>(), header.next_header.get()))
    }

    #[inline(always)]
    fn addresses(header: &Ipv6) -> (V6Addr, V6Addr) {
        (header.src.get(), header.dst.get())
    }

    #[inline(always)]
    fn fill(header: &Ipv6, src: V6Addr, dst: V6Addr) {
        header.src.set(src);
        header.dst.set(dst);
        header.hop_limit.set(TTL);
    }

    #[inline(always)]
    fn forward(header: &Ipv6, src: V6Addr, dst: V6Addr, _: u16) {
        header.src.set(src);
        header.dst.set(dst);
        header.hop_limit.set(header.hop_limit.get().wrapping_sub(1));
    }
}
