//! What the kernel knows of a rewritten packet: the next hop, from its routing and neighbour tables, and whether one of
//! this node's own sockets is meant. Asked once per connection and second, never per packet; where routes depend on
//! nothing but the destination, once per destination and second.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_fib_lookup as FibParams,
    btf_maps::PerCpuArray,
    helpers::{bpf_fib_lookup, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release},
    macros::btf_map,
};
use svcproxy_common::{
    Route, SocketTuple,
    abi::{Address, Delivery, Protocol, RpFilter, V4Addr, V6Addr},
    flow::NextHop,
    known,
    verifier::barrier,
};

use crate::{
    clock,
    maps::{INTERFACE_ADDRESSES, INTERFACES},
};

/// A question to the kernel's routing, in words: on the stack there is no room for it.
#[btf_map(name = "fib_params")]
static PARAMS: PerCpuArray<[u32; size_of::<FibParams>() / size_of::<u32>()], 1> = PerCpuArray::new();

/// `BPF_F_CURRENT_NETNS`: the namespace of the interface.
const CURRENT_NETNS: u64 = u64::MAX;

/// Answers that this processor remembers; a power of two.
const ANSWERS_MAX: u32 = 1_024;

/// What the kernel has answered, by a hash of the destination: another destination takes the place of an earlier one.
/// Behind them one place for an answer that must not be remembered.
#[btf_map(name = "fib_answers")]
static ANSWERS: PerCpuArray<Answer, { ANSWERS_MAX as usize + 1 }> = PerCpuArray::new();

/// `BPF_FIB_LOOKUP_SRC` (Linux 6.7): answer with the source address.
const SRC: u32 = 1 << 4;

/// What the kernel says of the way to a destination.
#[repr(C)]
pub(crate) struct Answer {
    /// The question: destination, interface that the packet came in by, address family, whether the source was asked for.
    dst: [u32; 4],
    ingress_ifindex: u32,
    family: u8,
    asks_source: bool,
    /// When it was answered, in seconds of CLOCK_MONOTONIC; the answer holds in that second. 0 for one to forget.
    second: u32,
    /// See [`Route::here`].
    here: bool,
    /// Whether there is a way. Else all that follows is [`NextHop::ROUTING`].
    found: bool,
    delivery: Delivery,
    mtu: u16,
    ifindex: u32,
    /// In a question, the packet's source if it has one already.
    source: [u32; 4],
    dst_mac: [u8; 6],
    src_mac: [u8; 6],
}

impl Answer {
    /// This processor's own place for the answer about a destination, or for one to forget.
    #[inline(always)]
    fn place<A: Address>(dst: &A, remember: bool) -> Option<&'static mut Self> {
        let hash = known::hash(dst) / (u32::MAX / ANSWERS_MAX + 1);
        let place = ANSWERS.get_ptr_mut(if remember { hash } else { ANSWERS_MAX });
        // SAFETY: this CPU's own; programs of these types do not nest on one CPU.
        place.map(|place| unsafe { &mut *barrier(place) })
    }

    /// Whether it was given to this question in this second.
    #[inline(always)]
    fn is_about<A: Address>(&self, ifindex: u32, asks_source: bool, [a, b, c, d]: [u32; 4], now: u32) -> bool {
        // One comparison: the verifier follows each into all that comes after.
        let difference = (self.second ^ now)
            | (self.ingress_ifindex ^ ifindex)
            | u32::from(self.family ^ A::AF)
            | u32::from(self.asks_source ^ asks_source)
            | (self.dst[0] ^ a)
            | (self.dst[1] ^ b)
            | (self.dst[2] ^ c)
            | (self.dst[3] ^ d);
        difference == 0
    }

    /// What it says.
    #[inline(always)]
    fn route<A: Address>(&self, src: A) -> Route<A> {
        let source = if !self.found {
            A::UNSPECIFIED
        } else if src == A::UNSPECIFIED {
            A::from_fib(self.source)
        } else {
            src
        };
        Route {
            next_hop: NextHop {
                delivery: self.delivery,
                ifindex: self.ifindex,
                mtu: self.mtu,
                dst_mac: self.dst_mac,
                src_mac: self.src_mac,
            },
            source,
            here: self.here,
        }
    }
}

/// The route from `src`, or this node's own address if that is unspecified, to `dst` for a packet that came in by `ifindex`. See
/// [`Packet::route`](svcproxy_common::Packet::route). `ask` is [`ask`], with the context of the running program.
#[inline(always)]
pub(crate) fn route<A: Address>(
    ifindex: u32,
    src: A,
    dst: A,
    by_destination: bool,
    ask: impl FnOnce(&mut Answer),
) -> Route<A> {
    let by_destination = by_destination && !src.is_confined();
    let Some(answer) = Answer::place(&dst, by_destination) else {
        return Route {
            next_hop: NextHop::ROUTING,
            source: A::UNSPECIFIED,
            here: false,
        };
    };
    let asks_source = src == A::UNSPECIFIED;
    let now = clock::now();
    // The kernel takes as long as for an insert into a table, and many connections are to few endpoints.
    if !by_destination || !answer.is_about::<A>(ifindex, asks_source, dst.fib(), now) {
        answer.second = if by_destination { now } else { 0 };
        (answer.dst, answer.ingress_ifindex) = (dst.fib(), ifindex);
        (answer.family, answer.asks_source) = (A::AF, asks_source);
        answer.source = src.fib();
        ask(answer);
    }
    answer.route(src)
}

