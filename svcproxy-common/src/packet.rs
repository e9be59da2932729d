//! The packet as the decision code sees it: what each hook (XDP, tc, a host test) must provide.

use crate::{
    abi::{Address, Delivery},
    flow::NextHop,
    wire::{Be16, Wire},
};

/// A packet in the hands of a program.
pub trait Packet {
    /// The delivery this hook can carry out itself; `ROUTING` where the packet has been routed already.
    const DELIVERY: Delivery;

    /// A view of the header at `offset` bytes from the start of the frame; `None` when the packet ends before it.
    fn at<T: Wire>(&self, offset: usize) -> Option<&T>;

    /// Length of the frame, bytes.
    fn frame_len(&self) -> u32;

    /// Bytes of payload in each packet this one will be cut into on the wire (GSO); 0 when it goes out as it is.
    fn segment_payload(&self) -> u32;

    /// Seconds of CLOCK_MONOTONIC.
    fn now(&self) -> u32;

    /// Asks the kernel's routing where a packet from `src` to `dst` goes. [`NextHop::ROUTING`] when the answer is
    /// nothing this hook could do itself.
    fn next_hop<A: Address>(&self, src: A, dst: A) -> NextHop;

    /// Changes a transport checksum, `field` at `offset`, for new addresses of family `A` and new ports. The last
    /// change made to a packet: on tc every view ends here. False when the kernel refuses.
    fn fix_checksum<A: Address>(
        &self,
        field: &Be16,
        offset: usize,
        address_delta: u16,
        port_delta: u16,
        udp: bool,
    ) -> bool;
}
