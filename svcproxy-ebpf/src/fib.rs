//! What the kernel knows of a rewritten packet: the next hop, from its routing and neighbour tables, and whether one of
//! this node's own sockets is meant. Asked once per connection and second, never per packet.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_fib_lookup as FibParams,
    btf_maps::PerCpuArray,
    helpers::{bpf_fib_lookup, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release},
    macros::btf_map,
};
use svcproxy_common::{
    Route, SocketTuple,
    abi::{Address, Delivery, Protocol},
    flow::NextHop,
};

use crate::maps::INTERFACES;

/// A question to the kernel's routing, in words: on the stack there is no room for it.
#[btf_map(name = "fib_params")]
static PARAMS: PerCpuArray<[u32; size_of::<FibParams>() / size_of::<u32>()], 1> = PerCpuArray::new();

/// `BPF_F_CURRENT_NETNS`: the namespace of the interface.
const CURRENT_NETNS: u64 = u64::MAX;

/// The route from `src`, or this node's own address, to `dst` for a packet that came in by `ifindex`.
///
/// # Safety
///
/// `ctx` is the context of the running XDP or tc program.
#[inline(always)]
pub(crate) unsafe fn route<A: Address>(ctx: *mut c_void, ifindex: u32, src: Option<A>, dst: A) -> Route<A> {
    /// `BPF_FIB_LOOKUP_SRC` (Linux 6.7): answer with the source address.
    const SRC: u32 = 1 << 4;
    const SUCCESS: i64 = 0;
    const NOT_FORWARDED: i64 = 4;
    const NO_NEIGHBOUR: i64 = 7;

    let Some(params) = PARAMS.get_ptr_mut(0) else {
        return Route {
            next_hop: NextHop::ROUTING,
            source: None,
            here: false,
        };
    };
    // SAFETY: this CPU's own slot, of the same size and alignment; programs of these types do not nest on one CPU.
    let params = unsafe { &mut *params.cast::<FibParams>() };
    // SAFETY: a plain C struct of integers; zero is what the kernel asks of its unused fields.
    *params = unsafe { core::mem::zeroed() };
    params.family = A::AF;
    params.ifindex = ifindex;
    // One byte fits everywhere; a length makes the kernel answer with the MTU of the route in its place (Linux 5.12).
    params.__bindgen_anon_1.tot_len = 1;
    params.__bindgen_anon_4.ipv6_dst = dst.fib();
    let mut flags = SRC;
    if let Some(src) = src {
        params.__bindgen_anon_3.ipv6_src = src.fib();
        flags = 0;
    }
    // SAFETY: `ctx` by this function's contract; `params` is on our stack and of the size given.
    let found = unsafe { bpf_fib_lookup(ctx, params, size_of::<FibParams>() as i32, flags) };
    if found != SUCCESS && found != NO_NEIGHBOUR {
        return Route {
            next_hop: NextHop::ROUTING,
            source: None,
            here: found == NOT_FORWARDED,
        };
    }
    // SAFETY: ours, or written by the kernel before it looks for the neighbour.
    let source = Some(A::from_fib(unsafe { params.__bindgen_anon_3.ipv6_src }));
    let mut next_hop = NextHop {
        delivery: Delivery::NEIGHBOUR,
        ifindex: params.ifindex,
        // Not known before the neighbour is.
        mtu: u16::MAX,
        dst_mac: params.dmac,
        src_mac: params.smac,
    };
    if found == SUCCESS {
        // SAFETY: the kernel has written the MTU over the length.
        next_hop.mtu = unsafe { params.__bindgen_anon_1.mtu_result };
        // SAFETY: read once, before any change to the map by this program.
        if let Some(interface) = unsafe { INTERFACES.get(params.ifindex) } {
            next_hop.delivery = interface.delivery;
        }
    }
    Route {
        next_hop,
        source,
        here: false,
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
