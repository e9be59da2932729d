//! The packet as the decision code sees it: what each hook (XDP, tc, a host test) must provide.

use crate::{
    abi::{Address, Delivery},
    checksum,
    flow::NextHop,
    wire::{Be16, Wire},
};

/// A packet in the hands of a program.
pub trait Packet {
    /// Whether the packet has been routed already. Replies are translated on their way out; it is too late there to
    /// open a connection, because the packet could not be sent another way.
    const ROUTED: bool;

    /// The delivery this hook can carry out itself, while the packet has not been routed.
    const DELIVERY: Delivery;

    /// Whether everything but plain TCP and UDP (untagged, whole, behind nothing but the IP header) is left to a later
    /// hook on the packet's way.
    const PLAIN: bool;

    /// A view of the header at `offset` bytes from the start of the frame; `None` when the packet ends before it.
    fn at<T: Wire>(&self, offset: usize) -> Option<&T>;

    /// Length of the frame, bytes.
    fn frame_len(&self) -> u32;

    /// Whether it carries a VLAN tag that is not in the frame.
    fn tagged(&self) -> bool;

    /// Bytes of payload in each packet this one will be cut into on the wire (GSO); 0 when it goes out as it is.
    fn segment_payload(&self) -> u32;

    /// Seconds of CLOCK_MONOTONIC.
    fn now(&self) -> u32;

    /// Asks the kernel's routing about a packet from `src` to `dst`; `None` stands for this node's own address, which
    /// the answer then names.
    fn route<A: Address>(&self, src: Option<A>, dst: A) -> Route<A>;

    /// Changes a transport checksum, `field` at `offset` bytes. The last change made to a packet: on tc every view
    /// ends here. False when the kernel refuses.
    fn fix_checksum(&self, field: &Be16, offset: usize, change: ChecksumChange) -> bool;
}

/// What the kernel's routing says about a packet.
pub struct Route<A> {
    /// Where it goes next. [`NextHop::ROUTING`] when that is nothing this hook could do itself.
    pub next_hop: NextHop,
    /// Its source address; `None` when this node has none for the purpose.
    pub source: Option<A>,
}

/// What a translation does to a transport checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChecksumChange {
    /// See [`FlowEntry::address_delta`](crate::abi::FlowEntry::address_delta).
    pub address_delta: u16,
    /// See [`FlowEntry::port_delta`](crate::abi::FlowEntry::port_delta).
    pub port_delta: u16,
    /// Whether it is a UDP checksum, which is never sent as 0 (RFC 768).
    pub udp: bool,
    /// Whether the addresses are IPv6's, which no checksum of the IP header covers.
    pub ipv6: bool,
}

impl ChecksumChange {
    /// The checksum after the change, for hooks that write it themselves.
    #[inline(always)]
    pub fn apply(self, field: u16) -> u16 {
        match checksum::update(field, checksum::combine(self.address_delta, self.port_delta)) {
            0 if self.udp => 0xffff,
            updated => updated,
        }
    }
}
