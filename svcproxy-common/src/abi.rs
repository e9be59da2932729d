//! The map contract: keys and values as the kernel programs, the control plane and `bpftool map dump` see them.
//!
//! Addresses are in network byte order (`[10, 96, 0, 10]` reads as written); ports and every other number are in host
//! byte order, because people read these maps. No type has padding: padding is uninitialised stack to the kernel
//! side, and a key with garbage in it is a key that is never found again. The asserts at the end hold that line.
//!
//! A change to any layout here must raise [`LAYOUT_VERSION`].

mod address;
mod connection;
mod service;

pub(crate) use self::address::GOLDEN;
pub use self::{
    address::{Address, V4Addr, V6Addr},
    connection::{
        AffinityEntry, AffinityKey, Delivery, Direction, FlowEntry, FlowKey, FlowState, FragmentKey, FragmentPorts,
        SocketKey, SocketPeer,
    },
    service::{
        Backend, BackendKey, Config, Empty, EndpointSet, Network, NetworkAddress, ServiceEntry, ServiceKey, SlotPair,
        SourceRange, Way,
    },
};

/// Version of the layouts in this module, stored in the pinned `layout` map: a daemon adopts only maps of its own
/// version.
pub const LAYOUT_VERSION: u32 = 6;

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

/// Value of `interface_addresses`, keyed by ifindex: the addresses behind which an interface's packets are masqueraded where
/// the kernel does not say (`BPF_FIB_LOOKUP_SRC`, Linux 6.7).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct InterfaceAddresses {
    /// The first IPv4 address, network byte order; zeros when there is none.
    pub v4: [u8; 4],
    /// The first global IPv6 address, likewise.
    pub v6: [u8; 16],
}

/// Value of `interfaces`, keyed by ifindex: what may be sent to an interface without the kernel's routing.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Interface {
    /// The way packets may be handed to it.
    pub delivery: Delivery,
    /// Whether a source address must be one that leads back here, for packets that have come in by it.
    pub rp_filter: RpFilter,
    /// Whether it is a port of a bridge, a bond or a VRF: what it takes in may be for another hardware address of this node.
    pub is_port: bool,
    /// Always 0.
    pub reserved: u8,
}

impl Interface {
    /// An interface that is no port and accepts any source.
    pub const fn new(delivery: Delivery) -> Self {
        Self {
            delivery,
            rp_filter: RpFilter::OFF,
            is_port: false,
            reserved: 0,
        }
    }
}

/// `net.ipv4.conf.*.rp_filter` (RFC 3704).
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::upper_case_acronyms, reason = "what bpftool prints")]
pub enum RpFilter {
    /// Any source will do.
    OFF = 0,
    /// The route to it leads out of the interface.
    STRICT = 1,
    /// There is a route to it.
    LOOSE = 2,
}

/// Entry of `xdp_interfaces`, at the ifindex modulo [`XDP_INTERFACES`]: an interface that runs XDP, read for every packet.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct XdpInterface {
    /// Whose entry it is; 0 for none.
    pub ifindex: u32,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Whether its driver has room for metadata before a frame. The program finds out.
    pub metadata: Metadata,
    /// See [`Interface::is_port`].
    pub is_port: bool,
}

/// Length of `xdp_interfaces`. Of two interfaces that meet at one entry, the second goes without: tc does all for it.
pub const XDP_INTERFACES: u32 = 1_024;

/// Whether a driver has XDP metadata (`bpf_xdp_adjust_meta`).
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(clippy::upper_case_acronyms, reason = "what bpftool prints")]
pub enum Metadata {
    /// No frame has been left to tc yet.
    UNKNOWN = 0,
    /// It has.
    YES = 1,
    /// It has not.
    NO = 2,
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
    Config<V4Addr> = 3 * 4 + 2 * 4 + 1 + 7,
    Config<V6Addr> = 3 * 16 + 2 * 4 + 1 + 7,
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
    InterfaceAddresses = 4 + 16,
    XdpInterface = 4 + 6 + 1 + 1,
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
        FlowEntry<V4Addr>, FlowEntry<V6Addr>, Interface, InterfaceAddresses, XdpInterface, Layout, Network,
        SourceRange<V4Addr>, SourceRange<V6Addr>, FragmentKey<V4Addr>, FragmentKey<V6Addr>, FragmentPorts,
        Config<V4Addr>, Config<V6Addr>, SocketKey<V4Addr>, SocketKey<V6Addr>, SocketPeer<V4Addr>, SocketPeer<V6Addr>,
    }
}
