//! A connection in the tables: its two entries, its state, and how long it may stay silent.

use core::{cell::UnsafeCell, mem::offset_of};

use crate::{
    abi::{Address, AffinityEntry, Delivery, FlowEntry, FlowKey, FlowState, Protocol},
    checksum,
    wire::HardwareAddresses,
};

/// Where a rewritten packet goes next: the part of a [`FlowEntry`] that changes while the connection lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// See [`FlowEntry::delivery`].
    pub delivery: Delivery,
    /// See [`FlowEntry::ifindex`].
    pub ifindex: u32,
    /// See [`FlowEntry::mtu`].
    pub mtu: u16,
    /// See [`FlowEntry::dst_mac`].
    pub dst_mac: [u8; 6],
    /// See [`FlowEntry::src_mac`].
    pub src_mac: [u8; 6],
}

impl NextHop {
    /// The kernel finds it.
    pub const ROUTING: Self = Self {
        delivery: Delivery::ROUTING,
        ifindex: 0,
        mtu: 0,
        dst_mac: [0; 6],
        src_mac: [0; 6],
    };
}

/// TCP flags of a packet; none for UDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    const FIN: u8 = 0x01;
    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;

    /// No flag.
    pub const NONE: Self = Self(0);

    /// What the first chunk of an SCTP packet (RFC 9260, section 3.2) amounts to.
    #[inline(always)]
    pub const fn of_chunk(chunk: u8) -> Self {
        match chunk {
            1 => Self(Self::SYN),             // INIT
            2 => Self(Self::SYN | Self::ACK), // INIT ACK
            6 | 14 => Self(Self::RST),        // ABORT, SHUTDOWN COMPLETE
            _ => Self::NONE,
        }
    }

    /// Whether the packet may change a connection's state.
    #[inline(always)]
    pub const fn control(self) -> bool {
        self.0 & (Self::SYN | Self::FIN | Self::RST) != 0
    }

    /// A client's first packet.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST) == Self::SYN
    }

    #[inline(always)]
    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

impl FlowState {
    /// The state of a new connection.
    #[inline(always)]
    pub const fn initial(protocol: Protocol) -> Self {
        match protocol {
            Protocol::UDP => Self::UDP_UNREPLIED,
            _ => Self::SYN_SENT,
        }
    }

    /// Whether this is the mark of the reply direction's entry.
    #[inline(always)]
    pub const fn is_reply(self) -> bool {
        matches!(self, Self::AWAIT_REPLY | Self::REPLY)
    }

    /// Whether the endpoint has answered and, for TCP, the client has answered that: no flood of forged sources
    /// gets this far.
    #[inline(always)]
    pub const fn confirmed(self) -> bool {
        matches!(
            self,
            Self::ESTABLISHED | Self::FIN_CLIENT | Self::FIN_ENDPOINT | Self::UDP_REPLIED
        )
    }

    /// Whether traffic both ways has yet to be seen.
    #[inline(always)]
    pub const fn opening(self) -> bool {
        matches!(self, Self::SYN_SENT | Self::SYN_RECV | Self::UDP_UNREPLIED)
    }

    /// Whether a client's SYN begins a new connection: it has closed the old one.
    #[inline(always)]
    pub const fn reopens(self) -> bool {
        matches!(self, Self::CLOSING | Self::FIN_CLIENT)
    }

    /// The state of an established connection's original half that is derived anew from the reply half.
    #[inline(always)]
    pub const fn derived(protocol: Protocol) -> Self {
        match protocol {
            Protocol::UDP => Self::UDP_REPLIED,
            _ => Self::ESTABLISHED,
        }
    }

    /// The state after a packet of the original (`reply` false) or the reply direction.
    #[inline(always)]
    pub const fn step(self, flags: TcpFlags, reply: bool) -> Self {
        if flags.has(TcpFlags::RST) {
            return match self {
                Self::AWAIT_REPLY | Self::REPLY | Self::UDP_UNREPLIED | Self::UDP_REPLIED => self,
                _ => Self::CLOSING,
            };
        }
        match (self, reply, flags.has(TcpFlags::FIN)) {
            (Self::UDP_UNREPLIED, true, _) => Self::UDP_REPLIED,
            (Self::SYN_SENT, true, false) => Self::SYN_RECV,
            (Self::SYN_RECV, false, false) if !flags.has(TcpFlags::SYN) => Self::ESTABLISHED,
            (Self::SYN_RECV | Self::ESTABLISHED, false, true) => Self::FIN_CLIENT,
            (Self::SYN_SENT | Self::SYN_RECV | Self::ESTABLISHED, true, true) => Self::FIN_ENDPOINT,
            (Self::FIN_CLIENT, true, true) | (Self::FIN_ENDPOINT, false, true) => Self::CLOSING,
            _ => self,
        }
    }

