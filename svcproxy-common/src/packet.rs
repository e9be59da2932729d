//! The packet as the decision code sees it: what each hook (XDP, tc, a host test) must provide.

use crate::{
    Reason, SocketTuple, Tables, Verdict,
    abi::{Address, Delivery, FlowKey, Protocol, RpFilter},
    checksum,
    connection::{self, Attended},
    crc32c,
    flow::{NextHop, TcpFlags},
    wire::{Be16, Wire},
};

/// A packet in the hands of a program.
pub trait Packet {
    /// Whether the packet has been routed already. Replies are translated on their way out; it is too late there to
    /// open a connection, because the packet could not be sent another way.
    const ROUTED: bool;

    /// Whether everything but plain TCP and UDP (untagged, whole, behind an IP header of the least length) is left to another
    /// program. The kernel's verifier follows every combination of headers into all that comes after; those of every
    /// protocol are more than it takes, and packets pay for what they do not use.
    const PLAIN: bool;

    /// What a program returns for a packet that it has sent on its way.
    type Sent;

    /// The same value, of which the kernel's verifier knows nothing any more: packets that differ in nothing else are one
    /// case to it from here on.
    fn opaque<T: Copy>(&self, value: T) -> T;

    /// A view of the header at `offset` bytes from the start of the frame; `None` when the packet ends before it.
    fn at<T: Wire>(&self, offset: usize) -> Option<&T>;

    /// An offset in the frame that can have many values, as one case to the verifier.
    #[inline(always)]
    fn settled(&self, offset: usize) -> usize {
        match Self::PLAIN {
            true => offset,
            // A bound that every frame keeps: the headers of a packet end long before.
            false => self.opaque(offset) & 0x3fff,
        }
    }

    /// Length of the frame, bytes.
    fn frame_len(&self) -> u32;

    /// Whether it carries a VLAN tag that is not in the frame.
    fn tagged(&self) -> bool;

    /// Bytes of payload in each packet this one will be cut into on the wire (GSO); 0 when it goes out as it is.
    fn segment_payload(&self) -> u32;

    /// Seconds of CLOCK_MONOTONIC.
    fn now(&self) -> u32;

    /// Asks the kernel's routing about a packet from `src` to `dst`; an unspecified source stands for this node's own
    /// address, which the answer then names. What was answered this second about another packet `by_destination` holds
    /// for this one.
    fn route<A: Address>(&self, src: A, dst: A, by_destination: bool) -> Route<A>;

    /// Notes what its way takes, in bytes, for the answer to a packet that is [too big](crate::Reason::TooBig).
    fn note_mtu(&self, mtu: u16);

    /// Whether such a packet is for a connection of a process of this node.
    fn has_socket<A: Address>(&self, tuple: &mut SocketTuple<A>, protocol: Protocol) -> bool;

    /// Whether the frame is for this node's hardware address, and not for another host on a link that hands all frames to
    /// all.
    fn is_for_this_node(&self) -> bool;

    /// Whether the program can send a packet this way once it is translated. Else another program has to translate it.
    fn can_send(&self, delivery: Delivery) -> bool;

    /// Which sources the interface it has come in by accepts.
    fn rp_filter(&self) -> RpFilter;

    /// The ifindex of that interface.
    fn ingress_ifindex(&self) -> u32;

    /// Adds to the sum over the whole packet that the hardware may have left with it (`CHECKSUM_COMPLETE`): the change of
    /// bytes that no checksum within the packet makes up for.
    fn add_to_sum(&self, delta: u16);

    /// [`connection::attend`], as this hook calls it.
    #[inline(always)]
    fn attend<A: Address, T: Tables<A>>(
        &self,
        tables: &T,
        key: &FlowKey<A>,
        flags: TcpFlags,
        in_flows: bool,
    ) -> Attended
    where
        Self: Sized,
    {
        connection::attend(self, tables, key, flags, in_flows, Self::ROUTED)
    }

    /// [`connection::open`], as this hook calls it.
    #[inline(always)]
    fn open<A: Address, T: Tables<A>>(&self, tables: &T, key: &FlowKey<A>, now: u32, ended: bool) -> Result<(), Reason>
    where
        Self: Sized,
    {
        connection::open(self, tables, key, now, ended)
    }

    /// [`crc32c::delta`], as this hook calls it.
    #[inline(always)]
    fn crc32c_delta(&self, difference: u32, rest: u32) -> u32 {
        crc32c::delta(difference, rest)
    }

    /// Changes a transport checksum, `field` at `offset` bytes. The last change made to a packet: on tc every view
    /// ends here. False when the kernel refuses.
    fn fix_checksum(&self, field: &Be16, offset: usize, change: ChecksumChange) -> bool;

    /// Sends the packet on its way, once it is translated. Never by [`Delivery::RESET`](crate::abi::Delivery::RESET).
    fn send(&self, verdict: Verdict) -> Self::Sent;
}

/// What the kernel's routing says about a packet.
pub struct Route<A> {
    /// Where it goes next. [`NextHop::ROUTING`] when that is nothing this hook could do itself.
    pub next_hop: NextHop,
    /// Its source address; all zeros when this node has none for the purpose. No `Option`: LLVM copies the undefined
    /// address of a `None`, and the verifier refuses to read what was never written.
    pub source: A,
    /// Whether it goes to this node itself.
    pub here: bool,
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
}

impl ChecksumChange {
    /// The checksum after the change, for hooks that write it themselves.
    #[inline(always)]
    pub fn apply(self, field: u16) -> u16 {
        match checksum::update(field, u32::from(self.address_delta) + u32::from(self.port_delta)) {
            0 if self.udp => 0xffff,
            updated => updated,
        }
    }
}
