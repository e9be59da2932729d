//! What the programs remember of traffic: connections, pieces of datagrams, clients with affinity, sockets.

use core::mem::offset_of;

use super::Protocol;
use crate::wire;

/// Key of `fragments_v4` and `fragments_v6`: an IP datagram in pieces.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FragmentKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Identification: 16 bits of IPv4, 32 of IPv6; as stored in the packet.
    pub identification: u32,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// Value of `fragments_v4` and `fragments_v6`: the ports that only the first fragment carries.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FragmentPorts {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

/// Key of `affinity_v4` and `affinity_v6`: a client of a Service with `sessionAffinity: ClientIP`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AffinityKey<A> {
    /// The client's address.
    pub client: A,
    /// The Service, from [`ServiceEntry::service`].
    pub service: u32,
    /// Always 0; fills the key to its alignment.
    pub reserved: u32,
}

/// Value of `affinity_v4` and `affinity_v6`: the endpoint that client was given.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AffinityEntry {
    /// The endpoint, second half of a [`BackendKey`].
    pub endpoint: u32,
    /// When the client last opened a connection, in seconds of CLOCK_MONOTONIC.
    pub last_seen: u32,
}

/// Key of `sockets_v4` and `sockets_v6`: a socket of this node, and an address that it deals with.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SocketKey<A> {
    /// The Service's address in the original direction, the endpoint's in the other.
    pub address: A,
    /// Its port.
    pub port: u32,
    /// Which of the two.
    pub direction: Direction,
    /// The kernel's number of the socket (`SO_COOKIE`), low half first: whole it would be aligned to 8.
    pub cookie: [u32; 2],
}

/// A direction of a socket's traffic.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(clippy::upper_case_acronyms, reason = "what bpftool prints")]
pub enum Direction {
    /// From the socket to a Service.
    REQUEST = 0,
    /// From an endpoint to the socket.
    REPLY = 1,
}

/// Value of `sockets_v4` and `sockets_v6`: what stands for that address on the other side.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SocketPeer<A> {
    /// The endpoint's address in the original direction, the Service's in the other.
    pub address: A,
    /// Its port.
    pub port: u32,
    /// The endpoint, second half of a [`BackendKey`].
    pub endpoint: u32,
}

/// Key of `flows_v4`, `flows_v6` and the `pending_` tables: a packet's addresses, as it arrives.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl<A> FlowKey<A> {
    /// Stores both ports at once. The kernel reads them as one word when it hashes the key, and a processor that has two
    /// halves still on their way to its cache waits for them.
    #[inline(always)]
    pub fn set_ports(&mut self, (src, dst): (u16, u16)) {
        const {
            assert!(offset_of!(Self, src_port).is_multiple_of(align_of::<u32>()));
            assert!(offset_of!(Self, dst_port) == offset_of!(Self, src_port) + size_of::<u16>());
        }
        // SAFETY: the two fields are four bytes one after the other, aligned to a word as asserted.
        unsafe { (&raw mut self.src_port).cast::<u32>().write(wire::pair(src, dst)) }
    }

    /// All but the addresses in one word, for hashing.
    #[inline(always)]
    pub(crate) fn ports_and_protocol(&self) -> u64 {
        u64::from(self.src_port) << 48 | u64::from(self.dst_port) << 32 | self.protocol as u64
    }
}

/// Value of `flows_` and `pending_`: how to rewrite the packet, and all that its way out needs.
///
/// Every connection has two entries, one per direction. Each can be derived from the other: the key of one is the
/// rewritten packet of the other, turned round.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowEntry<A> {
    /// Source address to write.
    pub src: A,
    /// Destination address to write.
    pub dst: A,
    /// Source port to write.
    pub src_port: u16,
    /// Destination port to write.
    pub dst_port: u16,
    /// What the address change adds to an Internet checksum (RFC 1624), folded, as stored in a packet.
    pub address_delta: u16,
    /// What the port change adds; apart, because a `CHECKSUM_PARTIAL` skb must take only the address part.
    pub port_delta: u16,
    /// Interface to leave by when `delivery` is not `ROUTING`.
    pub ifindex: u32,
    /// When a packet last took this entry, in seconds of CLOCK_MONOTONIC.
    pub last_seen: u32,
    /// Largest IP packet that `ifindex` takes, in bytes; 0 when it was not asked.
    pub mtu: u16,
    /// State of the connection in the original direction's entry; `REPLY` or `AWAIT_REPLY` in the other.
    pub state: FlowState,
    /// How the rewritten packet goes on.
    pub delivery: Delivery,
    /// Ethernet destination to write when `delivery` is not `ROUTING`.
    pub dst_mac: [u8; 6],
    /// Ethernet source to write then.
    pub src_mac: [u8; 6],
}

/// What is known of a connection. Kept once, in the entry of the original direction (client to Service).
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(
    non_camel_case_types,
    clippy::upper_case_acronyms,
    reason = "what bpftool prints; the names conntrack uses"
)]
pub enum FlowState {
    /// Reply direction, nothing seen in it yet.
    AWAIT_REPLY = 0,
    /// Reply direction.
    REPLY = 1,
    /// TCP, opened by the client, not answered.
    SYN_SENT = 2,
    /// TCP, answered by the endpoint.
    SYN_RECV = 3,
    /// TCP, traffic seen both ways.
    ESTABLISHED = 4,
    /// TCP, the client has sent FIN.
    FIN_CLIENT = 5,
    /// TCP, the endpoint has sent FIN.
    FIN_ENDPOINT = 6,
    /// TCP, FIN both ways or RST: a SYN starts a new connection.
    CLOSING = 7,
    /// UDP, not answered.
    UDP_UNREPLIED = 8,
    /// UDP, answered.
    UDP_REPLIED = 9,
}

/// How a rewritten packet reaches its next hop.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::upper_case_acronyms, reason = "what bpftool prints")]
pub enum Delivery {
    /// The kernel's routing takes it on.
    ROUTING = 0,
    /// XDP sends the frame out of an interface that runs XDP; tc as `LINK`.
    XDP = 1,
    /// tc puts the packet straight into the network namespace at the other end of a veth.
    PEER = 2,
    /// tc sends the packet to the next hop, whose hardware address the kernel finds.
    NEIGHBOUR = 3,
    /// Nowhere: the daemon has found the endpoint out of reach, and the client's TCP is reset.
    RESET = 4,
    /// tc sends the frame out of the interface as it is, and once a second as `NEIGHBOUR`, so that the kernel keeps
    /// making sure of the next hop.
    LINK = 5,
}