    /// How long a connection in this state may be silent in both directions before it is forgotten, in seconds.
    ///
    /// The values of nf_conntrack with kube-proxy's settings (`conntrack-tcp-timeout-established` 24 h,
    /// `-close-wait` 1 h); a reply entry without its original half lasts as long as the longest.
    #[inline(always)]
    pub const fn timeout(self) -> u32 {
        match self {
            Self::SYN_SENT | Self::CLOSING | Self::UDP_REPLIED => 120,
            Self::SYN_RECV => 60,
            Self::UDP_UNREPLIED => 30,
            Self::FIN_CLIENT | Self::FIN_ENDPOINT => 3600,
            Self::ESTABLISHED | Self::AWAIT_REPLY | Self::REPLY => 86_400,
        }
    }
}

/// Seconds since `last_seen`; none when another processor, whose clock read is later than ours, has stamped a later one.
#[inline(always)]
pub const fn age(last_seen: u32, now: u32) -> u32 {
    now.saturating_sub(last_seen)
}

/// The key of the other direction: the rewritten packet, turned round.
#[inline(always)]
pub fn reverse_key<A: Address>(key: &FlowKey<A>, entry: &impl Translation<A>) -> FlowKey<A> {
    FlowKey {
        src: entry.dst(),
        dst: entry.src(),
        src_port: entry.dst_port(),
        dst_port: entry.src_port(),
        protocol: key.protocol,
    }
}

/// The rewriting half of an entry, wherever it lives.
pub trait Translation<A> {
    /// Source address to write.
    fn src(&self) -> A;
    /// Destination address to write.
    fn dst(&self) -> A;
    /// Source port to write.
    fn src_port(&self) -> u16;
    /// Destination port to write.
    fn dst_port(&self) -> u16;
    /// See [`FlowEntry::address_delta`].
    fn address_delta(&self) -> u16;
    /// See [`FlowEntry::port_delta`].
    fn port_delta(&self) -> u16;
}

/// A table entry where it lives: other processors read and write it while we look, so every access is one load or
/// one store. BPF has no atomics below 64 bits; a volatile access of an aligned field is what `READ_ONCE` is.
#[repr(transparent)]
pub struct Live<T>(UnsafeCell<T>);

impl<T> Live<T> {
    /// A value of one's own, for host tables.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Where it lives.
    #[inline(always)]
    pub const fn as_ptr(&self) -> *mut T {
        self.0.get()
    }
}

/// Accessors that read, and for the fields with a `set_` name write, one field of a live entry.
macro_rules! live_fields {
    ($entry:ident: $($get:ident $($set:ident)? : $type:ty),+ $(,)?) => { $(
        #[doc = concat!("See [`", stringify!($entry), "::", stringify!($get), "`].")]
        #[inline(always)]
        pub fn $get(&self) -> $type {
            // SAFETY: the pointer is to a live entry, the field is aligned, and the accesses of this type never
            // make a reference to it.
            unsafe { (&raw const (*self.as_ptr()).$get).read_volatile() }
        }

        $(
            #[doc = concat!("See [`", stringify!($entry), "::", stringify!($get), "`].")]
            #[inline(always)]
            pub fn $set(&self, value: $type) {
                // SAFETY: as above; the cell makes writing through a shared reference sound.
                unsafe { (&raw mut (*self.as_ptr()).$get).write_volatile(value) }
            }
        )?
    )+ };
}

impl<A: Address> Live<FlowEntry<A>> {
    live_fields! {
        FlowEntry:
        ifindex set_ifindex: u32,
        last_seen set_last_seen: u32,
        mtu set_mtu: u16,
        state set_state: FlowState,
        delivery set_delivery: Delivery,
        dst_mac set_dst_mac: [u8; 6],
        src_mac set_src_mac: [u8; 6],
    }

    /// See [`FlowEntry::hardware_addresses`].
    #[inline(always)]
    pub fn hardware_addresses(&self) -> HardwareAddresses {
        // SAFETY: a live entry.
        unsafe { hardware_addresses(self.as_ptr()) }
    }

    /// Makes it the entry of a new connection, which rewrites packets as the one before did.
    #[inline(always)]
    pub fn renew(&self, entry: &FlowEntry<A>) {
        self.set_next_hop(entry.next_hop());
        self.set_last_seen(entry.last_seen);
        self.set_state(entry.state);
    }

    /// Stores where the packet goes next.
    #[inline(always)]
    pub fn set_next_hop(&self, next_hop: NextHop) {
        self.set_ifindex(next_hop.ifindex);
        self.set_mtu(next_hop.mtu);
        self.set_dst_mac(next_hop.dst_mac);
        self.set_src_mac(next_hop.src_mac);
        self.set_delivery(next_hop.delivery);
    }
}

impl Live<AffinityEntry> {
    live_fields! {
        AffinityEntry:
        endpoint set_endpoint: u32,
        last_seen set_last_seen: u32,
    }
}

