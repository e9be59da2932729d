//! The map contract: keys and values as the kernel programs, the control plane and `bpftool map dump` see them.
//!
//! Addresses are in network byte order (`[10, 96, 0, 10]` reads as written); ports and every other number are in host
//! byte order, because people read these maps. No type has padding: padding is uninitialised stack to the kernel
//! side, and a key with garbage in it is a key that is never found again. The asserts at the end hold that line.
//!
//! A change to any layout here must raise [`LAYOUT_VERSION`].

use core::{fmt::Debug, hash::Hash};

/// Version of the layouts in this module, stored in the pinned `layout` map: a daemon adopts only maps of its own
/// version.
pub const LAYOUT_VERSION: u32 = 2;

/// An IP address as it stands in a packet: network byte order.
pub trait Address: Copy + Eq + Ord + Hash + Debug + 'static {
    /// Its octets, without an alignment.
    type Octets: Copy + Eq + Ord + Hash + Debug + 'static;

    /// The octets, most significant first.
    fn octets(&self) -> Self::Octets;

    /// The sum of its 16-bit words as stored, not folded: its part of an Internet checksum.
    fn sum(&self) -> u32;

    /// `AF_INET` or `AF_INET6`.
    const AF: u8;

    /// All its bits in 64, for hashing: IPv4 unchanged, IPv6 with both halves combined.
    fn bits(&self) -> u64;

    /// Length of [`network`](Self::network), bits.
    const NETWORK_BITS: u32;

    /// The network it is in, as a number for hashing.
    fn network(&self) -> u64;

    /// As the kernel's `bpf_fib_lookup` takes it: four words as stored, of which IPv4 uses the first.
    fn fib(&self) -> [u32; 4];

    /// The address out of such words.
    fn from_fib(words: [u32; 4]) -> Self;
}

/// An IPv4 address, network byte order.
#[repr(C, align(4))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct V4Addr {
    /// The four octets, most significant first.
    pub octets: [u8; 4],
}

/// An IPv6 address, network byte order. Aligned to 8 so that the kernel side compares and copies two words.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct V6Addr {
    /// The sixteen octets, most significant first.
    pub octets: [u8; 16],
}

impl Address for V4Addr {
    type Octets = [u8; 4];

    #[inline(always)]
    fn octets(&self) -> [u8; 4] {
        self.octets
    }

    const AF: u8 = 2;

    #[inline(always)]
    fn sum(&self) -> u32 {
        let word = u32::from_ne_bytes(self.octets);
        (word & 0xffff) + (word >> 16)
    }

    #[inline(always)]
    fn bits(&self) -> u64 {
        u32::from_ne_bytes(self.octets) as u64
    }

    const NETWORK_BITS: u32 = 16;

    #[inline(always)]
    fn network(&self) -> u64 {
        let [a, b, ..] = self.octets;
        u16::from_ne_bytes([a, b]) as u64
    }

    #[inline(always)]
    fn fib(&self) -> [u32; 4] {
        [u32::from_ne_bytes(self.octets), 0, 0, 0]
    }

    #[inline(always)]
    fn from_fib([word, ..]: [u32; 4]) -> Self {
        Self {
            octets: word.to_ne_bytes(),
        }
    }
}

impl V6Addr {
    /// The two halves as stored: on BPF, two registers.
    #[inline(always)]
    fn halves(&self) -> [u64; 2] {
        // SAFETY: both are 16 bytes of which any value is valid. `from_ne_bytes` of parts, and u128, compile to
        // single-byte copies through the stack or crash LLVM 22's BPF backend.
        unsafe { core::mem::transmute::<Self, [u64; 2]>(*self) }
    }
}

impl Address for V6Addr {
    type Octets = [u8; 16];

    #[inline(always)]
    fn octets(&self) -> [u8; 16] {
        self.octets
    }

    const AF: u8 = 10;

    #[inline(always)]
    fn sum(&self) -> u32 {
        let sum16 = |half: u64| (half & 0xffff) + (half >> 16 & 0xffff) + (half >> 32 & 0xffff) + (half >> 48);
        let [high, low] = self.halves();
        (sum16(high) + sum16(low)) as u32
    }

    #[inline(always)]
    fn bits(&self) -> u64 {
        let [high, low] = self.halves();
        high.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low
    }

    const NETWORK_BITS: u32 = 64;

    #[inline(always)]
    fn network(&self) -> u64 {
        let [high, _] = self.halves();
        high
    }

    #[inline(always)]
    fn fib(&self) -> [u32; 4] {
        let [high, low] = self.halves();
        [high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32]
    }

    #[inline(always)]
    fn from_fib([a, b, c, d]: [u32; 4]) -> Self {
        let half = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        // SAFETY: as in `halves`.
        unsafe { core::mem::transmute::<[u64; 2], Self>([half(a, b), half(c, d)]) }
    }
}