/// Has the kernel answer the question that stands in `answer`.
///
/// # Safety
///
/// `ctx` is the context of the running XDP or tc program.
#[inline(always)]
pub(crate) unsafe fn ask(ctx: *mut c_void, answer: &mut Answer) {
    /// `-EINVAL`: this kernel does not know the flag, and has looked at nothing.
    const INVALID: i64 = -22;
    const SUCCESS: i64 = 0;
    const NOT_FORWARDED: i64 = 4;
    const NO_NEIGHBOUR: i64 = 7;

    (answer.here, answer.found) = (false, false);
    (answer.delivery, answer.ifindex, answer.mtu) = (Delivery::ROUTING, 0, 0);
    (answer.dst_mac, answer.src_mac) = ([0; 6], [0; 6]);
    let Some(params) = PARAMS.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own slot, of the same size and alignment; programs of these types do not nest on one CPU.
    let params = unsafe { &mut *barrier(params).cast::<FibParams>() };
    // SAFETY: a plain C struct of integers; zero is what the kernel asks of its unused fields.
    *params = unsafe { core::mem::zeroed() };
    params.family = answer.family;
    params.ifindex = answer.ingress_ifindex;
    // One byte fits everywhere; a length makes the kernel answer with the MTU of the route in its place (Linux 5.12).
    params.__bindgen_anon_1.tot_len = 1;
    params.__bindgen_anon_4.ipv6_dst = answer.dst;
    let mut flags = SRC;
    if !answer.asks_source {
        params.__bindgen_anon_3.ipv6_src = answer.source;
        flags = 0;
    }
    // SAFETY: `ctx` by this function's contract; `params` is of the size given.
    let mut found = unsafe { bpf_fib_lookup(ctx, params, size_of::<FibParams>() as i32, flags) };
    let unknown_flag = found == INVALID && answer.asks_source;
    if unknown_flag {
        // SAFETY: as above.
        found = unsafe { bpf_fib_lookup(ctx, params, size_of::<FibParams>() as i32, 0) };
    }
    if found != SUCCESS && found != NO_NEIGHBOUR {
        answer.here = found == NOT_FORWARDED;
        return;
    }
    answer.found = true;
    answer.ifindex = params.ifindex;
    (answer.dst_mac, answer.src_mac) = (params.dmac, params.smac);
    // SAFETY: ours, or written by the kernel before it looks for the neighbour.
    answer.source = unsafe { params.__bindgen_anon_3.ipv6_src };
    if unknown_flag {
        answer.source = address_of(answer.ifindex, answer.family);
    }
    // Not known before the neighbour is.
    (answer.delivery, answer.mtu) = (Delivery::NEIGHBOUR, u16::MAX);
    if found == SUCCESS {
        answer.delivery = Delivery::LINK;
        // SAFETY: the kernel has written the MTU over the length.
        answer.mtu = unsafe { params.__bindgen_anon_1.mtu_result };
        // SAFETY: read once, before any change to the map by this program.
        if let Some(interface) = unsafe { INTERFACES.get(params.ifindex) } {
            answer.delivery = interface.delivery;
        }
    }
}

/// Asks with [`SRC`] and without an address family, which finds nothing: `-EINVAL` when the kernel does not know the flag.
///
/// # Safety
///
/// `ctx` is the context of the running XDP or tc program.
#[inline(always)]
pub(crate) unsafe fn try_source(ctx: *mut c_void) -> i64 {
    let Some(params) = PARAMS.get_ptr_mut(0) else {
        return 0;
    };
    let params = barrier(params).cast::<FibParams>();
    // SAFETY: as in `ask`.
    unsafe {
        params.write(core::mem::zeroed());
        bpf_fib_lookup(ctx, params, size_of::<FibParams>() as i32, SRC)
    }
}

/// The address of an interface, in words; zeros when it has none.
#[inline(always)]
fn address_of(ifindex: u32, family: u8) -> [u32; 4] {
    // SAFETY: copied at once; the daemon replaces values whole.
    let addresses = unsafe { INTERFACE_ADDRESSES.get(ifindex) }.copied().unwrap_or_default();
    match family == V4Addr::AF {
        true => V4Addr { octets: addresses.v4 }.fib(),
        false => V6Addr { octets: addresses.v6 }.fib(),
    }
}

/// Which sources an interface accepts.
#[inline(always)]
pub(crate) fn rp_filter(ifindex: u32) -> RpFilter {
    // SAFETY: read once, before any change to the map by this program.
    match unsafe { INTERFACES.get(ifindex) } {
        Some(interface) => interface.rp_filter,
        None => RpFilter::OFF,
    }
}

/// Whether a connected socket of this network namespace gets such packets.
///
/// # Safety
///
/// `ctx` is the context of the running XDP or tc program.
#[inline(always)]
pub(crate) unsafe fn has_socket<A: Address>(ctx: *mut c_void, tuple: &mut SocketTuple<A>, protocol: Protocol) -> bool {
    const LISTEN: u32 = 10; // BPF_TCP_LISTEN
    const CLOSE: u32 = 7; // BPF_TCP_CLOSE: UDP, not connected

    let size = (2 * size_of::<A>() + 2 * size_of::<u16>()) as u32;
    let tuple: *mut SocketTuple<A> = tuple;
    // SAFETY: `ctx` by this function's contract; the tuple has the size given, which tells the kernel the family.
    let socket = unsafe {
        match protocol {
            Protocol::TCP => bpf_sk_lookup_tcp(ctx, tuple.cast(), size, CURRENT_NETNS, 0),
            Protocol::UDP => bpf_sk_lookup_udp(ctx, tuple.cast(), size, CURRENT_NETNS, 0),
            _ => return false,
        }
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: the kernel's socket, which is held until it is released.
    let state = unsafe { (*socket).state };
    // SAFETY: as above; not used after that.
    unsafe { bpf_sk_release(socket.cast()) };
    state != LISTEN && state != CLOSE
}