/// Never changes while the entry lives, so plain loads do.
macro_rules! translation {
    ($($get:ident: $type:ty),+ $(,)?) => {
        impl<A: Address> Translation<A> for Live<FlowEntry<A>> { $(
            #[inline(always)]
            fn $get(&self) -> $type {
                // SAFETY: the pointer is to a live entry, and this field is written only before it is in a table.
                unsafe { (*self.as_ptr()).$get }
            }
        )+ }

        impl<A: Address> Translation<A> for FlowEntry<A> { $(
            #[inline(always)]
            fn $get(&self) -> $type {
                self.$get
            }
        )+ }
    };
}

translation! { src: A, dst: A, src_port: u16, dst_port: u16, address_delta: u16, port_delta: u16 }

/// See [`FlowEntry::hardware_addresses`].
///
/// # Safety
///
/// The pointer is to an entry.
#[inline(always)]
unsafe fn hardware_addresses<A>(entry: *const FlowEntry<A>) -> HardwareAddresses {
    const {
        let dst = offset_of!(FlowEntry<A>, dst_mac);
        assert!(dst.is_multiple_of(align_of::<u32>()) && offset_of!(FlowEntry<A>, src_mac) == dst + 6);
    }
    // SAFETY: twelve bytes of the entry, one address after the other, and aligned to words as asserted.
    unsafe {
        let words = (&raw const (*entry).dst_mac).cast::<u32>();
        [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
        ]
    }
}

/// The entry of the other direction, derived from this one.
#[inline(always)]
pub fn reverse_entry<A: Address>(
    key: &FlowKey<A>,
    entry: &impl Translation<A>,
    state: FlowState,
    now: u32,
) -> FlowEntry<A> {
    FlowEntry {
        src: key.dst,
        dst: key.src,
        src_port: key.dst_port,
        dst_port: key.src_port,
        address_delta: checksum::inverse(entry.address_delta()),
        port_delta: checksum::inverse(entry.port_delta()),
        ifindex: 0,
        last_seen: now,
        mtu: 0,
        state,
        delivery: Delivery::ROUTING,
        dst_mac: [0; 6],
        src_mac: [0; 6],
    }
}

impl<A: Address> FlowEntry<A> {
    /// Makes it the entry that turns `key`'s packets into packets from `src` to `dst`; its next hop is found when the
    /// first of them comes. In place, for the sake of the kernel's stack.
    #[inline(always)]
    pub fn fill(&mut self, key: &FlowKey<A>, src: (A, u16), dst: (A, u16), state: FlowState, now: u32) {
        let ports = |a: u16, b: u16| u32::from(a.to_be()) + u32::from(b.to_be());
        (self.src, self.src_port) = src;
        (self.dst, self.dst_port) = dst;
        self.address_delta = checksum::delta(key.src.sum() + key.dst.sum(), src.0.sum() + dst.0.sum());
        self.port_delta = checksum::delta(ports(key.src_port, key.dst_port), ports(src.1, dst.1));
        self.last_seen = now;
        self.state = state;
        self.set_next_hop(NextHop::ROUTING);
    }

    #[inline(always)]
    const fn next_hop(&self) -> NextHop {
        NextHop {
            delivery: self.delivery,
            ifindex: self.ifindex,
            mtu: self.mtu,
            dst_mac: self.dst_mac,
            src_mac: self.src_mac,
        }
    }

    #[inline(always)]
    fn set_next_hop(&mut self, next_hop: NextHop) {
        self.ifindex = next_hop.ifindex;
        self.mtu = next_hop.mtu;
        self.delivery = next_hop.delivery;
        self.dst_mac = next_hop.dst_mac;
        self.src_mac = next_hop.src_mac;
    }

    /// The hardware addresses, as they lead a frame. In words: of bytes LLVM makes a load and a store each.
    #[inline(always)]
    pub fn hardware_addresses(&self) -> HardwareAddresses {
        // SAFETY: an entry.
        unsafe { hardware_addresses(self) }
    }

    /// Turns the entry into that of the other direction, in place.
    #[inline(always)]
    pub fn reverse(&mut self, key: &FlowKey<A>, next_hop: NextHop, state: FlowState) {
        self.src = key.dst;
        self.dst = key.src;
        self.src_port = key.dst_port;
        self.dst_port = key.src_port;
        self.address_delta = checksum::inverse(self.address_delta);
        self.port_delta = checksum::inverse(self.port_delta);
        self.state = state;
        self.set_next_hop(next_hop);
    }

    /// An entry of which nothing is known yet.
    pub const fn blank(address: A) -> Self {
        Self {
            src: address,
            dst: address,
            src_port: 0,
            dst_port: 0,
            address_delta: 0,
            port_delta: 0,
            ifindex: 0,
            last_seen: 0,
            mtu: 0,
            state: FlowState::AWAIT_REPLY,
            delivery: Delivery::ROUTING,
            dst_mac: [0; 6],
            src_mac: [0; 6],
        }
    }
}