/// A transport protocol that a ServicePort can name. Four bytes wide: keys have no padding.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(
    clippy::upper_case_acronyms,
    reason = "the names Kubernetes uses, and what bpftool prints"
)]
pub enum Protocol {
    /// Every protocol; only in the key of a [`Way::OTHER_PORT`] entry.
    ANY = 0,
    /// IP protocol 6.
    TCP = 6,
    /// IP protocol 17.
    UDP = 17,
    /// IP protocol 132.
    SCTP = 132,
}

impl core::fmt::Display for Protocol {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::ANY => "any",
            Self::TCP => "TCP",
            Self::UDP => "UDP",
            Self::SCTP => "SCTP",
        })
    }
}

/// Key of `services_v4` and `services_v6`: one address and port that clients connect to.
///
/// Port 0 with [`Protocol::ANY`] stands for all ports of a cluster IP that have no entry of their own.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceKey<A> {
    /// A cluster IP, a node's address (nodePort), an external IP or a load balancer's IP.
    pub address: A,
    /// The ServicePort's `port`, or its `nodePort`.
    pub port: u32,
    /// The ServicePort's `protocol`.
    pub protocol: Protocol,
}

/// Value of `services_v4` and `services_v6`: where new connections to this address go.
///
/// All policy that depends on who the client is has been worked out by the control plane for the three kinds of
/// client there are: outside the cluster, a pod of it, this node (see [`Network`]).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServiceEntry {
    /// The Service, the same for all its ports and both families; the scope of client affinity and source ranges.
    pub service: u32,
    /// `sessionAffinityConfig.clientIP.timeoutSeconds`; 0 for `sessionAffinity: None`.
    pub affinity_seconds: u32,
    /// What clients outside the cluster choose from.
    pub outside: EndpointSet,
    /// What pods and this node choose from: under `externalTrafficPolicy: Local` not the same.
    pub inside: EndpointSet,
    /// Which of the Service's addresses this is.
    pub way: Way,
    /// Whether the client must be in `loadBalancerSourceRanges` (the `source_ranges_` maps), else it is dropped.
    pub filtered: bool,
    /// Whether clients outside the cluster are masqueraded.
    pub masquerade_outside: bool,
    /// Whether pods are. (One that reaches itself always is.)
    pub masquerade_pods: bool,
    /// Whether this node is.
    pub masquerade_node: bool,
    /// Always 0.
    pub reserved: [u8; 3],
}

/// The endpoints that a new connection chooses from.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EndpointSet {
    /// The set: the first half of a [`BackendKey`].
    pub number: u32,
    /// First index of its region in `backend_slots`.
    pub slot_offset: u32,
    /// Length of that region; 0 when the set has no endpoint.
    pub slot_count: u32,
    /// What becomes of the connection then.
    pub empty: Empty,
}

/// What becomes of a connection for which there is no endpoint.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(clippy::upper_case_acronyms, reason = "what bpftool prints")]
pub enum Empty {
    /// ICMP port unreachable: there is none anywhere.
    REJECT = 0,
    /// Silence: there are some, but a `Local` policy leaves them out.
    DROP = 1,
}

/// Which of a Service's addresses an entry stands for.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "what bpftool prints")]
pub enum Way {
    /// `spec.clusterIPs`
    CLUSTER_IP = 0,
    /// A node's address and `spec.ports[].nodePort`.
    NODE_PORT = 1,
    /// `spec.externalIPs`
    EXTERNAL_IP = 2,
    /// `status.loadBalancer.ingress[].ip` or `spec.loadBalancerIP`.
    LOAD_BALANCER = 3,
    /// A cluster IP, at a port that no ServicePort has.
    OTHER_PORT = 4,
}

/// Key of the LPM tries `networks_v4` and `networks_v6`, after the prefix length.
pub type NetworkAddress<A> = <A as Address>::Octets;

/// Value of `networks_v4` and `networks_v6`: what an address belongs to. Addresses in none of them are outside the
/// cluster.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(clippy::upper_case_acronyms, reason = "what bpftool prints")]
pub enum Network {
    /// A real network inside a wider one listed here: not ours.
    OUTSIDE = 0,
    /// `--cluster-cidr`: pods.
    PODS = 1,
    /// An address of this node.
    NODE = 2,
    /// `--service-cluster-ip-range`: what has no Service is dropped.
    SERVICES = 3,
}

/// Key of the LPM tries `source_ranges_v4` and `source_ranges_v6`, after the prefix length, which counts both fields.
/// That a client is found is what "in `loadBalancerSourceRanges`" means; the value is always 1.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceRange<A: Address> {
    /// The Service.
    pub service: u32,
    /// The client, or the network it must be in.
    pub client: A::Octets,
}

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

/// Value of `config_v4` and `config_v6`, at index 0.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config<A> {
    /// The node's address of this family, to masquerade behind where the kernel's routing names none; all zeros when
    /// there is none.
    pub node_address: A,
    /// First of the ports that masqueraded connections get when they cannot keep the client's.
    pub masquerade_port_first: u32,
    /// Number of those ports.
    pub masquerade_port_count: u32,
}

