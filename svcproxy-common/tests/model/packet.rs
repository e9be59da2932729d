//! A packet in a byte vector, as each hook would see it.

use std::{cell::Cell, marker::PhantomData};

use svcproxy_common::{
    ChecksumChange, Packet, Route, SocketTuple, Verdict,
    abi::{Address, Delivery, Protocol, RpFilter, V6Addr},
    flow::NextHop,
    wire::{Be16, Wire},
};

use super::Node;

/// A program that a packet meets.
pub trait Hook {
    const ROUTED: bool = false;
    const PLAIN: bool = false;
    /// Whether it can answer a packet's sender; what cannot leaves that to the next.
    const ANSWERS: bool = true;
    /// Who goes on with what this one defers.
    type Any: Hook;
}

/// XDP.
pub enum Xdp {}
/// tcx ingress.
pub enum TcIn {}
/// tcx ingress, any packet.
pub enum TcInAny {}
/// tcx egress.
pub enum TcOut {}
/// tcx egress, any packet.
pub enum TcOutAny {}

impl Hook for Xdp {
    const PLAIN: bool = true;
    const ANSWERS: bool = false;
    type Any = TcInAny;
}

impl Hook for TcIn {
    const PLAIN: bool = true;
    type Any = TcInAny;
}

impl Hook for TcInAny {
    type Any = Self;
}

impl Hook for TcOut {
    const ROUTED: bool = true;
    const PLAIN: bool = true;
    type Any = TcOutAny;
}

impl Hook for TcOutAny {
    const ROUTED: bool = true;
    type Any = Self;
}

/// The packet, and the node it is on.
pub(super) struct HostPacket<'a, H> {
    bytes: Vec<Cell<u8>>,
    segment_payload: u32,
    mtu: Cell<u16>,
    node: &'a Node,
    hook: PhantomData<H>,
}

impl<'a, H> HostPacket<'a, H> {
    pub(super) fn new(bytes: &[u8], segment_payload: u32, node: &'a Node) -> Self {
        Self {
            bytes: bytes.iter().copied().map(Cell::new).collect(),
            segment_payload,
            mtu: Cell::new(0),
            node,
            hook: PhantomData,
        }
    }

    /// The MTU that was noted, or 0.
    pub(super) fn mtu(&self) -> u16 {
        self.mtu.get()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.bytes.iter().map(Cell::get).collect()
    }
}

impl<H: Hook> Packet for HostPacket<'_, H> {
    const ROUTED: bool = H::ROUTED;
    const PLAIN: bool = H::PLAIN;

    type Sent = Verdict;

    fn opaque<T: Copy>(&self, value: T) -> T {
        value
    }

    fn is_for_this_node(&self) -> bool {
        true
    }

    fn can_send(&self, _: Delivery) -> bool {
        true
    }

    fn rp_filter(&self) -> RpFilter {
        RpFilter::OFF
    }

    fn ingress_ifindex(&self) -> u32 {
        0
    }

    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        let bytes = self.bytes.get(offset..)?.get(..size_of::<T>())?;
        // SAFETY: as many bytes as `T` has, in cells, so that they may change; a `Wire` type is valid at any address
        // for any bytes and changes them only through its own cells.
        Some(unsafe { &*bytes.as_ptr().cast::<T>() })
    }

    fn frame_len(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn segment_payload(&self) -> u32 {
        self.segment_payload
    }

    fn now(&self) -> u32 {
        self.node.now.get()
    }

    fn tagged(&self) -> bool {
        self.node.tagged.get()
    }

    fn route<A: Address>(&self, src: A, dst: A, _by_destination: bool) -> Route<A> {
        // From such an address the kernel finds no way (`bpf_ipv6_fib_lookup`, net/core/filter.c).
        let found = self.node.route(dst).filter(|_| !src.is_confined());
        Route {
            next_hop: found.map_or(NextHop::ROUTING, |route| route.next_hop),
            source: match found {
                Some(_) if src != A::UNSPECIFIED => src,
                Some(route) => route.source.map_or(A::UNSPECIFIED, A::from_fib),
                None => A::UNSPECIFIED,
            },
            here: found.is_none() && self.node.delivers_the_rest.get(),
        }
    }

    fn note_mtu(&self, mtu: u16) {
        self.mtu.set(mtu);
    }

    fn has_socket<A: Address>(&self, tuple: &mut SocketTuple<A>, _: Protocol) -> bool {
        self.node.own_ports.borrow().contains(&u16::from_be(tuple.dst_port))
    }

    fn add_to_sum(&self, _: u16) {}

    fn fix_checksum(&self, field: &Be16, _offset: usize, change: ChecksumChange) -> bool {
        field.set(change.apply(field.get()));
        true
    }

    fn send(&self, verdict: Verdict) -> Verdict {
        verdict
    }
}