/// Key of `backends_v4` and `backends_v6`. That it is present is what "endpoint is in the set" means.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BackendKey {
    /// The set, from [`EndpointSet::number`].
    pub endpoint_set: u32,
    /// The endpoint, from `backend_slots` or [`AffinityEntry::endpoint`]. One endpoint address has one number in all
    /// sets of a Service, so that affinity holds across its ports.
    pub endpoint: u32,
}

/// Value of `backends_v4` and `backends_v6`: where an endpoint listens.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Backend<A> {
    /// The endpoint's address.
    pub address: A,
    /// The port it listens on.
    pub port: u32,
    /// Its protocol, that of the ServicePort.
    pub protocol: Protocol,
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
    /// XDP sends the frame out of an interface that runs XDP; tc as `NEIGHBOUR`.
    XDP = 1,
    /// tc puts the packet straight into the network namespace at the other end of a veth.
    PEER = 2,
    /// tc sends the packet to the next hop, whose hardware address the kernel finds.
    NEIGHBOUR = 3,
    /// Nowhere: the daemon has found the endpoint out of reach, and the client's TCP is reset.
    RESET = 4,
}

/// Value of `interfaces`, keyed by ifindex: what may be sent to an interface without the kernel's routing.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Interface {
    /// The way packets may be handed to it.
    pub delivery: Delivery,
    /// Always 0.
    pub reserved: [u8; 3],
}

/// Value of `layout`, at index 0.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// [`LAYOUT_VERSION`] of the programs that use these maps.
    pub version: u32,
}

/// Asserts that a type's size is the sum of its fields: that it has no padding.
macro_rules! assert_sizes {
    ($($type:ty = $size:expr),+ $(,)?) => { $(const _: () = assert!(size_of::<$type>() == $size);)+ };
}

assert_sizes! {
    ServiceKey<V4Addr> = 4 + 4 + 4,
    ServiceKey<V6Addr> = 16 + 4 + 4,
    EndpointSet = 4 * 4,
    ServiceEntry = 2 * 4 + 2 * 16 + 5 + 3,
    SourceRange<V4Addr> = 4 + 4,
    SourceRange<V6Addr> = 4 + 16,
    FragmentKey<V4Addr> = 2 * 4 + 4 + 4,
    FragmentKey<V6Addr> = 2 * 16 + 4 + 4,
    FragmentPorts = 2 * 2,
    Config<V4Addr> = 4 + 2 * 4,
    Config<V6Addr> = 16 + 2 * 4,
    BackendKey = 4 + 4,
    Backend<V4Addr> = 4 + 4 + 4,
    Backend<V6Addr> = 16 + 4 + 4,
    AffinityKey<V4Addr> = 4 + 4 + 4,
    AffinityKey<V6Addr> = 16 + 4 + 4,
    AffinityEntry = 4 + 4,
    SocketKey<V4Addr> = 4 + 4 + 4 + 2 * 4,
    SocketKey<V6Addr> = 16 + 4 + 4 + 2 * 4,
    SocketPeer<V4Addr> = 4 + 4 + 4,
    SocketPeer<V6Addr> = 16 + 4 + 4,
    FlowKey<V4Addr> = 2 * 4 + 2 * 2 + 4,
    FlowKey<V6Addr> = 2 * 16 + 2 * 2 + 4,
    FlowEntry<V4Addr> = 2 * 4 + 4 * 2 + 2 * 4 + 2 + 1 + 1 + 2 * 6,
    FlowEntry<V6Addr> = 2 * 16 + 4 * 2 + 2 * 4 + 2 + 1 + 1 + 2 * 6,
    Interface = 4,
    Layout = 4,
}

/// Two cache lines hold key and value: a larger value costs the fast path a third one.
const _: () = assert!(size_of::<FlowEntry<V6Addr>>() <= 64);

#[cfg(feature = "user")]
mod pod {
    use super::*;

    macro_rules! pod {
        ($($type:ty),+ $(,)?) => { $(
            // SAFETY: `repr(C)`, `Copy`, no padding (asserted above). Enum fields only ever hold what this contract
            // wrote: maps of another layout version are never read.
            unsafe impl aya::Pod for $type {}
        )+ };
    }

    pod! {
        ServiceKey<V4Addr>, ServiceKey<V6Addr>, ServiceEntry, BackendKey, Backend<V4Addr>, Backend<V6Addr>,
        AffinityKey<V4Addr>, AffinityKey<V6Addr>, AffinityEntry, FlowKey<V4Addr>, FlowKey<V6Addr>,
        FlowEntry<V4Addr>, FlowEntry<V6Addr>, Interface, Layout, Network, SourceRange<V4Addr>, SourceRange<V6Addr>,
        FragmentKey<V4Addr>, FragmentKey<V6Addr>, FragmentPorts, Config<V4Addr>, Config<V6Addr>, SocketKey<V4Addr>,
        SocketKey<V6Addr>, SocketPeer<V4Addr>, SocketPeer<V6Addr>,
    }
}
